"""Where samples enter: a float graph takes them as they are, integers round them to their LSB and limit them to their range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from snncompile.ir import reference
from snncompile.ir.graph import Array
from snncompile.ir.integer import IntInput
from snncompile.ir.linear_ops import Input
from snncompile.verify.dynamics import TIE
from snncompile.verify.explain import Cause, Explanation
from snncompile.verify.hypotheses import number, same
from snncompile.verify.judge import Judged

Entry = tuple[Array, Input | IntInput]
"""Samples (N, T | 1, *shape), and the node that takes them in."""
Repair = tuple[str, str, Callable[[Array], Array]]


def taken_in(entry: Entry) -> Array:
    """The real values that the network sees, (N, T | 1, *shape)."""
    x, op = entry
    if isinstance(op, Input):
        return np.asarray(x, dtype=np.float64)
    return np.asarray(reference.quantise_input(op, x) * op.lsb + op.offset)


def compare_input(one: Entry, two: Entry) -> Judged:
    """What two networks see of the same samples."""
    return _judge(taken_in(one), taken_in(two))


def _judge(a: Array, b: Array) -> Judged:
    apart = np.abs(a - b) > TIE * max(float(np.abs(a).max(initial=0)), float(np.abs(b).max(initial=0)), 1e-30)
    return Judged(apart=apart, ties=np.zeros_like(apart))


def explain_input(one: Entry, two: Entry) -> Explanation:
    """Why what they see differs; ``two`` is repaired towards ``one``, unless ``one`` alone takes samples as they are."""
    if isinstance(one[1], Input):
        one, two = two, one
    wanted = taken_in(one)
    events = _judge(wanted, taken_in(two)).events
    repairs = list(_repairs(one, two))
    left = [_judge(wanted, repair(two[0])).events for _, _, repair in repairs]
    alone = next((k for k, n in enumerate(left) if n == 0), None)
    chosen = set(range(len(repairs))) if alone is None else {alone}
    return Explanation(
        events=events, left=0 if repairs else events,
        causes=tuple(
            Cause(cause=cause, detail=detail, explains=max(0, events - n), events=events, confirmed=k in chosen)
            for k, ((cause, detail, _), n) in enumerate(zip(repairs, left, strict=True))
        ),
    )  # fmt: skip


def _repairs(one: Entry, two: Entry) -> list[Repair]:
    a, b = one[1], two[1]
    assert isinstance(a, IntInput)
    if isinstance(b, IntInput):
        found: list[Repair] = []
        for cause, fields in (("input scaling", ("lsb", "offset")), ("saturation", ("low", "high"))):
            if not all(same(getattr(a, f), getattr(b, f)) for f in fields):
                op = replace(b, **{f: getattr(a, f) for f in fields})
                text = f"{' and '.join(fields)} of the input's payload differ"
                found.append((cause, text, lambda x, op=op: taken_in((x, op))))  # type: ignore[misc]
        return found
    low, high = a.low * a.lsb + a.offset, a.high * a.lsb + a.offset
    limits = f"{number(float(np.min(low)))} and {number(float(np.max(high)))}"
    return [
        ("saturation", f"samples end at {limits}", lambda x: np.asarray(np.clip(x, low, high))),
        (
            "payload rounding", f"samples are rounded to multiples of {number(float(np.max(a.lsb)))}",
            lambda x: np.asarray(np.rint((x - a.offset) / a.lsb) * a.lsb + a.offset),
        ),
    ]  # fmt: skip


__all__ = ["Entry", "compare_input", "explain_input", "taken_in"]

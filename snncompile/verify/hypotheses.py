"""Why two runs of a population may differ, as repairs: each gives one side one property of the other.

A hypothesis is not argued but executed: the repaired population runs again on the same inputs, and what still differs is counted.
Repairs of one thing come before repairs that contain it, so that the search names the smallest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from snncompile.ir.graph import Array
from snncompile.ir.integer import IntNeuron
from snncompile.ir.neuron import Fire, Neuron
from snncompile.verify.replay import Response

ALIKE, FLAT = 0.98, 0.05
"""Currents are those of rounded weights if their cosine is at least this and their sizes differ by less than this share."""
ROUNDED = 2.0**-6
"""Leaks, thresholds and biases that differ by less than this share are put down to rounding."""
WHOLE_RUN = slice(None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Hypothesis:
    """A cause, what exactly was found to differ, and its repair; ``steps`` are those that the repair can speak about."""

    cause: str
    detail: str
    repair: Callable[[Response], Response]
    steps: slice = WHOLE_RUN


def borrowed(mine: Response, other: Response, *, whole: IntNeuron | None = None) -> Iterator[Hypothesis]:
    """What of ``other``'s model, given to ``mine``, may explain the difference: whatever the two models do not share.

    whole  the integers that ``other`` stands for, if ``mine`` is a float population
    """
    yield from _timing(mine, other)
    yield from _scaling(mine, other)
    yield from _bias(mine, other)
    yield from _comparison(mine, other, whole)
    yield from _fields(mine, other, whole)
    yield from _payload(mine, other)
    yield from _weights(mine, other)


def _timing(mine: Response, other: Response) -> Iterator[Hypothesis]:
    if mine.linear.keys() != other.linear.keys():
        return
    labels = [(label,) for label in mine.linear]
    for chosen in [*labels, *([tuple(mine.linear)] if len(labels) > 1 else [])]:
        if all(not np.any(mine.linear[k]) or np.array_equal(mine.linear[k], other.linear[k]) for k in chosen):
            continue
        what = " and ".join(f"'{k}'" for k in chosen)
        if _follows(mine, other, chosen, 1):
            yield Hypothesis(cause="hop misalignment", detail=f"{what} arrives one step later in it", repair=shifted(chosen, 1))
        if _follows(mine, other, chosen, -1):
            tails = {k: other.linear[k][:, -1:] for k in chosen}
            yield Hypothesis(cause="hop misalignment", detail=f"{what} arrives one step earlier in it", repair=shifted(chosen, -1, tails))


def _follows(mine: Response, other: Response, labels: tuple[str, ...], by: int) -> bool:
    """Whether the currents look more like the other's a step later (or earlier): a single flipped spike would not tell it from rounding."""
    moved = shifted(labels, by)(mine)
    steps = WHOLE_RUN if by > 0 else slice(None, -1)  # what would follow an early run's last step is not known
    return all(
        fit(moved.linear[k][:, steps], other.linear[k][:, steps])[1] > fit(mine.linear[k][:, steps], other.linear[k][:, steps])[1]
        for k in labels
    )


def shifted(labels: tuple[str, ...], by: int, tails: Mapping[str, Array] | None = None) -> Callable[[Response], Response]:
    """Let currents come a step later, or a step earlier with ``tails`` (zeros if not known) as their last step."""

    def repair(r: Response) -> Response:
        linear = dict(r.linear)
        for k in labels:
            edge = np.zeros_like(linear[k][:, :1]) if by > 0 or tails is None else tails[k]
            parts = (edge, linear[k][:, :-1]) if by > 0 else (linear[k][:, 1:], edge)
            linear[k] = np.concatenate(parts, axis=1)
        return replace(r, linear=linear)

    return repair


def fit(mine: Array, other: Array) -> tuple[float, float]:
    """The factor that brings ``mine`` closest to ``other``, and the cosine between them."""
    a, b = mine.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    aa, bb, ab = float(a @ a), float(b @ b), float(a @ b)
    return (ab / aa, ab / float(np.sqrt(aa * bb))) if aa and bb else (1.0, 1.0 if aa == bb else 0.0)


def _scaling(mine: Response, other: Response) -> Iterator[Hypothesis]:
    if mine.linear.keys() != other.linear.keys():
        return
    for k in mine.linear:
        factor, cosine = fit(mine.linear[k], other.linear[k])
        if cosine >= ALIKE and abs(factor - 1) >= FLAT:
            yield Hypothesis(cause="input scaling", detail=f"'{k}' counts {number(factor)} times as much in it", repair=scaled(k, factor))


def scaled(label: str, factor: float) -> Callable[[Response], Response]:
    """Multiply a source's current; integers stay integers."""

    def repair(r: Response) -> Response:
        current = r.linear[label] * factor
        if isinstance(r.neuron, IntNeuron):
            current = np.rint(current).astype(np.int64)
        return replace(r, linear={**r.linear, label: current})

    return repair


def _bias(mine: Response, other: Response) -> Iterator[Hypothesis]:
    (a, b) = (np.broadcast_arrays(r.offset, np.asarray(0)) for r in (mine, other))
    ours, theirs = a[0], b[0]
    if np.array_equal(ours, theirs) and same(mine.neuron.bias, other.neuron.bias):
        return
    totals = [bool(np.any(r.offset) or np.any(r.neuron.bias)) for r in (mine, other)]
    size = max(float(np.abs(theirs).max(initial=0)), float(np.abs(other.neuron.bias).max(initial=0)), 1e-30)
    off = max(float(np.abs(ours - theirs).max(initial=0)), difference(mine.neuron.bias, other.neuron.bias))
    if not all(totals):
        cause, detail = "missing bias", f"one side alone has a bias, up to {number(off)}"
    else:
        cause = "bias rounding" if off <= ROUNDED * size else "different bias"
        detail = f"biases differ by up to {number(off)}, the largest is {number(size)}"

    def repair(r: Response) -> Response:
        return replace(r, offset=other.offset, neuron=replace(r.neuron, bias=other.neuron.bias))

    yield Hypothesis(cause=cause, detail=detail, repair=repair)


def _comparison(mine: Response, other: Response, whole: IntNeuron | None) -> Iterator[Hypothesis]:
    a, b = mine.neuron, other.neuron
    if isinstance(a, Neuron) and isinstance(b, Neuron):
        if not (a.spiking and b.spiking) or whole is not None:
            return
        if a.fire is not b.fire:
            yield _take(other, ("fire",), "`>` against `>=`", f"it fires at {_sign(b)} the threshold, the other side at {_sign(a)}")
    elif isinstance(a, IntNeuron) and isinstance(b, IntNeuron) and a.fire == b.fire == "step":
        apart = np.subtract(*np.broadcast_arrays(b.threshold, a.threshold))
        if np.all(np.abs(apart) == 1) and np.all(apart == apart.flat[0]):
            yield _take(other, ("threshold",), "`>` against `>=`", f"all thresholds differ by one LSB ({number(float(apart.flat[0]))})")


def _sign(n: Neuron) -> str:
    return ">" if n.fire is Fire.STEP_GT else ">="


def _fields(mine: Response, other: Response, whole: IntNeuron | None) -> Iterator[Hypothesis]:
    a, b = mine.neuron, other.neuron
    if type(a) is not type(b):
        return
    bits = 2.0**b.decay_bits if isinstance(b, IntNeuron) else 1.0
    if not same(a.leak, b.leak):
        off = difference(a.leak, b.leak) / bits
        yield _take(other, ("leak",), "leak rounding" if off <= ROUNDED else "different leak", f"leaks differ by up to {number(off)}")
    if not same(a.alpha, b.alpha) or a.late_current != b.late_current:
        yield _take(other, ("alpha", "late_current"), "synaptic current", "its decay, or the order of its use, differs")
    yield from _threshold(mine, other, whole)
    resets = ("reset", "reset_amount", "reset_value", "reset_keep", "adapt_reset")
    if not all(same(getattr(a, f), getattr(b, f)) for f in resets):
        if a.reset is not b.reset:
            yield _take(other, resets, "reset kind", f"it resets by '{b.reset.value}', the other side by '{a.reset.value}'")
        else:
            off = max(difference(getattr(a, f), getattr(b, f)) for f in ("reset_amount", "reset_value"))
            size = max(float(np.abs(getattr(b, f)).max(initial=0)) for f in ("reset_amount", "reset_value"))
            cause = "reset rounding" if off <= ROUNDED * size else "reset amount"
            yield _take(other, resets, cause, f"what the reset subtracts or sets differs by up to {number(off)}")
    for fields, cause, detail in (
        (("v_min",), "lower bound", "the lower bounds of the membrane differ"),
        (("v_init",), "initial membrane", "the membranes start at different values"),
        (("max_spikes",), "several spikes in a step", f"it sends up to {b.max_spikes}, the other side {a.max_spikes}"),
        (("adapt_decay", "adapt_jump"), "adaptive threshold", "the thresholds adapt differently"),
        (("gain", "gain_shift") if isinstance(a, IntNeuron) else ("gain",), "gain rounding", "the factors of the input differ"),
    ):
        if not all(same(getattr(a, f), getattr(b, f)) for f in fields):
            yield _take(other, fields, cause, detail)


def _threshold(mine: Response, other: Response, whole: IntNeuron | None) -> Iterator[Hypothesis]:
    a, b = mine.neuron, other.neuron
    field = "theta" if isinstance(a, Neuron) else "threshold"
    ours, theirs = np.broadcast_arrays(getattr(a, field), getattr(b, field))
    fields: tuple[str, ...] = (field,) if isinstance(a, Neuron) else (field, "spike_step")
    if isinstance(a, Neuron) and isinstance(b, Neuron) and whole is not None and a.spiking and b.spiking and a.fire is b.fire:
        lsb = np.asarray(whole.v_scale) if b.theta.ndim > 1 else np.asarray(whole.v_scale).reshape(-1)[:1]
        apart, whole_steps = (b.theta - a.theta) / lsb, a.theta / lsb
        on_grid = np.allclose(whole_steps, np.rint(whole_steps), rtol=1e-9)
        if on_grid and np.allclose(apart, -1 if a.fire is Fire.STEP_GT else 1, atol=1e-6):
            signs = (">=", ">") if a.fire is Fire.STEP_GT else (">", ">=")
            text = f"its thresholds are one LSB off: it fires at {signs[0]}, the other side at {signs[1]}"
            yield _take(other, fields, "`>` against `>=`", text)
            return
    if all(same(getattr(a, f), getattr(b, f)) for f in fields):
        return
    off, size = difference(ours, theirs), max(float(np.abs(theirs).max(initial=0)), 1e-30)
    cause = "threshold rounding" if off <= ROUNDED * size else "different threshold"
    yield _take(other, fields, cause, f"thresholds differ by up to {number(off)}, the largest is {number(size)}")


def _payload(mine: Response, other: Response) -> Iterator[Hypothesis]:
    a, b = mine.neuron, other.neuron
    if isinstance(a, IntNeuron):
        for fields, cause in ((("multiplier", "shift"), "payload rounding"), (("payload_min", "payload_max"), "saturation")):
            if not all(same(getattr(a, f), getattr(b, f)) for f in fields):
                yield _take(other, fields, cause, f"{' and '.join(fields)} of its graded payload differ")
        return
    if other.ceiling is not None and mine.ceiling != other.ceiling:
        text = f"its payloads end at {number(other.ceiling[0])} and {number(other.ceiling[1])}"
        yield Hypothesis(cause="saturation", detail=text, repair=lambda r: replace(r, ceiling=other.ceiling))
    if other.grid and mine.grid != other.grid:
        text = f"its payloads are multiples of {number(other.grid)}"
        yield Hypothesis(cause="payload rounding", detail=text, repair=lambda r: replace(r, grid=other.grid))
    assert isinstance(b, Neuron)
    if a.grid != b.grid and b.grid:
        yield _take(other, ("grid",), "payload rounding", f"its payloads are multiples of {number(b.grid)}", levels=a.levels or 2**53)
    if a.levels != b.levels:
        text = f"its payloads end at {number(b.grid * b.levels)}" if b.levels else "its payloads have no end"
        yield Hypothesis(cause="saturation", detail=text, repair=lambda r: _up_to(r, b.grid * b.levels))


def _up_to(r: Response, limit: float) -> Response:
    """Payloads end at a limit, or nowhere if it is 0."""
    n = r.neuron
    assert isinstance(n, Neuron)
    if n.grid:
        return replace(r, neuron=replace(n, levels=round(limit / n.grid) if limit else 2**53))
    return replace(r, ceiling=(0.0, limit)) if limit else r


def _weights(mine: Response, other: Response) -> Iterator[Hypothesis]:
    ours, theirs = (sum(r.linear.values(), start=np.zeros_like(r.offset)) for r in (mine, other))
    if np.array_equal(ours, theirs):
        return
    factor, cosine = fit(ours, theirs)
    size = max(float(np.sqrt(np.mean(theirs.astype(np.float64) ** 2))), 1e-30)
    off = float(np.sqrt(np.mean((ours - theirs).astype(np.float64) ** 2))) / size
    cause = "weight rounding" if cosine >= ALIKE and abs(factor - 1) < FLAT else "different weights"
    detail = f"the currents of the same inputs differ by {off:.2g} of their size (root mean square)"
    yield Hypothesis(cause=cause, detail=detail, repair=lambda r: replace(r, linear=other.linear))


def _take(other: Response, fields: tuple[str, ...], cause: str, detail: str, **more: Any) -> Hypothesis:
    """Give fields of the other's neuron."""
    values = {f: getattr(other.neuron, f) for f in fields} | more
    return Hypothesis(cause=cause, detail=detail, repair=lambda r: replace(r, neuron=replace(r.neuron, **values)))


def same(a: Any, b: Any) -> bool:
    """Whether two fields say the same, whatever their shapes."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        try:
            return bool(np.all(a == b))
        except ValueError:
            return False
    return bool(a is b) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else bool(a == b)


def difference(a: Array, b: Array) -> float:
    """The largest difference of two fields."""
    try:
        x, y = np.broadcast_arrays(a, b)
    except ValueError:
        return float("inf")
    return float(np.abs(x.astype(np.float64) - y.astype(np.float64)).max(initial=0))


def number(x: float) -> str:
    """A number for people: few digits, whole numbers as such."""
    return f"{x:.4g}" if abs(x) < 1e4 or abs(x) >= 1e9 else f"{x:.0f}"


__all__ = ["WHOLE_RUN", "Hypothesis", "borrowed", "difference", "fit", "number", "same", "scaled", "shifted"]

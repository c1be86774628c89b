"""Conventions: what NIR leaves open about a node, as named choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import isfinite
from typing import Any

UNLIMITED = 0


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """How a tool steps the differential equations of NIR. With n = tau / dt, a time constant in steps:

    dt           seconds a step; ``from-r`` solves r = tau * exp(-dt / tau) / dt for it
    tau_unit     seconds per unit of the file's time constants
    decay        leak = 1 - 1/n (euler) or exp(-1/n) (exponential)
    leak         ``file``, or the factor that takes the place of the file's
    input        the input's factor: (1 - leak) * r, and dt * r for I and IF (scaled), r (plain), or leak * r (decayed)
    syn_input    the factor of a Cuba node's synapse, likewise with w_in and tau_syn
    current      a Cuba node's membrane takes the synaptic current of this step (first) or of the step before (late)
    r            ``used``, or ``ignored``: taken for 1
    bias         added to the membrane at every step
    reset        to v_reset of the file (value), to 0 (zero), by subtraction of the threshold (subtract), or none
    reset_delay  whether the reset takes effect one step later, after the decay
    compare      a spike on v >= threshold (ge) or v > threshold (gt)
    max_spikes   how many spikes a neuron may send in a step; 0, ``unlimited``: as many as the membrane holds thresholds
    min_v        lower bound of the membrane after the reset: ``none``, a number, or ``-threshold``
    v_init       the membrane before the first step: ``zero``, ``v_leak`` or ``v_reset`` of the file, or a number
    feedback     a loop's step lies behind its neuron (spike), so that a bias in the loop acts from step 0, or on its last edge (edge)
    delay_unit   of Delay nodes: seconds or steps
    """

    dt: float | str = 1e-4
    tau_unit: float = 1.0
    decay: str = "euler"
    leak: float | str = "file"
    input: str = "scaled"
    syn_input: str = "scaled"
    current: str = "first"
    r: str = "used"
    bias: float = 0.0
    reset: str = "value"
    reset_delay: bool = False
    compare: str = "gt"
    max_spikes: int = 1
    min_v: float | str = "none"
    v_init: float | str = "zero"
    feedback: str = "edge"
    delay_unit: str = "seconds"


def _word(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"choose {' or '.join(words)}")
        return text

    return parse


def _real(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("write a number") from None
    if not isfinite(value):
        raise ValueError("write a finite number")
    return value


def _positive(text: str) -> float:
    value = _real(text)
    if value <= 0:
        raise ValueError("write a positive number")
    return value


def _or_word(parse: Callable[[str], Any], *words: str) -> Callable[[str], Any]:
    def either(text: str) -> Any:
        if text in words:
            return text
        try:
            return parse(text)
        except ValueError as e:
            raise ValueError(f"{e}, or {' or '.join(words)}") from None

    return either


def _truth(text: str) -> bool:
    return _word("yes", "no")(text) == "yes"


def _count(text: str) -> int:
    if text == "unlimited":
        return UNLIMITED
    if not text.isdigit() or not 1 <= int(text) <= 1 << 20:
        raise ValueError("write a whole number from 1, or unlimited")
    return int(text)


_INPUT = _word("scaled", "plain", "decayed")
PARSE: Mapping[str, Callable[[str], Any]] = {
    "dt": _or_word(_positive, "from-r"), "tau_unit": _positive, "decay": _word("euler", "exponential"), "leak": _or_word(_real, "file"),
    "input": _INPUT, "syn_input": _INPUT, "current": _word("first", "late"), "r": _word("used", "ignored"), "bias": _real,
    "reset": _word("value", "zero", "subtract", "none"), "reset_delay": _truth, "compare": _word("gt", "ge"), "max_spikes": _count,
    "min_v": _or_word(_real, "none", "-threshold"), "v_init": _or_word(_real, "zero", "v_leak", "v_reset"),
    "feedback": _word("spike", "edge"), "delay_unit": _word("seconds", "steps"),
}  # fmt: skip
KEYS = tuple(f.name for f in fields(Conventions))


def shown(key: str, value: Any) -> str:
    """A convention's value as the user writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key == "max_spikes" and value == UNLIMITED:
        return "unlimited"
    return f"{value:g}" if isinstance(value, float) else str(value)


__all__ = ["KEYS", "PARSE", "UNLIMITED", "Conventions", "shown"]

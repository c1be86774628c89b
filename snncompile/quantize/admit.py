"""Which neurons the integers can keep faithfully, and the form they take first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from snncompile.errors import Diagnostic
from snncompile.ir.graph import Array
from snncompile.ir.neuron import Fire, Neuron, Reset
from snncompile.numerics import half_even
from snncompile.target import Target


def normalise(n: Neuron) -> Neuron:
    """The same neuron with its reset in the form that integers keep: a clamp of spikes is a reset to the threshold.

        m - relu(m - theta) = min(m, theta)       a graded spike that is subtracted is EM-PF's clamp
        min(m, theta) where m >= theta            is theta, so a spike with a clamp is a reset to the value theta

    Source   EM-PF (arXiv 2410.07547), eq. (3)
    """
    if n.fire is Fire.RELU and n.reset is Reset.SUBTRACT and np.all(n.reset_amount == 1):
        return replace(n, reset=Reset.CLAMP)
    if n.fire is Fire.NONE and n.reset is Reset.SUBTRACT and np.all(n.reset_amount == 1):
        return replace(n, reset=Reset.STATELESS)
    if n.fire is Fire.NONE and n.reset is Reset.SUBTRACT and not np.any(n.reset_amount):
        return replace(n, reset=Reset.KEEP)
    if n.spiking and n.reset is Reset.CLAMP and n.adapt_jump is None:
        return replace(n, reset=Reset.SET, reset_value=n.theta)
    return n


def refusals(n: Neuron, target: Target) -> Iterator[Diagnostic]:
    """Everything about a neuron that the target cannot do faithfully."""
    for feature, what in _features(n).items():
        if feature not in target.features:
            known = f"{target.name} has no neuron program for it ({target.file}: rules.features)"
            yield Diagnostic("SNN304", f"'{n.name}' {what}", n.loc, (known,), "choose another target, or a neuron without it")
    if n.fire.value not in target.fire or n.reset.value not in target.reset:
        help_ = f"{target.name} fires by {', '.join(sorted(target.fire))} and resets by {', '.join(sorted(target.reset))}"
        yield Diagnostic("SNN305", f"'{n.name}' fires by {n.fire.value} and resets by {n.reset.value}", n.loc, (), help_)
    if n.fire is Fire.NONE and n.reset is Reset.SUBTRACT:
        yield Diagnostic("SNN308", f"'{n.name}' subtracts a fraction of its own membrane from it", n.loc, (), "express it as a leak")
    factors = {"current decay": n.alpha, "part kept at a reset": n.reset_keep, "decay of its threshold": n.adapt_decay}
    factors |= {} if n.reset is Reset.STATELESS else {"leak": n.leak}
    for label, value in factors.items():
        if value is not None and not target.decay.fits(decay_codes(value, target)):
            worst = float(value.reshape(-1)[np.abs(value).argmax()])
            limit = target.decay.high / 2**target.decay_fraction
            yield Diagnostic(
                "SNN303", f"'{n.name}': {label} {worst:g} lies outside -{limit:g}..{limit:g}", n.loc,
                (target.cite("formats.decay"),), "retrain with a smaller factor, or keep this layer on the host",
            )  # fmt: skip


def has_gain(n: Neuron) -> bool:
    """Whether the neuron multiplies its input."""
    return bool(np.any(n.gain != 1))


def _features(n: Neuron) -> dict[str, str]:
    """What a neuron needs beyond firing and resetting: the target's name for it, and the sentence."""
    needed = {
        "gain": (has_gain(n), "multiplies its input by a factor of each step"),
        "multi_spike": (n.max_spikes > 1, "sends several spikes in a step"),
        "reset_keep": (n.reset_keep is not None and bool(np.any(n.reset_keep)), "keeps a part of its membrane when it fires"),
        "v_min": (n.v_min is not None, "has a lower bound of its membrane"),
        "adapt": (n.adapt_jump is not None, "has a threshold that adapts to its spikes"),
    }
    return {feature: what for feature, (yes, what) in needed.items() if yes}


def decay_codes(value: Array, target: Target) -> Array:
    """Leaks in the target's units, nearest."""
    return half_even(value * 2.0**target.decay_fraction)


__all__ = ["decay_codes", "has_gain", "normalise", "refusals"]

"""Biases, thresholds, resets: a neuron's constants in membrane LSBs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from snncompile.ir.graph import Array, Shape
from snncompile.ir.integer import IntNeuron
from snncompile.ir.neuron import Fire, Neuron, Reset
from snncompile.numerics import half_even, snap
from snncompile.quantize.graded import Graded
from snncompile.target import Target


@dataclass(frozen=True, slots=True, eq=False)
class Constants:
    """Threshold, reset and initial membrane as integers by field name.

    misses       which of those that must be exact for exact dynamics is not, as a sentence; empty if all are
    never        some threshold lies beyond the membrane's format and was lowered to this value, which no membrane may reach
    """

    fields: dict[str, Any]
    misses: str
    never: int | None


def integers(n: Neuron, graded: Graded | None, shape: Shape, *, lsb: Array, lattice: int, limit: int) -> Constants:
    """A neuron's constants for one membrane LSB, resets on multiples of 2**lattice; ``limit`` is the largest membrane.

        threshold[t] = ceil(theta[t] / lsb)       for m >= theta;      floor(theta[t] / lsb) + 1    for m > theta
        amount[t]    = rint(r[t] / lsb)           reset value, initial membrane and lower bound alike, on multiples of 2**lattice

    The comparison of integers is then that of the real membranes, whatever theta: only resets need to be whole for exact dynamics. A
    graded spike subtracts its threshold, so that is rounded to the nearest.

    Source   lsb q >= theta  <=>  q >= ceil(theta / lsb)  for integers q; thresholds per step are EM-PF's (arXiv 2410.07547, eq. (5)) and
             OTS's (Zhu et al., ICLR 2024)
    Shapes   fields (1 | T, ...); lsb broadcastable, one number per channel
    Units    lsb in units of the membrane; the result in membrane LSBs
    """
    ndim, top = len(shape), limit >> lattice << lattice
    misses = ""
    zero = np.zeros((1,) * (ndim + 1), dtype=np.int64)

    def place(label: str, values: Array) -> Array:
        nonlocal misses
        exact, whole = snap(np.where(far, 0.0, values) * 2.0**-lattice)
        if not np.all(whole):
            off = float(np.abs(exact - half_even(exact)).max()) * 2.0**lattice
            misses = misses or f"the {label} lies {off:.3g} membrane LSB off the integers"
        return half_even(exact) << lattice

    steps_to_theta, whole = snap(aligned(n.theta, ndim) / lsb)
    far = steps_to_theta > top - 1
    if n.fire is Fire.NONE and n.reset is not Reset.CLAMP:
        threshold, far = zero, np.zeros_like(far)
    elif n.max_spikes > 1:
        step = np.where(far, top, place("threshold", steps_to_theta))
        threshold = step + (n.fire is Fire.STEP_GT)
    elif n.spiking:
        above = np.floor(np.minimum(steps_to_theta, top - 1)) + 1
        threshold = np.where(whole & ~far & (n.fire is Fire.STEP_GE), np.minimum(steps_to_theta, top), above).astype(np.int64)
    elif n.reset is Reset.CLAMP:
        threshold = np.where(far, top, place("threshold", steps_to_theta))
    else:  # it is subtracted from the membrane before the payload is rounded
        threshold = half_even(np.minimum(steps_to_theta, top))
        if not np.all(whole | far):
            off = float(np.abs(steps_to_theta - threshold)[~whole & ~far].max())
            misses = f"the threshold lies {off:.3g} membrane LSB off the integers"
    amount, value = zero, zero
    if n.reset is Reset.SUBTRACT and n.spiking:
        amount = place("reset amount", aligned(n.reset_amount, ndim) / lsb)
    elif n.reset is Reset.SUBTRACT:
        unit = 1.0 if graded is None or graded.lsb is None else graded.lsb
        amount = half_even(aligned(n.reset_amount, ndim) * unit / lsb)
        misses = "it is reset by its rounded graded output"
    elif n.reset is Reset.SET:
        value = place("reset value", aligned(n.reset_value, ndim) / lsb)
        if n.fire is Fire.RELU or graded is not None:
            misses = "it is reset where its rounded graded output is not 0"
    never = top if np.any(far) else None
    far = np.zeros((1,) * ndim, dtype=bool)
    v_init = place("initial membrane", aligned(n.v_init[None], ndim)[0] / lsb)
    fields: dict[str, Any] = {"threshold": threshold, "reset_amount": amount, "reset_value": value, "v_init": v_init}
    if n.max_spikes > 1:
        fields |= {"spike_step": step, "max_spikes": n.max_spikes}
    far = np.zeros((1,) * (ndim + 1), dtype=bool)
    if n.v_min is not None:
        fields["v_min"] = place("lower bound of the membrane", aligned(n.v_min, ndim) / lsb)
    if n.adapt_jump is not None:
        fields |= {"adapt_jump": place("jump of the threshold", aligned(n.adapt_jump, ndim) / lsb), "adapt_reset": n.adapt_reset}
    return Constants(fields, misses, never)


def channel_theta(n: Neuron, shape: Shape) -> Array:
    """The magnitude per channel that scales are tied to: the threshold, else the reset amount or value."""
    candidates = [n.theta] if n.fire in (Fire.STEP_GE, Fire.STEP_GT, Fire.RELU) or n.reset is Reset.CLAMP else []
    candidates += {Reset.SUBTRACT: [n.reset_amount] if n.spiking else [], Reset.SET: [n.reset_value]}.get(n.reset, [])
    for values in candidates:
        if np.any(values):
            return by_channel(values, shape)
    return np.zeros(shape[0])


def by_channel(values: Array, shape: Shape) -> Array:
    """The largest magnitude of a per-step field over steps and positions, per channel."""
    full = np.broadcast_to(np.abs(aligned(values, len(shape))), (values.shape[0], *shape))
    return np.asarray(np.moveaxis(full, 1, 0).reshape(shape[0], -1).max(axis=1))


def aligned(values: Array, ndim: int) -> Array:
    """A per-step field with all its axes: (1 | T, ...) with ``ndim`` axes after the first."""
    return values.reshape(values.shape[0], *(1,) * (ndim + 1 - values.ndim), *values.shape[1:])


def on_lattice(values: Array, lattice: int) -> Array:
    """The nearest multiples of 2**G, per position only where positions differ."""
    q = half_even(values * 2.0**-lattice) << lattice
    for axis in range(2, q.ndim):
        if np.all(q == q.take([0], axis=axis)):
            q = q.take([0], axis=axis)
    return q


def constants_fit(n: IntNeuron, target: Target) -> bool:
    """A step threshold out of reach is no overflow, but it must still be a number that the chip can hold."""
    values = (n.bias, n.threshold, n.reset_amount, n.reset_value, n.v_init, n.v_min, n.adapt_jump, n.spike_step)
    return all(target.membrane.fits(v) for v in values if v is not None)


__all__ = ["Constants", "aligned", "by_channel", "channel_theta", "constants_fit", "integers", "on_lattice"]

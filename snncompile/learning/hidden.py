"""Lower a plastic hidden layer: one weight LSB for all neurons, room for weights that grow, bounds for every weight that can be learned."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from snncompile.errors import fail
from snncompile.ir.graph import Array
from snncompile.ir.integer import IntNeuron
from snncompile.ir.linear_ops import Linear
from snncompile.ir.neuron import Neuron
from snncompile.learning.readout import PlasticLowered, reach_of, replaced, unit_of, weight_error
from snncompile.learning.widths import Widths
from snncompile.numerics import Interval, half_even
from snncompile.quantize import Options, QuantResult
from snncompile.quantize.admit import normalise
from snncompile.quantize.background import Blank
from snncompile.quantize.bounds import Bounds, population_bounds
from snncompile.quantize.constants import aligned, channel_theta, constants_fit, integers, on_lattice
from snncompile.quantize.lattice import Factors, guard_bits_needed
from snncompile.quantize.lower import Job, rounds
from snncompile.target import Target


def lower_hidden(
    result: QuantResult, weight: Array, synapse: Linear, neuron: IntNeuron, *, trained: Neuron, headroom: float, target: Target
) -> PlasticLowered:
    """Replace the layer's integers.

        w = lsb * 2 * q,   q = half_even(weight / (2 lsb))       one LSB for the layer: its rule has one learning rate

    The membrane LSB is 2 lsb / 2**F with the largest F that the bounds allow; where all neurons share a threshold, lsb is enlarged a
    little, so that the threshold is a whole number.
    weight    the float weights, (post, pre)         headroom  as in ``lower_plastic``
    Errors    SNN809 the layer could overflow whatever its scale
    """
    shape, steps = result.graph.shape(neuron.name), result.graph.steps
    n = normalise(trained)
    job = Job(
        neuron=n,
        ports=[],
        heard=[],
        blank=Blank(arriving=(), sent=None),
        shape=shape,
        steps=steps,
        graded=None,
        target=target,
        options=Options(),
    )
    need = guard_bits_needed(Factors(neuron.leak, None, neuron.decay_bits, False), n.reset, steps, starts_at_zero=not np.any(n.v_init))
    start, theta = unit_of(weight, headroom, target), channel_theta(n, shape)
    for guard in range(target.membrane.bits - 2, 0, -1):
        lattice = need if guard >= need else 0
        unit = _snapped(start, theta, guard - lattice)
        q = half_even(weight / unit).astype(np.int64)
        made_neuron, bounds, misses = _integers(job, neuron, unit * 2.0**-guard, guard, lattice, reach_of(weight.shape, target))
        fits = bounds.fits(target.accumulator, target.membrane) and constants_fit(made_neuron, target)
        if not fits:
            continue
        reason = misses or rounds(job, made_neuron, guard, need)
        old = next(p for p in result.populations if p.name == neuron.name)
        ratio = theta / unit
        report = replace(
            old, sigma=(unit, unit), steps_per_threshold=(float(ratio.min()), float(ratio.max())), guard_bits=guard, exact=not reason,
            reason=reason, bounds=bounds.as_dict(), weight_error=weight_error(q, unit, weight), adapted=None,
        )  # fmt: skip
        return PlasticLowered(result=replaced(result, synapse.name, q, made_neuron, report), lsb=unit / 2)
    raise fail(
        "SNN809", f"'{neuron.name}' can overflow once its weights have learned: {weight.shape[1]} synapses of "
        f"{Widths.of(target).weight} bits and a sign", loc=neuron.loc,
        notes=(target.cite("formats.membrane"), target.cite("learning.weight")), help="make the layer before it narrower",
    )  # fmt: skip


def _snapped(unit: float, theta: Array, free: int) -> float:
    """The unit made so much larger that the common threshold is a whole number of  unit / 2**free."""
    if np.ptp(theta) > 0 or not theta[0] > 0:
        return unit
    whole = math.floor(float(theta[0]) / unit * 2.0**free)
    return float(theta[0]) / whole * 2.0**free if whole else unit


def _integers(job: Job, old: IntNeuron, lsb: float, guard: int, lattice: int, reach: Interval) -> tuple[IntNeuron, Bounds, str]:
    ndim = len(job.shape)
    scale = np.full((1,) * ndim, lsb)
    made = integers(job.neuron, None, job.shape, lsb=scale, lattice=lattice, limit=job.target.membrane.high)
    bias = on_lattice(aligned(job.neuron.bias, ndim) / scale, lattice)
    neuron = replace(old, exponents=(guard,), bias=bias, v_scale=scale, **made.fields)
    return neuron, population_bounds(neuron, [reach], job.steps), made.misses


__all__ = ["lower_hidden"]

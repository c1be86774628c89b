"""Lower a plastic readout: room for weights that grow, and bounds that hold for every weight that learning can reach."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from snncompile.errors import fail
from snncompile.ir.graph import Array, Graph, Op
from snncompile.ir.integer import IntNeuron
from snncompile.ir.linear_ops import Linear
from snncompile.learning.widths import Widths
from snncompile.numerics import Interval, half_even
from snncompile.quantize import PopulationReport, QuantResult
from snncompile.quantize.bounds import population_bounds
from snncompile.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class PlasticLowered:
    """The integer graph with the plastic layer lowered anew, and the value of one chip weight LSB (half a graph weight LSB)."""

    result: QuantResult
    lsb: float


def lower_plastic(
    result: QuantResult, weight: Array, synapse: Linear, neuron: IntNeuron, *, headroom: float, target: Target
) -> PlasticLowered:
    """Replace the synapse's integers.

        w = lsb * 2 * q,   q = half_even(weight / (2 lsb)),   lsb = headroom * max |weight| / (2 * largest q)

    weight    the float weights, (post, pre)         headroom  by how much the largest weight may grow before it is clipped
    Errors    SNN809 the readout could overflow whatever its scale
    """
    unit = unit_of(weight, headroom, target)
    q = half_even(weight / unit).astype(np.int64)
    reach = reach_of(weight.shape, target)
    old = float(neuron.v_scale.reshape(-1)[0]) * 2.0 ** neuron.exponents[0]
    for e in range(neuron.exponents[0], 0, -1):
        lsb = unit * 2.0**-e
        bias = half_even(neuron.bias * (old * 2.0 ** -neuron.exponents[0] / lsb))
        scale = np.full_like(neuron.v_scale, lsb)
        lowered = replace(neuron, exponents=(e,), bias=bias, v_scale=scale, out_scale=np.full_like(neuron.out_scale, lsb))
        bounds = population_bounds(lowered, [reach], result.graph.steps)
        if bounds.fits(target.accumulator, target.membrane) and target.payload.fits(bounds.payload):
            report = _report(result, neuron.name, q, weight, unit, e, bounds.as_dict())
            return PlasticLowered(result=replaced(result, synapse.name, q, lowered, report), lsb=unit / 2)
    raise fail(
        "SNN809", f"'{neuron.name}' can overflow once its weights have learned: {weight.shape[1]} synapses of "
        f"{Widths.of(target).weight} bits and a sign", loc=neuron.loc,
        notes=(target.cite("formats.membrane"), target.cite("learning.weight")), help="make the layer before it narrower",
    )  # fmt: skip


def _report(
    result: QuantResult, name: str, q: Array, weight: Array, unit: float, e: int, bounds: dict[str, tuple[int, int]]
) -> PopulationReport:
    old = next(p for p in result.populations if p.name == name)
    return replace(old, sigma=(unit, unit), guard_bits=e, bounds=bounds, weight_error=weight_error(q, unit, weight), adapted=None)


def unit_of(weight: Array, headroom: float, target: Target) -> float:
    """The value of a graph weight LSB (two chip weight LSBs): ``headroom`` times the largest weight is the largest integer."""
    largest = min(target.weight.high, 2 ** (Widths.of(target).weight - 1) - 1)
    return float(headroom * (float(np.abs(weight).max()) or 1.0) / largest)


def reach_of(shape: tuple[int, ...], target: Target) -> Interval:
    """What spikes can add up to, in graph weight LSBs, whatever the weights have learned."""
    post, pre = shape
    top = pre * 2 ** (Widths.of(target).weight - 1)
    return Interval.of(np.full(post, -top), np.full(post, top))


def weight_error(q: Array, unit: float, weight: Array) -> float:
    """Root mean square of the weights' rounding, relative to the weights'."""
    power = float((weight**2).sum())
    return float(np.sqrt(((q * unit - weight) ** 2).sum() / power)) if power else 0.0


def replaced(result: QuantResult, synapse: str, q: Array, neuron: IntNeuron, report: PopulationReport) -> QuantResult:
    """The result with another population and the weights of its synapse."""

    def change(op: Op) -> Op:
        if op.name == neuron.name:
            return neuron
        return replace(op, weight=q) if op.name == synapse and isinstance(op, Linear) else op

    graph: Graph = result.graph.map_nodes(change)
    populations = tuple(report if p.name == neuron.name else p for p in result.populations)
    return QuantResult(graph=graph, populations=populations, notes=result.notes)


__all__ = ["PlasticLowered", "lower_plastic", "reach_of", "replaced", "unit_of", "weight_error"]

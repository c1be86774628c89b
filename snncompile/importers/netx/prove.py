"""What an imported population can reach, over every input: that Lava's 24-bit current never wraps, and where its membrane is clipped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from snncompile.errors import InternalError, fail
from snncompile.ir.graph import Shape
from snncompile.ir.integer import IntNeuron
from snncompile.ir.neuron import Reset
from snncompile.numerics import Format, Interval
from snncompile.quantize import PopulationReport
from snncompile.quantize.bounds import Bounds, population_bounds
from snncompile.target import Target

SMALLER = "run fewer steps, or declare a smaller input with --input-range"


@dataclass(frozen=True, kw_only=True, eq=False)
class Proved:
    """A population, its report, and whether its membrane can reach the clip at its lowest value."""

    neuron: IntNeuron
    report: PopulationReport
    clipped: bool


def prove(n: IntNeuron, accumulators: list[Interval], *, shape: Shape, synapses: int, steps: int, target: Target) -> Proved:
    """Bounds over T steps.

    Lava clips v to +-(2**23 - 1) before it compares. Above, the clip changes nothing: such a neuron fires and is reset to 0. Below,
    it is the lower bound ``v_min`` of the integer neuron, used only where the bounds do not exclude it.
    Errors  SNN153 a sum or the current could wrap, a constant is too large, or a readout could reach the clip above
    """
    where, held = n.origin[0], target.membrane.high
    bounds = population_bounds(n, accumulators, steps)
    for low, high in bounds.accumulators:
        if not target.accumulator.fits([low, high]):
            notes = [target.cite("formats.accumulator")]
            raise fail("SNN153", f"the sums of '{where}' can reach {low}..{high}, where Lava wraps them", notes=notes, help=SMALLER)
    if not target.membrane.fits(bounds.input):
        low, high = bounds.input
        notes = [target.cite("formats.membrane"), "proved for every input that the network can get, not only for the likely ones"]
        message = f"the current of '{where}' can reach {low}..{high} within {steps} steps, Lava wraps it beyond +-{held}"
        raise fail("SNN153", message, notes=notes, help=SMALLER)
    largest = max(int(np.abs(a).max()) for a in (n.threshold, n.bias))
    if largest > held:
        message = f"'{where}' holds a threshold or bias of {largest} membrane LSBs, beyond +-{held}"
        raise fail("SNN153", message, notes=[target.cite("formats.membrane")])
    clipped = not target.membrane.fits([*bounds.charge, *bounds.membrane])
    if clipped:
        n, bounds = _clipped(n, accumulators, steps, target, bounds)
    report = PopulationReport(
        name=n.name, neurons=prod(shape), synapses=synapses, weight_bits=target.weight.bits, sigma=(1.0, 1.0), steps_per_threshold=None,
        guard_bits=0, exact=True, reason="", payload_lsb=None, bounds=bounds.as_dict(),
    )  # fmt: skip
    return Proved(neuron=n, report=report, clipped=clipped)


def charge_format(target: Target) -> Format | None:
    """How wide a membrane is before it is clipped; None where the target cannot clip."""
    wide = target.quantities.get("formats.charge")
    return wide.format if wide is not None and "v_min" in target.features else None


def _clipped(n: IntNeuron, accumulators: list[Interval], steps: int, target: Target, free: Bounds) -> tuple[IntNeuron, Bounds]:
    where, held, wide = n.origin[0], target.membrane.high, charge_format(target)
    reached = f"the membrane of '{where}' can reach {free.membrane[0]}..{free.membrane[1]} within {steps} steps"
    if wide is None:
        raise fail("SNN153", f"{reached}, and {target.name} cannot clip it as Lava does", notes=[target.cite("formats.membrane")])
    n = replace(n, v_min=np.full((1,) * n.leak.ndim, target.membrane.low, dtype=np.int64))
    bounds = population_bounds(n, accumulators, steps)
    if n.reset is Reset.KEEP and bounds.membrane[1] > held:
        raise fail("SNN153", f"{reached}, beyond +-{held}: a readout that never fires must not", help=SMALLER)
    if not wide.fits([*bounds.charge, *bounds.membrane]) or not target.membrane.fits(bounds.state):
        raise InternalError(f"'{n.name}' is clipped and still reaches {bounds}")
    return n, bounds


__all__ = ["Proved", "charge_format", "prove"]

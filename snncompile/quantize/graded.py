"""Graded outputs: one payload LSB per tensor, a multiplier per channel and a shift."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir.integer import IntNeuron
from snncompile.numerics import Interval, half_even, trailing_zeros
from snncompile.quantize.bounds import Bounds, population_bounds
from snncompile.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A graded payload: its range (``low`` is 0 or ``-high``), its LSB if calibrated, and whether readers rely on that LSB."""

    low: int
    high: int
    lsb: float | None = None
    fixed: bool = False


def scale_output(
    g: Graded, n: IntNeuron, bounds: Bounds, *, accumulators: list[Interval], steps: int, target: Target
) -> tuple[IntNeuron, Bounds]:
    """Give a population its payload LSB, multiplier and shift, and the bounds that follow.

    Where every membrane is a multiple of one weight LSB that all channels share, and their number fits the payload, the
    payload counts those LSBs exactly (sums of spikes). Otherwise the LSB divides the calibrated range, or else the proved one.
    """
    most = g.high
    base = replace(n, fire="relu", payload_min=g.low, payload_max=most)
    lsb = np.broadcast_to(n.v_scale, n.v_scale.shape).reshape(-1)
    f = min(n.exponents)
    reach = max(map(abs, bounds.membrane)) if g.low else max(1, bounds.membrane[1] - int(n.threshold.min()))
    whole = min(map(trailing_zeros, (n.bias, n.threshold, n.v_init))) >= f and n.reset.value in ("stateless", "keep")
    flat_leak = bool(np.all((n.leak == 0) | (n.leak == 2**n.decay_bits))) and n.alpha is None
    if not g.fixed and np.all(lsb == lsb[0]) and whole and flat_leak and (reach >> f) <= most:
        out = float(lsb[0]) * 2.0**f
        scaled = replace(base, multiplier=np.ones_like(n.v_scale, dtype=np.int64), shift=f, out_scale=np.asarray(out))
    else:
        out = g.lsb if g.lsb is not None else float(reach * lsb.max() / most)
        ratio = n.v_scale / out
        widest = int(np.floor(np.log2(target.multiplier.high / float(ratio.max()))))
        shift = min(max(widest, 0), 40)
        multiplier = half_even(np.minimum(ratio * 2.0**shift, target.multiplier.high))
        scaled = replace(base, multiplier=multiplier, shift=shift, out_scale=np.asarray(out))
    return scaled, population_bounds(scaled, accumulators, steps)


__all__ = ["Graded", "scale_output"]

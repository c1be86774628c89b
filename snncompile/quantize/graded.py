"""Graded outputs: one payload LSB per tensor, a multiplier and a shift per channel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir.graph import Array
from snncompile.ir.integer import IntNeuron
from snncompile.numerics import Format, Interval, half_even, trailing_zeros
from snncompile.quantize.bounds import Bounds, population_bounds
from snncompile.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A graded payload: its range (``low`` is 0 or ``-high``), its LSB if known, and whether readers rely on that LSB.

    most    the largest payload if the LSB is not known yet      finest  the smallest LSB that its readers can add up
    """

    low: int
    high: int
    most: int
    lsb: float | None = None
    finest: float = 0.0
    fixed: bool = False


def scale_output(
    g: Graded, n: IntNeuron, bounds: Bounds, *, accumulators: list[Interval], steps: int, target: Target
) -> tuple[IntNeuron, Bounds]:
    """Give a population its payload LSB, multiplier and shift, and the bounds that follow.

    Where every membrane is a multiple of one weight LSB that all channels share, and their number fits the payload, the
    payload counts those LSBs exactly (sums of spikes). Otherwise the LSB divides the calibrated range, or else the proved one.
    """
    lsb = np.broadcast_to(n.v_scale, n.v_scale.shape).reshape(-1)
    f = min(n.exponents)
    reach = max(map(abs, bounds.membrane)) if g.low else max(1, bounds.membrane[1] - int(n.threshold.min()))
    whole = min(map(trailing_zeros, (n.bias, n.threshold, n.v_init))) >= f and n.reset.value in ("stateless", "keep")
    flat_leak = bool(np.all((n.leak == 0) | (n.leak == 2**n.decay_bits))) and n.alpha is None and n.gain is None
    out, high = float(lsb[0]) * 2.0**f, reach >> f
    if not g.fixed and np.all(lsb == lsb[0]) and whole and flat_leak and high <= g.most and out >= g.finest * (1 - 1e-9):
        multiplier, shift = np.ones_like(n.v_scale, dtype=np.int64), np.full_like(n.v_scale, f, dtype=np.int64)
    else:
        out = g.lsb if g.lsb is not None else max(float(reach * lsb.max() / g.most), g.finest)
        high = g.high if g.lsb is not None else min(g.most, int(np.ceil(reach * lsb.max() / out)))
        multiplier, shift = fixed_point((n.v_scale / out)[None], target.multiplier)
        multiplier = multiplier[0]
    scaled = replace(
        n, fire="relu", payload_min=-high if g.low else 0, payload_max=high, multiplier=multiplier, shift=shift, out_scale=np.asarray(out)
    )
    return scaled, population_bounds(scaled, accumulators, steps)


def fixed_point(ratio: Array, form: Format) -> tuple[Array, Array]:
    """Factors ``(1 | T, ...)`` as q * 2**-k with q in the format and one k per element of the trailing axes, 0 <= k <= 40.

    k makes the largest |q| over the steps use the whole width, so its relative error is at most 2**-bits; a factor that is a power
    of two is exact.
    """
    largest = np.abs(ratio).max(axis=0)
    safe = np.where(largest > 0, largest, 1.0)
    shift = np.clip(np.floor(np.log2(form.high / safe)), 0, 40).astype(np.int64)
    return np.clip(half_even(ratio * 2.0**shift), form.low, form.high), shift


__all__ = ["Graded", "fixed_point", "scale_output"]

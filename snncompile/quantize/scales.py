"""The scales of one population: the value of a weight LSB and of a membrane LSB for every output channel.

weight LSB of port p     sigma[c] * 2**delta_p        delta: ports with larger weights get a coarser grid, delta >= 0
membrane LSB             sigma[c] * 2**-F             F guard bits; accumulators are shifted by e_p = F + delta_p
threshold                theta[c] = n[c] * 2**G       membrane LSBs; n is an integer, so theta is one by construction
graded output            sigma[c] * 2**-F = multiplier[c] * 2**-shift[c] * payload LSB        exactly, where nothing else decides sigma

A residual stream arrives as one synapse per neuron: its one weight is a whole number of sigma, up to 2**-16, whatever else arrives.
Where no guard bits are left and the sums are still too large, sigma grows by powers of two: the port with the finest weights loses
bits first (``coarsened``).

With a gain on the input the membrane's LSB does not depend on the weights' (the gain takes up the ratio): a payload's grid or the
threshold gives it,  2**-F * grid  or  2**-F * theta[c], and accumulators are shifted by E + delta_p, E only as large as keeps the
gain within its format.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir.graph import Array
from snncompile.ir.linear_ops import Diagonal
from snncompile.numerics import Format
from snncompile.quantize.blockwise import blocks, flat, per_row
from snncompile.quantize.graded import fixed_point
from snncompile.quantize.payload import Incoming

_FAR = 2.0**30
"""Lattice steps beyond every membrane format."""
_DEAD, _FINE, _NEAR = 2.0**10, 2.0**14, 2.0**4
"""A channel whose whole input of a step is smaller than its bias by the first factor takes weight steps of its bias by the second.

Only where the bias is below the third times the threshold, so that the threshold keeps its resolution.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scales:
    """See the module. ``n`` is 0 where the channel's scale does not come from its threshold.

    With a gain, ``unit`` is what 2**F membrane LSBs are worth, and ``extra`` is E.
    """

    sigma: Array
    deltas: tuple[int, ...]
    guard_bits: int
    lattice: int
    n: Array
    unit: Array | None = None
    extra: int = 0

    @property
    def lsb(self) -> Array:
        """The value of one membrane LSB per channel."""
        return np.asarray((self.sigma if self.unit is None else self.unit) * 2.0**-self.guard_bits)

    @property
    def exponents(self) -> tuple[int, ...]:
        """By how much each port's accumulators are shifted."""
        return tuple((self.extra if self.unit is not None else self.guard_bits) + d for d in self.deltas)


@dataclass(frozen=True, kw_only=True, eq=False)
class Magnitudes:
    """What the weights ask for, once per population: relative grids of the ports, peak per channel, a trained grid if there is one.

    peak    (C,) the largest weight in units of the port's relative grid
    grid    (C,) the weights of all ports are multiples of it, or 0
    lead    (C,) the trained grid of the port with the most weights, if it has one, in units of the port's relative grid, and which port
    stream  (C,) the one weight of a graded stream's synapse, or 0
    load    (C,) the largest input of a step, in real units: all weights' magnitudes times the largest payloads
    """

    deltas: tuple[int, ...]
    peak: Array
    grid: Array
    peaks: tuple[Array, ...]
    load: Array
    lead: tuple[int, Array] | None = None
    stream: Array | None = None


def magnitudes(ports: list[Incoming], codes: int) -> Magnitudes:
    """Measure the weights; ``codes`` is the largest weight integer."""
    peaks = tuple(p.channel_peak for p in ports)
    middles = [float(np.median(a[a > 0])) if np.any(a > 0) else 0.0 for a in peaks]
    deltas = _relative(middles)
    rows = [flat(p.weight) for p in ports]
    grid = _common_grid(rows, deltas, codes)
    stream = _stream(ports, grid)
    lead = None
    if stream is None and len(ports) > 1 and not np.any(grid):
        largest = max(range(len(ports)), key=lambda k: ports[k].weight.size)
        own = per_row(lambda part: grid_of(np.abs(part), codes), rows[largest])
        if np.all((own > 0) | (peaks[largest] == 0)) and np.any(own):
            middles[largest] = float(np.median(own[own > 0])) * codes
            deltas = _relative(middles)
            lead = (largest, np.where(own > 0, own, np.median(own[own > 0])))
    peak = np.max([a * 2.0**-d for a, d in zip(peaks, deltas, strict=True)], axis=0)
    loads = (per_row(lambda part: np.abs(part).sum(axis=1), one) for one in rows)
    load = sum(sums * max(-p.payload.low, p.payload.high) for sums, p in zip(loads, ports, strict=True))
    return Magnitudes(deltas=deltas, peak=peak, grid=grid, peaks=peaks, lead=lead, stream=stream, load=np.asarray(load))


def _common_grid(ports: list[Array], deltas: tuple[int, ...], codes: int) -> Array:
    """Per channel the grid of all ports' weights, in units of the ports' relative grids; see ``grid_of``."""
    found = [
        grid_of(np.concatenate([np.abs(rows[part]) * 2.0**-d for rows, d in zip(ports, deltas, strict=True)], axis=1), codes)
        for part in blocks(max(ports, key=lambda rows: rows.shape[1]))
    ]
    return np.concatenate(found)


def coarsened(m: Magnitudes, bits: int) -> Magnitudes:
    """The same weights on a grid coarser by 2**bits; ports whose grid is that much coarser than the finest keep theirs."""
    return replace(m, deltas=tuple(max(0, d - bits) for d in m.deltas), peak=m.peak * 2.0**bits)


def _relative(middles: list[float]) -> tuple[int, ...]:
    """Powers of two that bring the ports' typical weights together, 0 for the finest."""
    finest = min([m for m in middles if m > 0], default=1.0)
    return tuple(max(0, round(np.log2(m / finest))) if m > 0 else 0 for m in middles)


def _stream(ports: list[Incoming], grid: Array) -> Array | None:
    """The weight per channel of the graded payload that arrives through one synapse per neuron, if exactly one does."""
    found = [p for p in ports if isinstance(p.port.synapse, Diagonal) and p.payload.high > 1 and p.zero is None]
    if len(found) != 1 or np.any(grid):
        return None
    rows = np.abs(found[0].weight.reshape(len(found[0].weight), -1))
    return rows[:, 0] if np.all(rows == rows[:, :1]) and np.all(rows > 0) else None


def grid_of(rows: Array, codes: int) -> Array:
    """Per row the step of which all magnitudes are small integer multiples, or 0: binary, ternary and few-bit trained weights.

    A row needs enough weights to tell a grid from chance: two of one size, or four and more of several sizes.
    """
    nonzero = rows > 0
    smallest = np.min(np.where(nonzero, rows, np.inf), axis=1, initial=np.inf)
    largest = rows.max(axis=1, initial=0.0)
    count = nonzero.sum(axis=1)
    found = np.zeros(len(rows))
    for divisor in (1, 2, 3, 4):
        step = np.where(np.isfinite(smallest), smallest, 0.0) / divisor
        candidates = np.flatnonzero((found == 0) & (step > 0) & (largest <= codes * step * (1 + 1e-6)))
        if not candidates.size:
            continue
        multiple = rows[candidates] / step[candidates, None]
        off = np.abs(multiple - np.rint(multiple)).max(axis=1)
        single = largest[candidates] <= smallest[candidates] * (1 + 1e-6)
        enough = np.where(single, (count[candidates] >= 2) & (divisor == 1), count[candidates] >= 4)
        found[candidates] = np.where((off < 1e-5 * np.maximum(1, largest[candidates] / step[candidates])) & enough, step[candidates], 0.0)
    return found


def choose_gained(m: Magnitudes, unit: Array, largest: Array, *, codes: int, guard_bits: int, widest: int) -> Scales:
    """Scales of a population whose input has a gain.

    unit  (C,) what 2**F membrane LSBs are worth, 0 where nothing asks for one      largest  (C,) the gain's largest magnitude
    """
    needed = m.peak / codes
    typical = float(np.median(needed[needed > 0])) if np.any(needed > 0) else 1.0
    sigma = np.where(m.grid > 0, m.grid, np.where(needed > 0, needed, typical)) if m.lead is None else _led(m.lead, m.deltas)
    unit = np.where(unit > 0, unit, sigma)
    reach = float((largest * sigma / unit).max()) * 2.0**guard_bits / widest
    return Scales(
        sigma=sigma, deltas=_fitted(m, sigma, codes), guard_bits=guard_bits, lattice=0, n=np.zeros(len(sigma), dtype=np.int64), unit=unit,
        extra=max(0, int(np.ceil(np.log2(reach)))) if reach > 0 else 0,
    )  # fmt: skip


def choose(
    m: Magnitudes, theta: Array, *, codes: int, guard_bits: int, lattice: int, shared: bool, output: tuple[float, Format] | None = None,
    constants: Array | None = None,
) -> Scales:  # fmt: skip
    """Scales for F guard bits and thresholds on multiples of 2**G.

    theta   (C,) the magnitude that shall be a whole number of lattice steps, 0 where there is none
    shared  one scale for all channels (a readout compares them)
    constants  (C,) the largest bias and initial membrane, which must fit beside the weights
    output  payload LSB and multiplier format of a graded output, where that and not the threshold decides the scale: then the
            membrane's LSB is a multiple of the payload's that multiplier and shift hold exactly
    """
    needed = m.peak / codes
    typical = float(np.median(needed[needed > 0])) if np.any(needed > 0) else 1.0
    needed = np.where(needed > 0, needed, typical)  # a channel without weights takes a scale like its neighbours'
    grid = m.grid
    if constants is not None:  # what it hears changes nothing beside its bias
        dead = (m.load > 0) & (m.load * _DEAD < constants) & (constants < theta * _NEAR)
        needed = np.where(dead, np.maximum(needed, constants / _FINE), needed)
        grid = np.where(dead, 0.0, grid)
    sigma, n = needed.copy(), np.zeros(len(needed), dtype=np.int64)
    if shared:
        on_grid = grid[m.peak > 0]
        same = on_grid.size and on_grid[0] > 0 and np.allclose(on_grid, on_grid[0], rtol=1e-6, atol=0)
        sigma[:] = on_grid[0] if same else needed.max()
    elif m.lead is not None:
        sigma = _led(m.lead, m.deltas)
    else:
        ratio = theta * 2.0 ** (guard_bits - lattice)
        if m.stream is not None:
            sigma = m.stream / np.clip(np.floor(m.stream / needed * (1 + 1e-12)), 1, codes)
            steps = np.rint(ratio / sigma)
        else:
            steps = np.floor(ratio / needed * (1 + 1e-12))
        n = np.where(steps < _FAR, steps, 0).astype(np.int64)  # nothing reaches a threshold that far away: it needs no scale
        sigma = np.where(n > 0, ratio / np.maximum(n, 1), sigma)
        sigma, n = np.where(grid > 0, grid, sigma), np.where(grid > 0, 0, n)
    if output is not None:
        multiplier, shift = fixed_point((sigma * 2.0**-guard_bits / output[0])[None], output[1])
        sigma, n = multiplier[0] * 2.0 ** (guard_bits - shift) * output[0], np.zeros_like(n)
    return Scales(sigma=sigma, deltas=_fitted(m, sigma, codes), guard_bits=guard_bits, lattice=lattice, n=n)


def _led(lead: tuple[int, Array], deltas: tuple[int, ...]) -> Array:
    """The scale by which the trained grid of one port is held exactly."""
    return np.asarray(lead[1] * 2.0 ** -deltas[lead[0]])


def _fitted(m: Magnitudes, sigma: Array, codes: int) -> tuple[int, ...]:
    """The ports' relative grids, coarser where a weight would have no code."""
    return tuple(d + _excess(peak * 2.0**-d / sigma, codes) for peak, d in zip(m.peaks, m.deltas, strict=True))


def _excess(steps: Array, codes: int) -> int:
    """The power of two by which a port's grid must be coarser so that all its weights have a code."""
    largest = float(steps.max(initial=0.0)) / (codes + 0.5)
    return max(0, int(np.ceil(np.log2(largest)))) if largest > 0 else 0


__all__ = ["Magnitudes", "Scales", "choose", "choose_gained", "coarsened", "grid_of", "magnitudes"]

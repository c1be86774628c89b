"""Weights of one synapse to integers: to the nearest, or with errors that cancel on what was heard of the calibration data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snncompile.ir.graph import Array
from snncompile.ir.linear_ops import Conv2d
from snncompile.numerics import half_even
from snncompile.quantize.compensate import Feedback
from snncompile.quantize.moments import Moments
from snncompile.quantize.payload import Incoming

_TOGETHER = 2**21
"""Weights that are rounded at once, at most."""


def nearest(p: Incoming, unit: Array, codes: int) -> Array:
    """The nearest integers to a port's weights in steps of ``unit`` (C,), within +-codes."""
    return np.asarray(np.clip(half_even(p.weight / _by_row(p, unit)), -codes, codes))


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Rows and columns of the weights that share inputs."""

    rows: slice
    cut: slice
    feedback: Feedback


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hearing:
    """A port and what its synapse hears on calibration data."""

    port: Incoming
    blocks: tuple[_Block, ...]
    samples: int

    @classmethod
    def of(cls, p: Incoming, heard: Moments) -> Hearing:
        """Bring moments into units of the payload."""
        groups, columns = heard.parts[0].shape[0], sum(part.shape[1] for part in heard.parts)
        size, scale, blocks = len(p.weight) // groups, _per_column(p, groups, columns), []
        for g in range(groups):
            start = 0
            for part in heard.parts:
                cut = slice(start, start := start + part.shape[1])
                lsb = scale[g, cut]
                blocks.append(_Block(slice(g * size, (g + 1) * size), cut, Feedback(part[g] / (lsb[:, None] * lsb))))
        return cls(port=p, blocks=tuple(blocks), samples=heard.samples)

    def rounded(self, unit: Array, codes: int) -> Array:
        """Integers whose errors cancel on what was heard."""
        q = nearest(self.port, unit, codes)
        w, flat = (self.port.weight / _by_row(self.port, unit)).reshape(len(q), -1), q.reshape(len(q), -1)
        for b in self.blocks:
            flat[b.rows, b.cut] = b.feedback.rounded(w[b.rows, b.cut], codes)
        return flat.reshape(q.shape)

    def errors(self, units: Array, codes: int) -> Array:
        """The mean square (trials, C) of the current's error after ``rounded`` for each row of ``units``."""
        found, w = np.zeros(units.shape), self.port.weight.reshape(units.shape[1], -1)
        for b in self.blocks:
            rows = w[b.rows, b.cut]
            chunk = max(1, _TOGETHER // rows.size)
            for start in range(0, len(units), chunk):
                unit = units[start : start + chunk, b.rows, None]
                steps = (rows[None] / unit).reshape(-1, rows.shape[1])
                off = (b.feedback.rounded(steps, codes) - steps) * unit.reshape(-1, 1)
                found[start : start + chunk, b.rows] += b.feedback.size(off).reshape(unit.shape[:2])
        return found

    def error(self, q: Array, unit: Array) -> Array:
        """The mean square (C,) of the current's error with the integers ``q``, in real units."""
        return self._sizes((q * _by_row(self.port, unit) - self.port.weight).reshape(len(q), -1))

    def power(self) -> Array:
        """The mean square (C,) of the current itself."""
        return self._sizes(self.port.weight.reshape(len(self.port.weight), -1))

    def _sizes(self, rows: Array) -> Array:
        found = np.zeros(len(rows))
        for b in self.blocks:
            found[b.rows] += b.feedback.size(rows[b.rows, b.cut])
        return found


def _by_row(p: Incoming, unit: Array) -> Array:
    return unit.reshape((-1,) + (1,) * (p.weight.ndim - 1))


def _per_column(p: Incoming, groups: int, columns: int) -> Array:
    """What one payload LSB is worth, for every column of every group."""
    if isinstance(p.port.synapse, Conv2d) and p.lsb.size > 1:
        whole = np.broadcast_to(p.lsb, p.weight.shape).reshape(groups, -1, columns)
        return np.asarray(whole[:, 0])
    return np.broadcast_to(p.lsb.reshape(1, -1), (groups, columns))


__all__ = ["Hearing", "nearest"]

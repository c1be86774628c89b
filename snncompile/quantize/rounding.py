"""Weights of one synapse to integers: to the nearest, or with errors that cancel on what was heard of the calibration data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from snncompile.ir.graph import Array
from snncompile.ir.linear_ops import Conv2d
from snncompile.quantize.blockwise import blocks, flat
from snncompile.quantize.compensate import Feedback
from snncompile.quantize.moments import Moments
from snncompile.quantize.payload import Incoming

_TOGETHER = 2**21
"""Weights that are rounded at once, at most."""


def nearest(p: Incoming, unit: Array, codes: int) -> Array:
    """The nearest integers to a port's weights in steps of ``unit`` (C,), within +-codes, in a type just wide enough."""
    weight, found = flat(p.weight), _integers(p, codes)
    for rows in blocks(weight):
        steps = weight[rows] / unit[rows, None]
        np.rint(steps, out=steps)
        flat(found)[rows] = np.clip(steps, -codes, codes, out=steps)
    return found


def square_error(p: Incoming, q: Array, unit: Array) -> tuple[float, float]:
    """The sum of squares of a port's rounding with the integers ``q``, and that of its weights."""
    weight, whole, error, power = flat(p.weight), flat(q), 0.0, 0.0
    for rows in blocks(weight):
        error += float(np.square(whole[rows] * unit[rows, None] - weight[rows]).sum())
        power += float(np.square(weight[rows]).sum())
    return error, power


def _integers(p: Incoming, codes: int) -> Array:
    return np.empty(p.weight.shape, dtype=np.min_scalar_type(-codes - 1))


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
        size, scale, found = len(p.weight) // groups, _per_column(p, groups, columns), []
        for g in range(groups):
            start = 0
            for part in heard.parts:
                cut = slice(start, start := start + part.shape[1])
                lsb = scale[g, cut]
                found.append(_Block(slice(g * size, (g + 1) * size), cut, Feedback(part[g] / (lsb[:, None] * lsb))))
        return cls(port=p, blocks=tuple(found), samples=heard.samples)

    def rounded(self, unit: Array, codes: int) -> Array:
        """Integers whose errors cancel on what was heard."""
        weight, found = flat(self.port.weight), _integers(self.port, codes)
        for b in self.blocks:
            flat(found)[b.rows, b.cut] = b.feedback.rounded(weight[b.rows, b.cut] / unit[b.rows, None], codes)
        return found

    def errors(self, units: Array, codes: int) -> Array:
        """The mean square (trials, C) of the current's error after ``rounded`` for each row of ``units``."""
        found, w = np.zeros(units.shape), flat(self.port.weight)
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
        weight, whole = flat(self.port.weight), flat(q)
        return self._sizes(lambda rows, cut: whole[rows, cut] * unit[rows, None] - weight[rows, cut])

    def power(self) -> Array:
        """The mean square (C,) of the current itself."""
        weight = flat(self.port.weight)
        return self._sizes(lambda rows, cut: weight[rows, cut])

    def _sizes(self, part: Callable[[slice, slice], Array]) -> Array:
        found = np.zeros(len(self.port.weight))
        for b in self.blocks:
            found[b.rows] += b.feedback.size(part(b.rows, b.cut))
        return found


def _per_column(p: Incoming, groups: int, columns: int) -> Array:
    """What one payload LSB is worth, for every column of every group."""
    if isinstance(p.port.synapse, Conv2d) and p.lsb.size > 1:
        whole = np.broadcast_to(p.lsb, p.weight.shape).reshape(groups, -1, columns)
        return np.asarray(whole[:, 0])
    return np.broadcast_to(p.lsb.reshape(1, -1), (groups, columns))


__all__ = ["Hearing", "nearest", "square_error"]

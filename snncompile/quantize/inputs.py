"""Inputs as payloads: the grid that the data already lies on where there is one, otherwise an affine grid over its range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snncompile.errors import fail
from snncompile.ir.graph import Array
from snncompile.ir.integer import IntInput
from snncompile.ir.linear_ops import Input


@dataclass(frozen=True, slots=True)
class _Grid:
    """Values ``origin + step * k`` for k in 0 .. count - 1, of one channel."""

    origin: float
    step: float
    count: int


def quantise_input_op(op: Input, data: Array | None, bits: int) -> tuple[IntInput, str]:
    """The integer input and a sentence on where its grid comes from; ``data`` is calibration ``(N, T | 1, *size)``."""
    if data is not None and data.shape[2:] != op.size:
        what = f"calibration data for '{op.name}' has samples of shape {data.shape[2:]}, the input takes {op.size}"
        raise fail("SNN311", what, loc=op.loc)
    if op.grid > 0 and op.low is not None and op.high is not None:
        count = round((op.high - op.low) / op.grid) + 1
        if count <= 2**bits:
            return _on_grid(op, [_Grid(op.low, op.grid, count)]), f"input '{op.name}': {count} levels, as declared"
    if data is not None and (grids := _grids(data, op, bits)) is not None:
        count = max(g.count for g in grids)
        return _on_grid(op, grids), f"input '{op.name}': the calibration data lies on a grid of {count} levels, kept exactly"
    if op.low is not None and op.high is not None:
        low, high, whence = op.low, op.high, "declared"
    elif data is not None and data.size:
        low, high, whence = float(data.min()), float(data.max()), "calibrated"
    else:
        raise fail(
            "SNN301", f"the range of input '{op.name}' is not known", loc=op.loc,
            help="give calibration data, or declare low and high (and grid, where values are discrete)",
        )  # fmt: skip
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / (2**bits - 1) or 1.0
    first = round(low / step)
    quantised = _build(op, np.full((1,) * len(op.size), step), np.zeros((1,) * len(op.size)), first, first + 2**bits - 1)
    note = f"input '{op.name}': rounded to {bits} bits over the {whence} range {low:.6g}..{high:.6g}"
    if data is None:
        return quantised, note
    codes = np.rint(data / step)
    return quantised, f"{note}; {int(((codes < quantised.low) | (codes > quantised.high)).sum())} of {data.size} calibration values clipped"


def _on_grid(op: Input, grids: list[_Grid]) -> IntInput:
    """Payloads count grid steps; from zero itself where zero is on every grid, from the lowest value otherwise."""
    shape = (len(grids),) + (1,) * (len(op.size) - 1)
    step = np.array([g.step for g in grids]).reshape(shape)
    firsts = [g.origin / g.step for g in grids]
    if all(abs(f - round(f)) < 1e-6 for f in firsts):
        low = min(0, *(round(f) for f in firsts)) if firsts else 0
        high = max(0, *(round(f) + g.count - 1 for f, g in zip(firsts, grids, strict=True)))
        return _build(op, step, np.zeros(shape), low, high)
    offset = np.array([g.origin for g in grids]).reshape(shape)
    return _build(op, step, offset, 0, max(g.count for g in grids) - 1)


def _build(op: Input, lsb: Array, offset: Array, low: int, high: int) -> IntInput:
    return IntInput(
        name=op.name, loc=op.loc, origin=op.origin or (op.name,), size=op.size, static=op.static,
        lsb=lsb, offset=offset, low=low, high=high,
    )  # fmt: skip


def _grids(data: Array, op: Input, bits: int) -> list[_Grid] | None:
    """One grid per channel of an image, or one for a vector; None if some channel is on none."""
    if len(op.size) < 2:
        grid = _grid(data, bits)
        return None if grid is None else [grid]
    found = [_grid(data[:, :, c], bits) for c in range(op.size[0])]
    if any(g is None for g in found):
        return None
    grids = [g for g in found if g is not None]
    alike = all(abs(g.step - grids[0].step) <= 1e-5 * grids[0].step and g.origin == grids[0].origin for g in grids)
    return [max(grids, key=lambda g: g.count)] if alike else grids


def _grid(values: Array, bits: int) -> _Grid | None:
    """The grid of at most 2**bits levels that all values lie on, as exactly as float32 can."""
    levels = np.unique(values).astype(np.float64)
    noise = 4e-7 * max(abs(levels[0]), abs(levels[-1])) if levels.size else 0.0
    if levels.size:  # float32 may spell one level in several ways
        levels = levels[np.concatenate([[True], np.diff(levels) > noise])]
    if levels.size > 2**bits or not levels.size:
        return None
    if levels.size == 1:
        return _Grid(0.0, abs(float(levels[0])) or 1.0, 2) if levels[0] >= 0 else None
    span = float(levels[-1] - levels[0])
    for divisor in (1, 2, 3, 4):
        count = round(span / (float(np.diff(levels).min()) / divisor))
        if not 1 <= count <= 2**bits - 1:
            continue
        step = span / count
        multiple = (levels - levels[0]) / step
        if np.abs(multiple - np.rint(multiple)).max() * step <= max(2 * noise, 1e-9 * step):
            slack = 2**bits - 1 - count if count >= 2 ** (bits - 1) else 0
            return _Grid(float(levels[0]) - slack * step, step, count + 1 + 2 * slack)
    return None


__all__ = ["quantise_input_op"]

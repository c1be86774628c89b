"""Arrays in the smallest form that says the same."""

from __future__ import annotations

import numpy as np

from snncompile.ir.graph import Array

DYADIC = 4096.0


def compact(array: Array) -> Array:
    """An array of a population's shape with every trailing axis that it does not vary along reduced to 1, or to shape ()."""
    if array.size and np.all(array == array.flat[0]):
        return np.full((1,) * array.ndim, float(array.flat[0]))
    kept = array
    for axis in range(array.ndim - 1, 0, -1):
        first = np.take(kept, [0], axis=axis)
        if np.array_equal(np.broadcast_to(first, kept.shape), kept):
            kept = first
    return np.array(kept, dtype=np.float64)


def short(array: Array, tolerance: float) -> tuple[Array, float]:
    """Numbers that lie within ``tolerance`` of a multiple of 1/4096 moved onto it, and by how much at most.

    A tool computes ``1 - dt / tau`` and ``r * dt / tau`` in float32, where 0.5 comes back as 0.49999997: a leak that a chip has
    exactly would seem to be one that it has not.
    """
    near = np.rint(array * DYADIC) / DYADIC
    moves = (near != array) & (np.abs(array - near) <= tolerance * np.maximum(np.abs(array), 0.5))
    out = np.where(moves, near, array)
    return out, float(np.abs(out - array).max(initial=0.0))


__all__ = ["compact", "short"]

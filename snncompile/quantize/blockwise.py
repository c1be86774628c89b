"""Rows of large weights, a few at a time: what is computed of them stays in the cache, and no copy of all is ever made."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from snncompile.ir.graph import Array

_BLOCK = 2**16
"""Numbers in one block, at most (but for a single row)."""


def blocks(rows: Array) -> Iterator[slice]:
    """Consecutive rows of a matrix."""
    step = max(1, _BLOCK // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        yield slice(start, min(start + step, len(rows)))


def per_row(function: Callable[[Array], Array], rows: Array) -> Array:
    """A number of every row, by a function of some rows."""
    found = [function(rows[part]) for part in blocks(rows)]
    return np.concatenate(found) if found else np.zeros(0)


def flat(weight: Array) -> Array:
    """Weights as a matrix, one row per output channel."""
    return weight.reshape(len(weight), -1)


__all__ = ["blocks", "flat", "per_row"]

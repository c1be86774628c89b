"""Per-step arrays ``(1 | T, ...)``: aligning, compacting, adding, delaying."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from snncompile.ir.conv import correlate
from snncompile.ir.graph import Array, Shape
from snncompile.ir.linear_ops import Conv2d, Linear

Synapse = TypeVar("Synapse", bound=Conv2d | Linear)


def spread(array: Array, rank: int) -> Array:
    """A per-step array ``(S, ...)`` with all ``rank`` axes of a value after the first: ``(T,)`` becomes ``(T, 1, 1, 1)``."""
    rest = array.shape[1:]
    return np.asarray(array, dtype=np.float64).reshape(array.shape[0], *(1,) * (rank - len(rest)), *rest)


def compact(array: Array, rtol: float = 0.0) -> Array:
    """The array with every axis along which it is constant (within ``rtol`` of its largest value) cut to length 1."""
    tolerance = rtol * float(np.abs(array).max()) if rtol and array.size else 0.0
    for axis in range(array.ndim):
        if array.shape[axis] > 1:
            first = array.take([0], axis=axis)
            if np.all(np.abs(array - first) <= tolerance):
                array = first
    return array


def is_all(array: Array, value: float) -> bool:
    """Whether every element equals ``value``."""
    return bool(np.all(array == value))


def constant_in_time(array: Array) -> bool:
    """Whether a per-step array holds the same values at every step."""
    return array.shape[0] == 1 or bool(np.all(array == array[:1]))


def per_channel(factor: Array, shape: Shape) -> Array | None:
    """A step-independent factor on a ``(C, H, W)`` map as ``(C,)``, or None if it differs between positions or steps."""
    small = compact(spread(factor, 3))
    if small.shape[0] > 1 or small.shape[2:] != (1, 1):
        return None
    return np.broadcast_to(small[0, :, 0, 0], (shape[0],))


def per_element(factor: Array, shape: Shape) -> Array | None:
    """A step-independent factor on a value of this shape, flattened; None if it differs between steps."""
    if not constant_in_time(factor):
        return None
    return np.broadcast_to(spread(factor, len(shape))[0], shape).reshape(-1)


def total(*terms: Array | None, rank: int) -> Array | None:
    """The sum of per-step constants, compacted; None if it is zero."""
    present = [spread(a, rank) for a in terms if a is not None]
    if not present:
        return None
    result: Array = compact(np.asarray(sum(present[1:], start=present[0])))
    return None if is_all(result, 0.0) else result


def times(factor: Array, term: Array | None, rank: int) -> Array | None:
    """A per-step factor times a per-step constant."""
    return None if term is None else np.asarray(spread(factor, rank) * spread(term, rank))


def response(synapse: Conv2d | Linear, constant: Array, shape: Shape) -> Array:
    """What the synapse (without its bias) makes of a per-step constant of this shape, zero padding included: per position."""
    full = np.broadcast_to(spread(constant, len(shape)), (constant.shape[0], *shape))
    out = correlate(full, synapse) if isinstance(synapse, Conv2d) else full.reshape(len(full), -1) @ synapse.weight.T
    return compact(out, rtol=1e-12)


def one_step_later(array: Array | None, initial: Array, steps: int, shape: Shape) -> Array | None:
    """The per-step constant ``initial, a[0], a[1], ...`` over ``steps`` steps; None if it is zero throughout."""
    first = np.broadcast_to(initial, shape)
    before = np.zeros((1, *(1,) * len(shape))) if array is None else spread(array, len(shape))
    if is_all(first, 0.0) and is_all(before, 0.0):
        return None
    rows = [first] + [np.broadcast_to(before[t if len(before) > 1 else 0], shape) for t in range(steps - 1)]
    return compact(np.stack(rows).astype(np.float64))


def with_bias(synapse: Synapse, bias: Array | None) -> Synapse:
    """The synapse with this bias in the shape that it wants."""
    if bias is not None and isinstance(synapse, Linear):
        bias = np.broadcast_to(bias, (bias.shape[0], synapse.weight.shape[0]))
    return replace(synapse, bias=bias)

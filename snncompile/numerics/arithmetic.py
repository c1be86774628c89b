"""Rounding modes and the chip's fixed-point steps, on int64 arrays. Each has its table of cases in the tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_FAR = 2.0**62
_SOME = 4096


def half_even(x: ArrayLike) -> Ints:
    """Nearest integer, ties to even; what lies beyond 2**62, far outside of every format, keeps its sign there."""
    return np.clip(np.rint(np.asarray(x, dtype=np.float64)), -_FAR, _FAR).astype(np.int64)


def toward_zero(x: ArrayLike) -> Ints:
    """Drop the fraction."""
    return np.trunc(np.asarray(x, dtype=np.float64)).astype(np.int64)


def floor(x: ArrayLike) -> Ints:
    """The largest integer not above x."""
    return np.floor(np.asarray(x, dtype=np.float64)).astype(np.int64)


def decay(x: ArrayLike, q: ArrayLike, bits: int) -> Ints:
    """x * q / 2**bits, truncated toward zero:  sign(x q) * ((abs(x) * abs(q)) >> bits). q = 2**bits is exact."""
    x64, q64 = np.asarray(x, dtype=np.int64), np.asarray(q, dtype=np.int64)
    return np.asarray(np.sign(x64) * np.sign(q64) * ((np.abs(x64) * np.abs(q64)) >> bits))


def multiply_shift(x: ArrayLike, multiplier: ArrayLike, shift: ArrayLike) -> Ints:
    """x * multiplier / 2**shift, nearest, ties to even, without a float in between."""
    product = np.asarray(np.asarray(x, dtype=np.int64) * np.asarray(multiplier, dtype=np.int64))
    bits = np.asarray(shift, dtype=np.int64)
    quotient, half = product >> bits, (np.int64(1) << bits) >> 1
    rest = product - (quotient << bits)
    return np.asarray(quotient + ((bits > 0) & ((rest > half) | ((rest == half) & (quotient & 1 == 1)))))


def trailing_zeros(x: ArrayLike) -> int:
    """The largest k such that every value is a multiple of 2**k; 64 if all are zero."""
    merged = int(np.bitwise_or.reduce(np.asarray(x, dtype=np.int64).reshape(-1), initial=0))
    return 64 if merged == 0 else (merged & -merged).bit_length() - 1


def few_levels(x: ArrayLike) -> tuple[int, int, int] | None:
    """``(bits, low, step)`` if every value is ``low + step * code`` with codes of 1, 2 or 4 bits; None if that takes more.

    Binary weights take 1 bit, ternary ones 2.
    """
    given = np.asarray(x).reshape(-1)
    if not given.size:
        return None
    if len(given) > _SOME and few_levels(given[:_SOME]) is None:  # all of them take no fewer bits
        return None
    values = np.unique(given).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if high - low >= 2**62:
        return None
    step = int(np.gcd.reduce(values - low, axis=None)) or 1
    bits = next((b for b in (1, 2, 4) if (high - low) // step < 2**b), None)
    return None if bits is None else (bits, low, step)


def snap(x: ArrayLike, tolerance: float = 1e-12) -> tuple[Floats, NDArray[np.bool_]]:
    """Values within float noise of an integer become that integer; also tells which did."""
    value = np.asarray(x, dtype=np.float64)
    nearest = np.rint(value)
    close = np.abs(value - nearest) <= tolerance * np.maximum(1.0, np.abs(value))
    # far above every membrane format the tolerance would swallow halves: nothing there is taken for an integer
    close &= np.abs(value) < 2.0**36
    return np.where(close, nearest, value), np.asarray(close)


__all__ = ["Floats", "Ints", "decay", "few_levels", "floor", "half_even", "multiply_shift", "snap", "toward_zero", "trailing_zeros"]

"""Bound arithmetic: intervals of integers, elementwise on arrays. Every operation encloses all results of its operands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from snncompile.numerics.arithmetic import Ints, decay, multiply_shift

FAR = 2**43


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """All integers from ``low`` to ``high``, elementwise; both ends are attained or safe."""

    low: Ints
    high: Ints

    def __post_init__(self) -> None:
        """Ends beyond 2**43, which no format holds, stay there: int64 never wraps."""
        for end in ("low", "high"):
            object.__setattr__(self, end, np.clip(getattr(self, end), -FAR, FAR))

    @classmethod
    def of(cls, low: ArrayLike, high: ArrayLike) -> Interval:
        """From anything that converts to int64."""
        return cls(np.asarray(low, dtype=np.int64), np.asarray(high, dtype=np.int64))

    @classmethod
    def point(cls, value: ArrayLike) -> Interval:
        """A known value."""
        return cls.of(value, value)

    def __add__(self, other: Interval) -> Interval:
        return Interval(np.asarray(self.low + other.low), np.asarray(self.high + other.high))

    def shifted(self, bits: int) -> Interval:
        """Times 2**bits."""
        far = FAR >> bits
        return Interval(np.clip(self.low, -far - 1, far + 1) << bits, np.clip(self.high, -far - 1, far + 1) << bits)

    def decayed(self, q: ArrayLike, bits: int) -> Interval:
        """``decay`` is monotone in x for either sign of q, so the ends map to the ends."""
        a, b = decay(self.low, q, bits), decay(self.high, q, bits)
        return Interval(np.minimum(a, b), np.maximum(a, b))

    def scaled(self, multiplier: ArrayLike, shift: ArrayLike) -> Interval:
        """``multiply_shift(x)`` is monotone in x for either sign of the multiplier; ends beyond 2**43 / multiplier stop there."""
        far = FAR // np.maximum(np.abs(np.asarray(multiplier, dtype=np.int64)), 1)
        a, b = (multiply_shift(np.clip(x, -far - 1, far + 1), multiplier, shift) for x in (self.low, self.high))
        return Interval(np.minimum(a, b), np.maximum(a, b))

    def clamped(self, low: ArrayLike, high: ArrayLike) -> Interval:
        """``clamp(x, low, high)``."""
        return Interval(*(np.asarray(np.clip(x, low, high)) for x in (self.low, self.high)))

    def __neg__(self) -> Interval:
        return Interval(np.negative(self.high), np.negative(self.low))

    def times(self, factor: ArrayLike) -> Interval:
        """Times known integers."""
        f = np.asarray(factor, dtype=np.int64)
        far = FAR // np.maximum(np.abs(f), 1)
        a, b = (np.clip(x, -far - 1, far + 1) * f for x in (self.low, self.high))
        return Interval(np.minimum(a, b), np.maximum(a, b))

    def at_most(self, cap: ArrayLike) -> Interval:
        """``min(x, cap)``."""
        c = np.asarray(cap, dtype=np.int64)
        return Interval(np.minimum(self.low, c), np.minimum(self.high, c))

    def at_least(self, floor: ArrayLike) -> Interval:
        """``max(x, floor)``."""
        f = np.asarray(floor, dtype=np.int64)
        return Interval(np.maximum(self.low, f), np.maximum(self.high, f))

    def hull(self, other: Interval) -> Interval:
        """The smallest interval that holds both."""
        return Interval(np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    @property
    def range(self) -> tuple[int, int]:
        """The smallest and the largest value over all elements."""
        return int(self.low.min()), int(self.high.max())


__all__ = ["Interval"]

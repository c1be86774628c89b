"""Integer number formats: ``s24`` has a sign and 23 magnitude bits, ``u12`` has 12 bits and no sign."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True)
class Format:
    """An integer width.

    sN   -(2**(N-1) - 1) .. 2**(N-1) - 1      symmetric, so that negation never overflows
    uN    0 .. 2**N - 1
    """

    signed: bool
    bits: int

    @classmethod
    def parse(cls, text: str) -> Format:
        """Read ``"s8"`` or ``"u12"``; raises ValueError with the reason."""
        match = re.fullmatch(r"([su])([1-9][0-9]?)", text)
        if match is None or not (2 if match[1] == "s" else 1) <= int(match[2]) <= 62:
            raise ValueError(f"'{text}' is not a number format such as s8 or u12 (at most 62 bits)")
        return cls(match[1] == "s", int(match[2]))

    @property
    def low(self) -> int:
        """The smallest value."""
        return -self.high if self.signed else 0

    @property
    def high(self) -> int:
        """The largest value."""
        return int(2 ** (self.bits - 1 if self.signed else self.bits) - 1)

    def fits(self, values: ArrayLike) -> bool:
        """Whether every value lies in the range."""
        array = np.asarray(values)
        return not array.size or (int(array.min()) >= self.low and int(array.max()) <= self.high)

    def __str__(self) -> str:
        return f"{'s' if self.signed else 'u'}{self.bits}"

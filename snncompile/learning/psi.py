"""The postsynaptic factor of a hidden layer: the surrogate derivative at the neuron's membrane, as floats and as a table of integers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from snncompile.errors import fail
from snncompile.ir.graph import Array

ENTRIES = 256
PSI_BITS = 8
PSI_TOP = 2**PSI_BITS - 1
KINDS = ("sigmoid", "triangle", "rectangle", "boxcar")


@dataclass(frozen=True, slots=True)
class Psi:
    """psi(x) of x = u - threshold, symmetric and largest at 0.

    sigmoid   a * sg * (1 - sg), sg = sigmoid(a x)              OTTT, NDOT, OSR with a = 4
    triangle  max(0, w - |x|) / w**2                            SLTT with w = 1
    rectangle 1[|x| < w / 2] / w                                STBP
    boxcar    1[|x| < h]                                        LTL with h = 0.2
    """

    kind: str
    size: float

    def __call__(self, x: Array) -> Array:
        """The values, float."""
        x = np.abs(np.asarray(x, dtype=np.float64))
        if self.kind == "sigmoid":
            sg = 1 / (1 + np.exp(-self.size * np.minimum(x, 700 / self.size)))
            return np.asarray(self.size * sg * (1 - sg))
        if self.kind == "triangle":
            return np.asarray(np.maximum(0, self.size - x) / self.size**2)
        if self.kind == "rectangle":
            return np.asarray((x < self.size / 2) / self.size)
        return np.asarray((x < self.size).astype(np.float64))

    @property
    def peak(self) -> float:
        """psi(0)."""
        return float(self(np.zeros(1))[0])

    @property
    def reach(self) -> float:
        """Where psi has become 0, or (sigmoid) less than half a step of the table's values."""
        if self.kind == "sigmoid":
            return 2 * math.acosh(math.sqrt(2 * PSI_TOP)) / self.size
        return self.size / 2 if self.kind == "rectangle" else self.size

    def table(self) -> tuple[int, ...]:
        """psi / peak in steps of 1 / ``PSI_TOP`` at the middles of ``ENTRIES`` equal parts of 0..reach."""
        x = (np.arange(ENTRIES) + 0.5) * (self.reach / ENTRIES)
        return tuple(int(v) for v in np.rint(self(x) / self.peak * PSI_TOP))

    def __str__(self) -> str:
        return f"{self.kind}:{self.size:g}"


def parse_psi(text: str) -> Psi:
    """``kind:size``, such as ``sigmoid:4``; SNN810 for anything else."""
    kind, _, size = text.partition(":")
    try:
        value = float(size)
    except ValueError:
        value = math.nan
    if kind not in KINDS or not 0 < value < math.inf:
        raise fail("SNN810", f"learning has no surrogate {text!r}", help="write one of sigmoid:4, triangle:1, rectangle:1, boxcar:0.2")
    return Psi(kind, value)


__all__ = ["ENTRIES", "KINDS", "PSI_BITS", "PSI_TOP", "Psi", "parse_psi"]

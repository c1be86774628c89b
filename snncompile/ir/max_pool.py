"""Maximum over windows, as captured; a pass turns it into populations, because no synapse can take a maximum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snncompile.errors import Diagnostic
from snncompile.ir.graph import Array, Op, Shape, register_op
from snncompile.ir.linear_ops import Pair, Sides


@register_op
@dataclass(frozen=True, kw_only=True, eq=False)
class MaxPool2d(Op):
    """Maximum over windows, as in PyTorch; pixels of the padding never win.

        y[c, p, q] = max over h, w of x[c, p * sh + h * dh - top, q * sw + w * dw - left]

    Field  padding  (top, bottom, left, right); every window must hold a pixel of the map
    Errors SNN208 window, stride or dilation that is not positive
    """

    kind: ClassVar[str] = "max_pool2d"
    kernel: Pair
    stride: Pair
    padding: Sides = (0, 0, 0, 0)
    dilation: Pair = (1, 1)

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        if len(shape) != 3:
            raise ValueError(f"max_pool2d reads (C, H, W), got {shape}")
        taps = [self.taps(axis, n) for axis, n in enumerate(shape[1:])]
        if any(not t.size or np.any(t.max(axis=1) < 0) for t in taps):
            raise ValueError(f"a window {self.kernel} lies outside the padded input {shape}")
        return (shape[0], len(taps[0]), len(taps[1]))

    def validate(self) -> Iterator[Diagnostic]:
        if min(*self.kernel, *self.stride, *self.dilation) < 1:
            what = f"window {self.kernel}, stride {self.stride} and dilation {self.dilation} must be positive"
            yield Diagnostic("SNN208", f"'{self.name}': {what}", self.loc)

    def taps(self, axis: int, size: int) -> Array:
        """Rows (axis 0) or columns (axis 1) that each window reads, (windows, kernel); -1 in the padding."""
        before, after = self.padding[2 * axis : 2 * axis + 2]
        k, s, d = self.kernel[axis], self.stride[axis], self.dilation[axis]
        count = max(0, (size + before + after - d * (k - 1) - 1) // s + 1)
        at = np.arange(count)[:, None] * s - before + np.arange(k)[None] * d
        return np.where((at >= 0) & (at < size), at, -1)


def maximum(x: Array, op: MaxPool2d) -> Array:
    """``op`` on a batch ``(N, C, H, W)``."""
    for axis in (0, 1):
        taps = op.taps(axis, x.shape[2 + axis])
        at = np.where(taps < 0, taps.max(axis=1, keepdims=True), taps)  # in place of padding a pixel that the window has anyway
        x = x.take(at, axis=2 + axis).max(axis=3 + axis)
    return x


__all__ = ["MaxPool2d", "maximum"]

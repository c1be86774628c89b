"""Linear ops of the float dialect: synapses, sums, affine maps, pooling, wiring, delay.

Values have the shape of one sample: ``(C, H, W)`` for feature maps, ``(N,)`` for vectors. Arrays named in ``time_fields``
carry a leading axis of length 1 (the same at every step) or T.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, prod
from typing import ClassVar

import numpy as np

from snncompile.errors import Diagnostic
from snncompile.ir.graph import Array, Dialect, Op, Shape, register_op

BOTH = frozenset({Dialect.FLOAT, Dialect.INTEGER})
OFF_GRID = 0.25
"""By how much of a grid step an input's highest value may miss the grid, less than rounding does: numbers are written down rounded."""
Pair = tuple[int, int]
Sides = tuple[int, int, int, int]


def broadcasts_to(array: Array, shape: Shape) -> bool:
    """Whether an array broadcasts to exactly this shape."""
    try:
        return np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        return False


def _finite(op: Op, **arrays: Array | None) -> Iterator[Diagnostic]:
    for label, value in arrays.items():
        if value is not None and not np.all(np.isfinite(value)):
            yield Diagnostic("SNN206", f"'{op.name}' ({op.kind}): {label} holds NaN or infinity", op.loc)


@register_op
@dataclass(frozen=True, kw_only=True, eq=False)
class Input(Op):
    """An input of the network, one value per step of shape ``size``.

    ``low`` and ``high`` bound the values if known; ``grid`` > 0 says that they are ``low + k * grid`` for integer k
    (8-bit images: low 0, high 255, grid 1). ``static`` inputs hold the same value at every step of a sample (direct coding).
    """

    kind: ClassVar[str] = "input"
    size: Shape
    low: float | None = None
    high: float | None = None
    grid: float = 0.0
    static: bool = False

    def infer(self, *shapes: Shape) -> Shape:
        return self.size

    def validate(self) -> Iterator[Diagnostic]:
        if self.low is None or self.high is None:
            return
        if not (isfinite(self.low) and isfinite(self.high) and isfinite(self.grid) and self.grid >= 0):
            what = f"input '{self.name}' cannot range over {self.low:g}..{self.high:g} with grid {self.grid:g}"
            yield Diagnostic("SNN207", what, self.loc, (), "lowest, highest value and grid are finite numbers, and no grid is 0")
        elif not self.low <= self.high:
            yield Diagnostic("SNN207", f"input '{self.name}' has the empty range {self.low:g}..{self.high:g}", self.loc)
        elif self.grid > 0:
            levels = (self.high - self.low) / self.grid
            if levels < 1 - OFF_GRID or abs(levels - round(levels)) > OFF_GRID:
                what = f"input '{self.name}' does not get from {self.low:g} to {self.high:g} in steps of {self.grid:g}"
                yield Diagnostic("SNN207", what, self.loc, (), "the highest value is the lowest plus whole steps of the grid, like 0,255,1")


@register_op
@dataclass(frozen=True, kw_only=True, eq=False)
class Conv2d(Op):
    """Two-dimensional cross-correlation, as in PyTorch.

        y[o, p, q] = sum_{i, h, w} weight[o, i, h, w] * x[g(o, i), p * sh + h * dh - top, q * sw + w * dw - left] + bias[o]

    Field  weight  (O, I / groups, kh, kw)
    Field  bias    None or (1 | T, O, 1 | H, 1 | W): a bias may differ per step and per position (folded zero padding)
    Field  padding (top, bottom, left, right), zeros; a negative side crops
    """

    kind: ClassVar[str] = "conv2d"
    dialects: ClassVar[frozenset[Dialect]] = BOTH
    time_fields: ClassVar[frozenset[str]] = frozenset({"bias"})
    weight: Array
    bias: Array | None = None
    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        if len(shape) != 3:
            raise ValueError(f"conv2d reads (C, H, W), got {shape}")
        out, per_group, kh, kw = self.weight.shape
        if shape[0] != per_group * self.groups or out % self.groups:
            raise ValueError(f"weight {self.weight.shape} with {self.groups} group(s) does not fit input {shape}")
        top, bottom, left, right = self.padding
        h = (shape[1] + top + bottom - self.dilation[0] * (kh - 1) - 1) // self.stride[0] + 1
        w = (shape[2] + left + right - self.dilation[1] * (kw - 1) - 1) // self.stride[1] + 1
        if h < 1 or w < 1:
            raise ValueError(f"kernel {kh}x{kw} is larger than the padded input {shape}")
        if self.bias is not None and not broadcasts_to(self.bias[0], (out, h, w)):
            raise ValueError(f"bias {self.bias.shape} does not fit output {(out, h, w)}")
        return (out, h, w)

    def validate(self) -> Iterator[Diagnostic]:
        yield from _finite(self, weight=self.weight, bias=self.bias)


@register_op
@dataclass(frozen=True, kw_only=True, eq=False)
class Linear(Op):
    """Dense synapses on the flattened input (row-major):  y = weight @ x + bias.

    Field  weight  (O, I)
    Field  bias    None or (1 | T, O)
    """

    kind: ClassVar[str] = "linear"
    dialects: ClassVar[frozenset[Dialect]] = BOTH
    time_fields: ClassVar[frozenset[str]] = frozenset({"bias"})
    weight: Array
    bias: Array | None = None

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        if prod(shape) != self.weight.shape[1]:
            raise ValueError(f"weight {self.weight.shape} does not fit input {shape}")
        if self.bias is not None and self.bias.shape[1:] != (self.weight.shape[0],):
            raise ValueError(f"bias {self.bias.shape} does not fit {self.weight.shape[0]} outputs")
        return (self.weight.shape[0],)

    def validate(self) -> Iterator[Diagnostic]:
        yield from _finite(self, weight=self.weight, bias=self.bias)


@register_op
@dataclass(frozen=True, kw_only=True, eq=False)
class Diagonal(Op):
    """One synapse per neuron:  y = weight * x, weight broadcastable to the shape. Carries residuals as identity synapses."""

    kind: ClassVar[str] = "diagonal"
    dialects: ClassVar[frozenset[Dialect]] = BOTH
    weight: Array

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        if not broadcasts_to(self.weight, shape):
            raise ValueError(f"weight {self.weight.shape} does not fit {shape}")
        return shape

    def validate(self) -> Iterator[Diagnostic]:
        yield from _finite(self, weight=self.weight)


@register_op
@dataclass(frozen=True, kw_only=True, eq=False)
class Affine(Op):
    """Elementwise  y = factor[t] * x + shift[t].

    Field  factor  (1 | T, ...) broadcastable to (T, *shape)
    Field  shift   likewise
    """

    kind: ClassVar[str] = "affine"
    time_fields: ClassVar[frozenset[str]] = frozenset({"factor", "shift"})
    factor: Array
    shift: Array

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        for label, array in (("factor", self.factor), ("shift", self.shift)):
            if not broadcasts_to(array[0], shape):
                raise ValueError(f"{label} {array.shape} does not fit {shape}")
        return shape

    def validate(self) -> Iterator[Diagnostic]:
        yield from _finite(self, factor=self.factor, shift=self.shift)


@register_op
@dataclass(frozen=True, kw_only=True, eq=False)
class Add(Op):
    """The sum of two or more values of one shape."""

    kind: ClassVar[str] = "add"
    dialects: ClassVar[frozenset[Dialect]] = BOTH

    def infer(self, *shapes: Shape) -> Shape:
        if len(set(shapes)) != 1:
            raise ValueError(f"summands differ in shape: {', '.join(map(str, shapes))}")
        return shapes[0]

    def validate(self) -> Iterator[Diagnostic]:
        return iter(())


@register_op
@dataclass(frozen=True, kw_only=True, eq=False)
class AvgPool2d(Op):
    """Average over windows; ``count_include_pad`` as in PyTorch; the output size rounds down.

    y[c, p, q] = sum of the window / (kh * kw)            padding counted as zeros
    """

    kind: ClassVar[str] = "avg_pool2d"
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    count_include_pad: bool = True

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        if len(shape) != 3:
            raise ValueError(f"avg_pool2d reads (C, H, W), got {shape}")
        size = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(shape[1:], self.kernel, self.stride, self.padding, strict=True)]
        if min(size) < 1:
            raise ValueError(f"window {self.kernel} is larger than the padded input {shape}")
        return (shape[0], size[0], size[1])

    def validate(self) -> Iterator[Diagnostic]:
        if min(self.kernel) < 1 or min(self.stride) < 1:
            yield Diagnostic("SNN208", f"'{self.name}': window {self.kernel} and stride {self.stride} must be positive", self.loc)


@register_op
@dataclass(frozen=True, kw_only=True, eq=False)
class Gather(Op):
    """Wiring without arithmetic: y.flat[k] = x.flat[index.flat[k]], or 0 where the index is -1.

    Reshapes, crops, padding, permutations, channel slices and nearest upsampling are all gathers.
    """

    kind: ClassVar[str] = "gather"
    dialects: ClassVar[frozenset[Dialect]] = BOTH
    index: Array

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        if self.index.size and int(self.index.max()) >= prod(shape):
            raise ValueError(f"index {int(self.index.max())} is outside input {shape}")
        return self.index.shape

    def validate(self) -> Iterator[Diagnostic]:
        if self.index.size and int(self.index.min()) < -1:
            yield Diagnostic("SNN209", f"'{self.name}': an index is below -1", self.loc)

    @property
    def is_reshape(self) -> bool:
        """Whether the gather only changes the shape (with an input of the same number of elements)."""
        return bool(np.array_equal(self.index.reshape(-1), np.arange(self.index.size)))


@register_op
@dataclass(frozen=True, kw_only=True, eq=False)
class Delay(Op):
    """The input's value one model step ago; ``initial`` at the first step.  y[t] = x[t-1], y[0] = initial."""

    kind: ClassVar[str] = "delay"
    dialects: ClassVar[frozenset[Dialect]] = BOTH
    size: Shape
    initial: Array

    def infer(self, *shapes: Shape) -> Shape:
        return self.size

    def validate(self) -> Iterator[Diagnostic]:
        if not broadcasts_to(self.initial, self.size):
            yield Diagnostic("SNN210", f"'{self.name}': initial value {self.initial.shape} does not fit {self.size}", self.loc)

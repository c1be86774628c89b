"""Operators that move, cut and join values, and those that compute shapes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from snncompile.capture.onnx.node import Node, numbers, operator


@operator("Reshape", static=(1,))
def _reshape(node: Node, x: Tensor, shape: Tensor | None = None) -> Tensor:
    """A size of 0 copies the input's, unless ``allowzero``."""
    sizes = numbers(shape) if shape is not None else node.get("shape", [])
    if not node.get("allowzero", 0):
        sizes = [x.shape[k] if n == 0 else n for k, n in enumerate(sizes)]
    return x.reshape(sizes)


@operator("Flatten")
def _flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    cut = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:cut]), math.prod(x.shape[cut:]))


@operator("Transpose")
def _transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.get("perm", list(range(x.dim()))[::-1]))


@operator("Squeeze", static=(1,))
def _squeeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = numbers(axes) or node.get("axes", [])
    dims = {a % x.dim() for a in chosen} if chosen else {k for k, n in enumerate(x.shape) if n == 1}
    for axis in sorted(dims, reverse=True):
        x = x.squeeze(axis)
    return x


@operator("Unsqueeze", static=(1,))
def _unsqueeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = numbers(axes) or node.get("axes", [])
    rank = x.dim() + len(chosen)
    for axis in sorted(a % rank for a in chosen):
        x = x.unsqueeze(axis)
    return x


@operator("Concat")
def _concat(node: Node, *xs: Tensor) -> Tensor:
    return torch.cat(xs, dim=node.get("axis", 0))


@operator("Split", static=(1,))
def _split(node: Node, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    """Sizes are an attribute first, an input later; without them the parts are equal, the last one smaller where it does not divide."""
    axis, count = node.get("axis", 0), len(node.outputs)
    given = numbers(sizes) or node.get("split")
    if given and len(set(given)) == 1 and sum(given) == x.shape[axis]:
        given = given[0]
    return tuple(torch.split(x, given or -(-x.shape[axis] // count), dim=axis))


@operator("Slice", static=(1, 2, 3, 4))
def _slice(
    node: Node, x: Tensor, starts: Tensor | None = None, ends: Tensor | None = None, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    first = numbers(starts) if starts is not None else node.get("starts", [])
    last = numbers(ends) if ends is not None else node.get("ends", [])
    where = numbers(axes) or node.get("axes") or list(range(len(first)))
    for axis, a, b, step in zip(where, first, last, numbers(steps) or [1] * len(first), strict=True):
        taken = range(*slice(a, b, step).indices(x.shape[axis]))  # Python's slices are ONNX's, but for an end that means "before 0"
        if step < 0 and b < -x.shape[axis]:
            taken = range(min(a if a >= 0 else a + x.shape[axis], x.shape[axis] - 1), -1, step)
        if step == 1:
            x = x.narrow(axis, taken.start if taken else 0, len(taken))
        else:
            x = x.index_select(axis, torch.tensor(list(taken), dtype=torch.int64))
    return x


@operator("Gather", static=(1,))
def _gather(node: Node, x: Tensor, index: Tensor) -> Tensor:
    axis = node.get("axis", 0) % x.dim()
    picks = [n % x.shape[axis] for n in numbers(index)]
    if index.dim() == 0:
        return x.select(axis, picks[0])
    y = x.index_select(axis, torch.tensor(picks, dtype=torch.int64))
    return y if index.dim() == 1 else y.reshape([*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]])


@operator("Expand", static=(1,))
def _expand(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(torch.Size(np.broadcast_shapes(tuple(x.shape), tuple(numbers(shape)))))


@operator("Tile", static=(1,))
def _tile(node: Node, x: Tensor, repeats: Tensor) -> Tensor:
    return x.repeat(numbers(repeats))


def _refuse_pad(node: Node) -> str | None:
    mode = node.get("mode", "constant")
    return None if mode == "constant" else f"pads with mode '{mode}'"


@operator("Pad", refuse=_refuse_pad, static=(1, 2, 3))
def _pad(node: Node, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
    sizes = numbers(pads) if pads is not None else node.get("pads", [])
    chosen = [a % x.dim() for a in numbers(axes)] or list(range(x.dim()))
    count, sides = len(chosen), [(0, 0)] * x.dim()
    for k, axis in enumerate(chosen):
        sides[axis] = (sizes[k], sizes[count + k])
    fill = float(value.item()) if value is not None and value.numel() else node.get("value", 0.0)
    while sides and sides[0] == (0, 0):
        sides = sides[1:]
    return functional.pad(x, [n for pair in reversed(sides) for n in pair], value=fill) if sides else x


def _refuse_depth_to_space(node: Node) -> str | None:
    return None if node.get("mode", "DCR") == "CRD" else "rearranges depth first (mode DCR)"


@operator("DepthToSpace", refuse=_refuse_depth_to_space)
def _depth_to_space(node: Node, x: Tensor) -> Tensor:
    return functional.pixel_shuffle(x, node.get("blocksize"))


def _refuse_resize(node: Node) -> str | None:
    mode, where = node.get("mode", "nearest"), node.get("coordinate_transformation_mode", "half_pixel")
    rounding = node.get("nearest_mode", "round_prefer_floor")
    if mode != "nearest" or (where, rounding) not in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")):
        return f"resizes with mode '{mode}', '{where}', '{rounding}'"
    return None


@operator("Resize", refuse=_refuse_resize, static=(1, 2, 3))
def _resize(node: Node, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None) -> Tensor:
    """Nearest neighbours by whole factors, where all conventions agree."""
    wanted = (
        numbers(sizes)
        if sizes is not None and sizes.numel()
        else [round(n * float(s)) for n, s in zip(x.shape, _factors(scales), strict=True)]
    )
    if any(new % old for new, old in zip(wanted, x.shape, strict=True)) or wanted[:2] != list(x.shape[:2]):
        raise ValueError(f"resizes {list(x.shape)} to {wanted}; only whole factors of height and width are taken")
    return functional.interpolate(x, size=wanted[2:], mode="nearest")


def _factors(scales: Tensor | None) -> list[float]:
    return [] if scales is None else [float(v) for v in scales.tolist()]


# ---------------------------------------------------------------- shapes as values


@operator("Shape")
def _shape(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape)[node.get("start", 0) : node.get("end", x.dim())], dtype=torch.int64)


@operator("Size")
def _size(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(x.numel())


@operator("ConstantOfShape", static=(0,))
def _constant_of_shape(node: Node, shape: Tensor) -> Tensor:
    value = node.get("value")
    fill = torch.zeros(1) if value is None else value
    return torch.full(numbers(shape), fill.reshape(-1)[0].item(), dtype=fill.dtype)


@operator("Range", static=(0, 1, 2))
def _range(node: Node, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


@operator("Constant")
def _constant(node: Node) -> Any:
    if "value" in node.attributes:
        return node.get("value")
    (value,) = (v for k, v in node.attributes.items() if k.startswith("value_"))
    kind = torch.float32 if any(k.startswith("value_float") for k in node.attributes) else torch.int64
    return torch.tensor(value, dtype=kind)

"""Ops without neurons as NIR nodes, or the reason why NIR has none."""

from __future__ import annotations

from math import prod
from typing import Any

import nir
import numpy as np

from snncompile.backends.nir.neurons import DT
from snncompile.ir.conv import pad_or_crop
from snncompile.ir.graph import Array, Op, Shape
from snncompile.ir.linear_ops import Affine, AvgPool2d, Conv2d, Delay, Diagonal, Gather, Linear, Sides

ONE_HOT = 1 << 24
DIAGONAL = 1 << 12


def layer_nodes(op: Op, before: Shape, after: Shape) -> list[Any] | str:
    """Nodes that follow each other, the last of which stands for the op; empty for an op that does nothing; or why there are none."""
    if isinstance(op, Linear):
        if op.bias is not None and len(op.bias) > 1:
            return "its bias differs between steps"
        bias = np.zeros(len(op.weight)) if op.bias is None else op.bias[0]
        return [*_flat(before), nir.Affine(weight=np.asarray(op.weight, dtype=np.float64), bias=bias)]  # sinabs knows no Linear
    if isinstance(op, Conv2d):
        return _conv(op, before, after)
    if isinstance(op, AvgPool2d):
        if any(op.padding) and not op.count_include_pad:
            return "its average leaves the padding out"
        return [nir.AvgPool2d(kernel_size=np.array(op.kernel), stride=np.array(op.stride), padding=np.array(op.padding))]
    if isinstance(op, Diagonal):
        return [nir.Scale(scale=np.ascontiguousarray(np.broadcast_to(op.weight, after)))]
    if isinstance(op, Affine):
        return _affine(op, after)
    if isinstance(op, Delay):
        return [nir.Delay(delay=np.full(after, DT))]
    if isinstance(op, Gather):
        return _gather(op, before, after)
    return f"NIR has no node for {op.kind}"


def _flat(shape: Shape) -> list[Any]:
    return [] if len(shape) == 1 else [nir.Flatten(input_type={"input": np.array(shape)}, start_dim=0, end_dim=-1)]


def _conv(op: Conv2d, before: Shape, after: Shape) -> list[Any] | str:
    if is_sum_pool(op):
        return [nir.SumPool2d(kernel_size=np.array(op.weight.shape[2:]), stride=np.array(op.stride), padding=np.array(op.padding[::2]))]
    bias = np.zeros((1, after[0], 1, 1)) if op.bias is None else op.bias
    if len(bias) > 1 or np.ptp(np.broadcast_to(bias[0], after).reshape(after[0], -1), axis=1).any():
        return "its bias differs between steps or positions"
    top, bottom, left, right = op.padding
    weight, pads = np.asarray(op.weight, dtype=np.float64), (max(top, bottom, 0), max(left, right, 0))
    if op.padding != (pads[0], pads[0], pads[1], pads[1]):
        if op.dilation != (1, 1):
            return "its padding differs between the sides of a dilated kernel"
        grow = [(0, 0), (0, 0), (pads[0] - top, pads[0] - bottom), (pads[1] - left, pads[1] - right)]
        weight = np.pad(weight, grow)  # zero weights on the padding that one side has too much
    return [nir.Conv2d(
        input_shape=before[1:], weight=_ungrouped(weight, op.groups), stride=op.stride, padding=pads, dilation=op.dilation, groups=1,
        bias=np.ascontiguousarray(np.broadcast_to(bias[0], (after[0], *bias.shape[2:])).reshape(after[0], -1)[:, 0]),
    )]  # fmt: skip


def symmetric(op: Conv2d) -> bool:
    """Whether a convolution pads both sides alike, as NIR can say."""
    top, bottom, left, right = op.padding
    return top == bottom and left == right and min(op.padding) >= 0


def is_sum_pool(op: Conv2d) -> bool:
    """Whether a convolution is a sum over windows, which has a node of its own."""
    depthwise = op.groups == len(op.weight) and op.weight.shape[1] == 1
    return depthwise and op.bias is None and op.dilation == (1, 1) and symmetric(op) and bool(np.all(op.weight == 1))


def _ungrouped(weight: Array, groups: int) -> Array:
    """The same kernel with zeros between the groups: nir 1.0 cannot read back the shape of a grouped one."""
    if groups == 1:
        return weight
    out, per_group = weight.shape[:2]
    whole = np.zeros((out, per_group * groups, *weight.shape[2:]))
    for g in range(groups):
        rows = slice(g * out // groups, (g + 1) * out // groups)
        whole[rows, g * per_group : (g + 1) * per_group] = weight[rows]
    return whole


def _affine(op: Affine, shape: Shape) -> list[Any] | str:
    if len(op.factor) > 1 or len(op.shift) > 1:
        return "it differs between steps"
    factor, shift = (np.ascontiguousarray(np.broadcast_to(a[0], shape)) for a in (op.factor, op.shift))
    if not shift.any():
        return [nir.Scale(scale=factor)]
    if len(shape) == 1:
        return [nir.Affine(weight=np.diag(factor), bias=shift)] if shape[0] <= DIAGONAL else f"a bias alone on {shape[0]} values"
    rows = [a.reshape(shape[0], -1) for a in (factor, shift)]
    if len(shape) != 3 or any(np.ptp(r, axis=1).any() for r in rows):
        return "its bias differs between positions"
    return [nir.Conv2d(
        input_shape=shape[1:], weight=np.diag(rows[0][:, 0])[:, :, None, None], stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1,
        bias=rows[1][:, 0].copy(),
    )]  # fmt: skip


def _gather(op: Gather, before: Shape, after: Shape) -> list[Any] | str:
    flat = op.index.reshape(-1)
    if op.is_reshape and prod(before) == prod(after):
        return (
            [] if before == after else _flat(before) if len(after) == 1 else f"NIR has no node that makes {list(after)} of {list(before)}"
        )
    if len(after) == 1 and prod(before) * after[0] <= ONE_HOT:
        return [*_flat(before), nir.Affine(weight=_one_hot(flat, prod(before)), bias=np.zeros(after[0]))]
    if len(after) == 3 and len(before) == 3 and before[1:] == after[1:]:
        size = prod(before[1:])
        rows = flat.reshape(after[0], size)
        channels = np.where(rows[:, 0] < 0, -1, rows[:, 0] // size)
        if np.array_equal(rows, np.where(channels[:, None] < 0, -1, channels[:, None] * size + np.arange(size))):
            return [nir.Conv2d(
                input_shape=before[1:], weight=_one_hot(channels, before[0])[:, :, None, None], stride=(1, 1), padding=(0, 0),
                dilation=(1, 1), groups=1, bias=np.zeros(after[0]),
            )]  # fmt: skip
    window = _window(op.index, before, after)
    if window is not None:
        identity = np.eye(before[0])[:, :, None, None]
        return _conv(Conv2d(name=op.name, weight=identity, padding=window), before, after)
    return "NIR has no node for its wiring"


def _window(index: Array, before: Shape, after: Shape) -> Sides | None:
    """The padding (negative sides crop) that turns the maps into the wired ones, if that is all."""
    inside = np.flatnonzero(index >= 0)
    if len(before) != 3 or len(after) != 3 or before[0] != after[0] or not inside.size:
        return None
    here, there = (np.array(np.unravel_index(flat[0], shape)) for flat, shape in ((inside, after), (index.reshape(-1)[inside], before)))
    top, left = (int(n) for n in (here - there)[1:])
    sides = (top, after[1] - before[1] - top, left, after[2] - before[2] - left)
    padded = pad_or_crop(np.arange(1, prod(before) + 1).reshape(before), sides) - 1
    return sides if np.array_equal(padded, index.reshape(after)) else None


def _one_hot(index: Array, width: int) -> Array:
    weight = np.zeros((len(index), width))
    rows = np.flatnonzero(index >= 0)
    weight[rows, index[rows]] = 1.0
    return weight


__all__ = ["is_sum_pool", "layer_nodes", "symmetric"]

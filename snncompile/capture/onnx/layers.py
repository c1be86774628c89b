"""Layers: convolution, dense, batch norm, pooling, and means over axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from snncompile.capture.onnx.node import Node, numbers, operator

Function = Callable[..., Tensor]
CONVOLUTIONS: dict[int, Function] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
AVERAGES: dict[int, Function] = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
LARGEST: dict[int, Function] = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
REDUCTIONS: dict[str, Function] = {"ReduceMean": torch.mean, "ReduceSum": torch.sum, "ReduceMax": torch.amax, "ReduceMin": torch.amin}
SAME = ("SAME_UPPER", "SAME_LOWER")


def _padding(node: Node, x: Tensor, kernel: list[int]) -> list[tuple[int, int]]:
    """Zeros before and after each axis; ``auto_pad`` gives ceil(size / stride) outputs, the odd zero at the end or at the beginning."""
    axes = len(kernel)
    strides, dilations = node.get("strides", [1] * axes), node.get("dilations", [1] * axes)
    mode = node.get("auto_pad", "NOTSET")
    if mode in SAME:
        sides = []
        for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
            total = max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
            sides.append((total // 2, total - total // 2) if mode == "SAME_UPPER" else (total - total // 2, total // 2))
        return sides
    pads = [0] * (2 * axes) if mode == "VALID" else node.get("pads", [0] * (2 * axes))
    return list(zip(pads[:axes], pads[axes:], strict=True))


def _padded(x: Tensor, sides: list[tuple[int, int]], value: float = 0.0) -> tuple[Tensor, list[int]]:
    """The padding that PyTorch's function is to add; what it cannot, unequal sides, is added here."""
    if all(a == b >= 0 for a, b in sides):
        return x, [a for a, _ in sides]
    return functional.pad(x, [n for pair in reversed(sides) for n in pair], value=value), [0] * len(sides)


@operator("Conv")
def _conv(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    axes = weight.dim() - 2
    x, padding = _padded(x, _padding(node, x, list(weight.shape[2:])))
    return CONVOLUTIONS[axes](
        x, weight, bias, stride=node.get("strides", [1] * axes), padding=padding, dilation=node.get("dilations", [1] * axes),
        groups=node.get("group", 1),
    )  # fmt: skip


@operator("Gemm")
def _gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """alpha * A' * B' + beta * C, where ' transposes if so said."""
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    a = a.t() if node.get("transA", 0) else a
    weight = b if node.get("transB", 0) else b.t()
    bias = None if c is None or beta == 0 else c if beta == 1 else c * beta
    if alpha == 1 and (bias is None or (bias.dim() == 1 and bias.shape[0] == weight.shape[0])):
        return functional.linear(a, weight, bias)
    y = functional.linear(a, weight)
    y = y if alpha == 1 else y * alpha
    return y if bias is None else y + bias


@operator("MatMul")
def _matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return functional.linear(a, b.t()) if b.dim() == 2 and a.dim() == 2 else torch.matmul(a, b)


def _refuse_batch_norm(node: Node) -> str | None:
    return "computes its statistics from the batch (training mode)" if node.get("training_mode", 0) or len(node.outputs) > 1 else None


@operator("BatchNormalization", refuse=_refuse_batch_norm)
def _batch_norm(node: Node, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, variance, scale, shift, training=False, eps=node.get("epsilon", 1e-5))


def _refuse_pool(node: Node) -> str | None:
    if len(node.outputs) > 1:
        return "also returns the places of its maxima"
    if node.op == "AveragePool" and any(d != 1 for d in node.get("dilations", [])):
        return "has a dilated window"
    return None


@operator("AveragePool", refuse=_refuse_pool)
def _average_pool(node: Node, x: Tensor) -> Tensor:
    kernel, counted = node.get("kernel_shape"), bool(node.get("count_include_pad", 0))
    sides = _padding(node, x, kernel)
    if any(a != b for a, b in sides) and not counted:
        ones = torch.ones_like(x)
        total, _ = _padded(x, sides)
        weight, _ = _padded(ones, sides)
        return _average(node, total, kernel, [0] * len(kernel), True) / _average(node, weight, kernel, [0] * len(kernel), True)
    x, padding = _padded(x, sides)
    return _average(node, x, kernel, padding, counted)


def _average(node: Node, x: Tensor, kernel: list[int], padding: list[int], counted: bool) -> Tensor:
    strides = node.get("strides", [1] * len(kernel))
    return AVERAGES[len(kernel)](x, kernel, strides, padding, ceil_mode=bool(node.get("ceil_mode", 0)), count_include_pad=counted)


@operator("MaxPool", refuse=_refuse_pool)
def _max_pool(node: Node, x: Tensor) -> Any:
    kernel = node.get("kernel_shape")
    x, padding = _padded(x, _padding(node, x, kernel), float("-inf"))
    axes = len(kernel)
    return LARGEST[axes](
        x, kernel, node.get("strides", [1] * axes), padding, node.get("dilations", [1] * axes), ceil_mode=bool(node.get("ceil_mode", 0))
    )


@operator("GlobalAveragePool")
def _global_average(node: Node, x: Tensor) -> Tensor:
    return x.mean(dim=list(range(2, x.dim())), keepdim=True)


@operator("GlobalMaxPool")
def _global_max(node: Node, x: Tensor) -> Tensor:
    return x.amax(dim=list(range(2, x.dim())), keepdim=True)


@operator("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", static=(1,))
def _reduce(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Axes are an attribute first, an input later; none means all, unless the node says that it then does nothing."""
    chosen = numbers(axes) or [int(a) for a in node.get("axes", [])]
    if not chosen and node.get("noop_with_empty_axes", 0):
        return x
    return REDUCTIONS[node.op](x, dim=chosen or list(range(x.dim())), keepdim=bool(node.get("keepdims", 1)))

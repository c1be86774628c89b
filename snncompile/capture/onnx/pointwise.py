"""Elementwise operators. ONNX and PyTorch broadcast alike; whole numbers divide toward zero in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from snncompile.capture.onnx.node import DTYPES, Node, operator

UNARY: dict[str, Callable[..., Tensor]] = {
    "Neg": torch.neg, "Abs": torch.abs, "Exp": torch.exp, "Log": torch.log, "Sqrt": torch.sqrt, "Reciprocal": torch.reciprocal,
    "Floor": torch.floor, "Ceil": torch.ceil, "Round": torch.round, "Sign": torch.sign, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh,
    "Not": torch.logical_not, "Sin": torch.sin, "Cos": torch.cos, "Erf": torch.erf, "Softplus": torch.nn.functional.softplus,
    "IsNaN": torch.isnan, "Relu": torch.relu,
}  # fmt: skip
BINARY: dict[str, Callable[..., Tensor]] = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Pow": torch.pow, "Greater": torch.gt, "GreaterOrEqual": torch.ge,
    "Less": torch.lt, "LessOrEqual": torch.le, "Equal": torch.eq, "And": torch.logical_and, "Or": torch.logical_or,
    "Xor": torch.logical_xor,
}  # fmt: skip


def _unary(node: Node, x: Tensor) -> Any:
    return UNARY[node.op](x)


def _binary(node: Node, a: Tensor, b: Tensor) -> Any:
    if node.op == "Pow":
        return torch.pow(a, b).to(a.dtype)
    return BINARY[node.op](a, b)


operator(*UNARY)(_unary)
operator(*BINARY)(_binary)


@operator("Div")
def _div(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


@operator("Mod")
def _mod(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if node.get("fmod", 0) else torch.remainder(a, b)


@operator("Sum")
def _sum(node: Node, *xs: Tensor) -> Tensor:
    return reduce(torch.add, xs)


@operator("Mean")
def _mean(node: Node, *xs: Tensor) -> Tensor:
    return reduce(torch.add, xs) / len(xs)


@operator("Min")
def _min(node: Node, *xs: Tensor) -> Tensor:
    return reduce(torch.minimum, xs)


@operator("Max")
def _max(node: Node, *xs: Tensor) -> Tensor:
    return reduce(torch.maximum, xs)


@operator("Clip", static=(1, 2))
def _clip(node: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Bounds are inputs since opset 11, attributes before."""
    bounds = [node.get("min") if low is None else low.item(), node.get("max") if high is None else high.item()]
    return x if bounds == [None, None] else torch.clamp(x, *bounds)


@operator("LeakyRelu")
def _leaky_relu(node: Node, x: Tensor) -> Tensor:
    return torch.where(x >= 0, x, x * node.get("alpha", 0.01))


@operator("ThresholdedRelu")
def _thresholded_relu(node: Node, x: Tensor) -> Tensor:
    return torch.where(x > node.get("alpha", 1.0), x, torch.zeros_like(x))


@operator("HardSigmoid")
def _hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return torch.clamp(node.get("alpha", 0.2) * x + node.get("beta", 0.5), 0, 1)


@operator("PRelu")
def _prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x >= 0, x, x * slope)


@operator("Where")
def _where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition, a, b)


@operator("Cast", refuse=lambda node: None if node.get("to") in DTYPES else f"casts to type {node.get('to')}")
def _cast(node: Node, x: Tensor) -> Tensor:
    return x.to(DTYPES[node.get("to")])


@operator("CastLike")
def _cast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)


@operator("Identity")
def _identity(node: Node, x: Tensor) -> Tensor:
    return x


@operator("Dropout", refuse=lambda node: "drops at random" if len(node.inputs) > 2 and node.inputs[2] else None)
def _dropout(node: Node, x: Tensor, *_: Tensor | None) -> Tensor | tuple[Tensor, Tensor]:
    """Outside training, the identity."""
    return (x, torch.ones_like(x, dtype=torch.bool)) if len(node.outputs) > 1 else x

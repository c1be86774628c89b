"""NIR's nodes without state as ops of the float dialect.

A value of two axes (channels, length) is carried as three, (channels, 1, length): one-dimensional convolutions are two-dimensional
ones with a kernel of height 1, and everything else flattens in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from snncompile.capture.nir.nodes import RawNode
from snncompile.capture.nir.schema import numbers
from snncompile.errors import Diagnostic
from snncompile.ir.graph import Array, Op, Shape
from snncompile.ir.linear_ops import AvgPool2d, Conv2d, Diagonal, Gather, Linear, Sides


def carried(shape: Shape) -> Shape:
    """The shape in which a value of a NIR shape is carried."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else shape


def misfit(node: RawNode, message: str) -> Diagnostic:
    """A shape that does not fit a node."""
    return Diagnostic("SNN163", f"node {node.label}: {message}")


def output_shape(node: RawNode, shape: Shape) -> Shape | Diagnostic:
    """The NIR shape of a node's output from that of its input, or what does not fit."""
    f = node.fields
    if node.type in ("Affine", "Linear"):
        weight = np.asarray(f["weight"])
        if node.type == "Affine" and np.shape(f["bias"]) != weight.shape[:1]:
            return misfit(
                node, f"field 'bias' has shape {list(np.shape(f['bias']))}, the weight {list(weight.shape)} wants [{weight.shape[0]}]"
            )
        if shape != (weight.shape[1],):
            hint = "; is a Flatten node missing?" if prod(shape) == weight.shape[1] else ""
            return misfit(node, f"its weight {list(weight.shape)} reads {weight.shape[1]} values, its input has shape {list(shape)}{hint}")
        return (weight.shape[0],)
    if node.type in ("Conv1d", "Conv2d"):
        return _conv_shape(node, shape)
    if node.type in ("SumPool2d", "AvgPool2d"):
        if len(shape) != 3:
            return misfit(node, f"reads (channels, height, width), its input has shape {list(shape)}")
        kernel, stride, padding = (numbers(node, name, 2) for name in ("kernel_size", "stride", "padding"))
        size = tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(shape[1:], kernel, stride, padding, strict=True))
        return (shape[0], *size) if min(size) > 0 else misfit(node, f"its window {list(kernel)} is larger than its input {list(shape)}")
    if node.type == "Flatten":
        return _flat_shape(node, shape)
    if node.type == "Scale":
        return _broadcast(node, "scale", shape)
    if node.type == "Delay":
        return _broadcast(node, "delay", shape)
    return shape


def _broadcast(node: RawNode, name: str, shape: Shape) -> Shape | Diagnostic:
    own = np.shape(node.fields[name])
    if prod(own) == 1 or own == shape:
        return shape
    return misfit(node, f"field '{name}' has shape {list(own)}, its input {list(shape)}")


def parameter_misfits(node: RawNode, names: tuple[str, ...], shape: Shape) -> Iterator[Diagnostic]:
    """Fields of a neuron that do not fit the shape of its population."""
    for name in names:
        if name in node.fields:
            found = _broadcast_loosely(node, name, shape)
            if found is not None:
                yield found


def _broadcast_loosely(node: RawNode, name: str, shape: Shape) -> Diagnostic | None:
    own = np.shape(node.fields[name])
    try:
        fits = prod(own) == 1 or (len(own) == len(shape) and np.broadcast_shapes(own, shape) == shape)
    except ValueError:
        fits = False
    return None if fits else misfit(node, f"field '{name}' has shape {list(own)}, its input {list(shape)}")


def _conv_shape(node: RawNode, shape: Shape) -> Shape | Diagnostic:
    axes = 1 if node.type == "Conv1d" else 2
    weight, (groups,) = np.asarray(node.fields["weight"]), numbers(node, "groups")
    if len(shape) != axes + 1:
        return misfit(
            node, f"reads {'(channels, length)' if axes == 1 else '(channels, height, width)'}, its input has shape {list(shape)}"
        )
    if weight.shape[1] * groups != shape[0] or weight.shape[0] % groups:
        return misfit(node, f"its weight {list(weight.shape)} with {groups} group(s) does not fit {shape[0]} input channels")
    if np.shape(node.fields["bias"]) not in ((weight.shape[0],), ()):
        return misfit(node, f"field 'bias' has shape {list(np.shape(node.fields['bias']))}, must be [{weight.shape[0]}]")
    if "input_shape" in node.fields and numbers(node, "input_shape", axes) != shape[1:]:
        return misfit(node, f"field 'input_shape' says {list(numbers(node, 'input_shape', axes))}, its input has {list(shape[1:])}")
    op = _conv(node, "c", "x", carried(shape))
    try:
        out = op.infer(carried(shape))
    except ValueError as e:
        return misfit(node, str(e))
    return out if axes == 2 else (out[0], out[2])


def _flat_shape(node: RawNode, shape: Shape) -> Shape | Diagnostic:
    (start,), (end,) = numbers(node, "start_dim"), numbers(node, "end_dim")
    first, last = (n + len(shape) if n < 0 else n for n in (start, end))
    if not 0 <= first <= last < len(shape):
        return misfit(node, f"it flattens axes {start} to {end}, its input has shape {list(shape)}")
    return (*shape[:first], prod(shape[first : last + 1]), *shape[last + 1 :])


def _conv(node: RawNode, name: str, source: str, shape: Shape) -> Conv2d:
    axes = 1 if node.type == "Conv1d" else 2
    weight = np.asarray(node.fields["weight"], dtype=np.float64)
    stride, dilation = numbers(node, "stride", axes), numbers(node, "dilation", axes)
    if axes == 1:
        weight, stride, dilation = weight[:, :, None], (1, *stride), (1, *dilation)
    bias = np.broadcast_to(np.asarray(node.fields["bias"], dtype=np.float64), weight.shape[:1])
    return Conv2d(
        name=name, inputs=(source,), origin=(node.path,), weight=weight, bias=bias.reshape(1, -1, 1, 1).copy() if np.any(bias) else None,
        stride=(stride[0], stride[1]), dilation=(dilation[0], dilation[1]), padding=_padding(node, weight, dilation, axes),
        groups=numbers(node, "groups")[0],
    )  # fmt: skip


def _padding(node: RawNode, weight: Array, dilation: tuple[int, ...], axes: int) -> Sides:
    """PyTorch's: ``same`` puts the odd zero behind."""
    mode = node.fields["padding"]
    if isinstance(mode, str):
        sides = [d * (k - 1) if mode == "same" else 0 for k, d in zip(weight.shape[2:], dilation, strict=True)]
        return (sides[0] // 2, sides[0] - sides[0] // 2, sides[1] // 2, sides[1] - sides[1] // 2)
    pair = numbers(node, "padding", axes)
    h, w = pair if axes == 2 else (0, pair[0])
    return (h, h, w, w)


def make_layer(node: RawNode, name: str, source: str, shape: Shape) -> Op:
    """The op of a node; shapes have been checked."""
    f, inputs, origin = node.fields, (source,), (node.path,)
    if node.type in ("Affine", "Linear"):
        bias = np.asarray(f["bias"], dtype=np.float64) if node.type == "Affine" else np.zeros(1)
        weight = np.asarray(f["weight"], dtype=np.float64)
        return Linear(name=name, inputs=inputs, origin=origin, weight=weight, bias=bias[None] if np.any(bias) else None)
    if node.type in ("Conv1d", "Conv2d"):
        return _conv(node, name, source, carried(shape))
    if node.type in ("SumPool2d", "AvgPool2d"):
        kernel, stride, padding = (numbers(node, label, 2) for label in ("kernel_size", "stride", "padding"))
        if node.type == "AvgPool2d":
            return AvgPool2d(
                name=name,
                inputs=inputs,
                origin=origin,
                kernel=(kernel[0], kernel[1]),
                stride=(stride[0], stride[1]),
                padding=(padding[0], padding[1]),
            )
        ones = np.ones((shape[0], 1, *kernel))
        sides = (padding[0], padding[0], padding[1], padding[1])
        return Conv2d(name=name, inputs=inputs, origin=origin, weight=ones, stride=(stride[0], stride[1]), padding=sides, groups=shape[0])
    if node.type == "Scale":
        scale = np.asarray(f["scale"], dtype=np.float64)
        own = scale.reshape(carried(shape)) if scale.size > 1 else scale.reshape((1,) * len(carried(shape)))
        return Diagonal(name=name, inputs=inputs, origin=origin, weight=own)
    flat = output_shape(node, shape)
    assert isinstance(flat, tuple)
    return Gather(name=name, inputs=inputs, origin=origin, index=np.arange(prod(shape)).reshape(carried(flat)))


__all__ = ["carried", "make_layer", "misfit", "output_shape", "parameter_misfits"]

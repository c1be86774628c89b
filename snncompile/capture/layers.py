"""ATen layers as IR ops: convolution, dense, batch norm, pooling; and data movement as gathers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from snncompile.capture.expressions import base
from snncompile.capture.roll import PerStep, Prev
from snncompile.capture.trace import Raw, Ref
from snncompile.errors import Location
from snncompile.ir.graph import Array, Op
from snncompile.ir.linear_ops import Affine, AvgPool2d, Conv2d, Gather, Linear
from snncompile.ir.max_pool import MaxPool2d

if TYPE_CHECKING:
    from snncompile.capture.emit import Builder

Make = Callable[[str, tuple[str, ...], Location | None], Op]
MOVES = {
    "view", "reshape", "_unsafe_view", "flatten", "squeeze", "unsqueeze", "permute", "transpose", "t", "slice", "select", "expand",
    "constant_pad_nd", "upsample_nearest2d", "_upsample_nearest_exact2d", "flip", "roll", "repeat", "index_select", "pixel_shuffle",
    "pixel_unshuffle", "movedim", "narrow", "channel_shuffle",
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One IR op to be made: which argument it reads, and how."""

    source: Any
    op: Make


def moved_index(raw: Raw, shape: tuple[int, ...]) -> Array:
    """The gather of a data movement, found by moving numbered elements; 0 marks padding, so -1 in the result."""
    numbered = torch.arange(1, prod(shape) + 1, dtype=torch.float64).reshape(shape)
    moved = raw.function(numbered, *raw.args[1:], **raw.kwargs)
    index: Array = moved.round().to(torch.int64).numpy() - 1
    return index


def number(leaf: Any) -> Array | None:
    """A parameter in float64, or None if it is absent."""
    if leaf is None:
        return None
    if isinstance(leaf, PerStep):
        return np.stack([np.asarray(number(v)) for v in leaf.values])
    array: Array = leaf.detach().to(torch.float64).cpu().numpy()
    return array


def trained(leaf: Any) -> Array:
    """A layer's weights: the memory of a float32 tensor as it is, anything else in float64. They are widened where they are used."""
    array: Array = leaf.detach().cpu().numpy()
    return array if array.dtype == np.float32 else array.astype(np.float64)


def _is_value(leaf: Any) -> bool:
    return isinstance(leaf, (Ref, Prev))


def _fixed(raw: Raw, b: Builder, *leaves: Any) -> None:
    if any(_is_value(leaf) or isinstance(leaf, PerStep) for leaf in leaves):
        raise b.impossible(
            raw,
            f"the weights of '{raw.op}' change with the input or the step",
            "keep weights constant; only neurons' parameters may vary per step",
        )


def _convolution(raw: Raw, b: Builder) -> list[Layer]:
    x, w, bias, stride, padding, dilation, transposed, _, groups = raw.args[:9]
    _fixed(raw, b, w, bias)
    weight = trained(w)
    if weight.ndim == 3 and not transposed:
        return _along_a_line(raw, b, x, weight, bias)
    if transposed or weight.ndim != 4:
        kind = "transposed" if transposed else f"{weight.ndim - 2}-dimensional"
        raise b.impossible(raw, f"a {kind} convolution cannot be deployed", "use nn.Conv2d (with nearest upsampling in front, if need be)")
    offset = number(bias)
    (ph, pw) = padding if len(padding) == 2 else (padding[0], padding[0])
    shaped = None if offset is None else offset.reshape(1, -1, 1, 1)
    return [Layer(x, lambda name, inputs, loc: Conv2d(
        name=name, inputs=inputs, loc=loc, weight=weight, bias=shaped, stride=_pair(stride), padding=(ph, ph, pw, pw),
        dilation=_pair(dilation), groups=groups,
    ))]  # fmt: skip


def _along_a_line(raw: Raw, b: Builder, x: Any, weight: Array, bias: Any) -> list[Layer]:
    """A one-dimensional convolution is one over maps of a single row."""
    stride, padding, dilation, _, _, groups = (*raw.args[3:9],)
    offset = number(bias)
    shaped = None if offset is None else offset.reshape(1, -1, 1, 1)
    before, after = b.raw_shape(x)[-2:], b.shape(raw.name)
    rows, line = (np.arange(prod(n)).reshape(n[0], 1, n[1]) for n in (before, after))
    return [
        Layer(x, lambda name, inputs, loc: Gather(name=name, inputs=inputs, loc=loc, index=rows)),
        Layer(x, lambda name, inputs, loc: Conv2d(
            name=name, inputs=inputs, loc=loc, weight=weight[:, :, None], bias=shaped, stride=(1, int(stride[0])),
            padding=(0, 0, int(padding[0]), int(padding[0])), dilation=(1, int(dilation[0])), groups=groups,
        )),
        Layer(x, lambda name, inputs, loc: Gather(name=name, inputs=inputs, loc=loc, index=line.reshape(after))),
    ]  # fmt: skip


def _pair(value: Any) -> tuple[int, int]:
    return (int(value[0]), int(value[-1])) if isinstance(value, (list, tuple)) else (int(value), int(value))


def _dense(raw: Raw, b: Builder) -> list[Layer]:
    op = base(raw)
    bias: Any = None
    if op == "addmm":
        bias, x, w = raw.args[:3]
        if raw.kwargs.get("alpha", 1) != 1 or raw.kwargs.get("beta", 1) != 1:
            raise b.impossible(raw, "addmm with alpha or beta other than 1")
    elif op == "linear":
        x, w, *rest = raw.args
        bias = rest[0] if rest else None
    else:
        x, w = raw.args[:2]
    turned = not _is_value(x) and _is_value(w) and op != "linear"  # weight @ x, for one sample
    x, w = (w, x) if turned else (x, w)
    _fixed(raw, b, w, bias)
    weight = trained(w)
    weight = weight[0] if op == "bmm" and weight.shape[:1] == (1,) else weight
    weight = weight if op == "linear" or turned else weight.T
    offset = number(bias)
    if weight.ndim != 2 or prod(b.raw_shape(x)) != weight.shape[1]:
        raise b.impossible(raw, f"'{raw.op}' over more than the last axis", "flatten the features before a dense layer")
    shaped = None if offset is None else offset.reshape(1, -1)
    return [Layer(x, lambda name, inputs, loc: Linear(name=name, inputs=inputs, loc=loc, weight=weight, bias=shaped))]


def _batch_norm(raw: Raw, b: Builder) -> list[Layer]:
    if base(raw) == "_native_batch_norm_legit_no_training":
        x, gamma, beta, mean, var, _, eps = raw.args[:7]
    else:
        x, gamma, beta, mean, var, training, _, eps = raw.args[:8]
        if training:
            raise b.impossible(
                raw, "batch norm normalises with the statistics of the batch", "call model.eval(), with track_running_stats=True"
            )
    if _is_value(mean) or _is_value(var):
        raise b.impossible(raw, "batch norm normalises with statistics of the input", "call model.eval(), with track_running_stats=True")
    tail = (1,) * (len(b.shape(raw.name)) - 1)

    def rows(leaf: Any, default: float) -> Array:
        """A parameter per channel as (1 | T, C, 1, 1): a network may have a batch norm for every step."""
        value = number(leaf)
        channels = np.full((1, 1), default) if value is None else value.reshape(-1, value.shape[-1])
        return channels.reshape(*channels.shape, *tail)

    factor = rows(gamma, 1.0) / np.sqrt(rows(var, 1.0) + eps)
    shift = rows(beta, 0.0) - rows(mean, 0.0) * factor
    return [Layer(x, lambda name, inputs, loc: Affine(name=name, inputs=inputs, loc=loc, factor=factor, shift=shift))]


def _avg_pool(raw: Raw, b: Builder) -> list[Layer]:
    x, kernel, *rest = raw.args
    stride, padding, ceil, count_pad, divisor = (*rest, *(None,) * 5)[:5]
    k, p = _pair(kernel), _pair(padding or 0)
    s = _pair(stride) if stride else k
    include = True if count_pad is None else bool(count_pad)
    layers = [
        Layer(
            x,
            lambda name, inputs, loc: AvgPool2d(
                name=name, inputs=inputs, loc=loc, kernel=k, stride=s, padding=p, count_include_pad=include
            ),
        )
    ]
    if ceil and b.shape(raw.name) != AvgPool2d(name="p", kernel=k, stride=s, padding=p).infer(b.raw_shape(x)[-3:]):
        raise b.impossible(raw, "average pooling with ceil_mode over a map it does not divide", "use ceil_mode=False")
    if divisor:
        factor = np.full((1, 1, 1, 1), k[0] * k[1] / divisor)
        layers.append(
            Layer(x, lambda name, inputs, loc: Affine(name=name, inputs=inputs, loc=loc, factor=factor, shift=np.zeros_like(factor)))
        )
    return layers


def reduced_axes(raw: Raw, shape: tuple[int, ...]) -> list[int]:
    """The axes over which a mean or sum goes."""
    dims = raw.args[1] if len(raw.args) > 1 and raw.args[1] is not None else list(range(len(shape)))
    return sorted(d % len(shape) for d in ([dims] if isinstance(dims, int) else dims))


def is_spatial(raw: Raw, shape: tuple[int, ...]) -> bool:
    """Whether a mean or sum goes over both spatial axes of a feature map: a pooling."""
    return len(shape) >= 3 and reduced_axes(raw, shape) == [len(shape) - 2, len(shape) - 1]


def _reduce(raw: Raw, b: Builder) -> list[Layer]:
    """Mean or sum over both spatial axes."""
    x = raw.args[0]
    shape = b.raw_shape(x)
    spatial = shape[-3:]
    layers = [
        Layer(
            x, lambda name, inputs, loc: AvgPool2d(name=name, inputs=inputs, loc=loc, kernel=_pair(spatial[1:]), stride=_pair(spatial[1:]))
        )
    ]
    if base(raw) == "sum":
        factor = np.full((1, 1, 1, 1), float(spatial[1] * spatial[2]))
        layers.append(
            Layer(x, lambda name, inputs, loc: Affine(name=name, inputs=inputs, loc=loc, factor=factor, shift=np.zeros_like(factor)))
        )
    if len(raw.shape) != len(shape):
        index = np.arange(spatial[0])
        layers.append(Layer(x, lambda name, inputs, loc: Gather(name=name, inputs=inputs, loc=loc, index=index)))
    return layers


def _adaptive(raw: Raw, b: Builder) -> list[Layer]:
    """Window i of o over n pixels is floor(i n / o) .. ceil((i + 1) n / o) - 1. Uneven windows are laid out on a grid of their own."""
    x, size = raw.args[:2]
    sizes = [n if o is None else int(o) for n, o in zip(b.raw_shape(x)[-2:], size, strict=True)]
    c, (h, w) = b.raw_shape(x)[-3], b.raw_shape(x)[-2:]
    rows, columns = (_windows(n, o) for n, o in zip((h, w), sizes, strict=True))
    k = (rows.shape[1], columns.shape[1])
    pool = Layer(x, lambda name, inputs, loc: AvgPool2d(name=name, inputs=inputs, loc=loc, kernel=k, stride=k))
    if rows.size == h and columns.size == w and rows.min() >= 0 and columns.min() >= 0:  # windows that tile the map
        return [pool]
    at = np.where((rows.reshape(-1, 1) < 0) | (columns.reshape(1, -1) < 0), -1, rows.reshape(-1, 1) * w + columns.reshape(1, -1))
    index = np.where(at < 0, -1, np.arange(c)[:, None, None] * h * w + at)
    counts = (rows >= 0).sum(axis=1)[:, None] * (columns >= 0).sum(axis=1)[None]
    factor = (k[0] * k[1] / counts)[None, None]
    return [
        Layer(x, lambda name, inputs, loc: Gather(name=name, inputs=inputs, loc=loc, index=index)), pool,
        Layer(x, lambda name, inputs, loc: Affine(name=name, inputs=inputs, loc=loc, factor=factor, shift=np.zeros((1, 1, 1, 1)))),
    ]  # fmt: skip


def _windows(n: int, windows: int) -> Array:
    """The pixels of each window, (windows, widest), -1 behind the end of a shorter one."""
    bounds = [(i * n // windows, -(-(i + 1) * n // windows)) for i in range(windows)]
    widest = max(end - start for start, end in bounds)
    return np.array([[start + k if start + k < end else -1 for k in range(widest)] for start, end in bounds])


def _max_pool(raw: Raw, b: Builder) -> list[Layer]:
    x, kernel, *rest = raw.args
    stride, padding, dilation, ceil = (*rest, *(None,) * 4)[:4]
    k, p = _pair(kernel), _pair(padding or 0)
    s, d = _pair(stride) if stride else k, _pair(dilation or 1)
    sides = (p[0], p[0], p[1], p[1])
    if ceil:  # windows that begin inside the map and end outside: padding on the far sides, which never wins
        past = [(n - 1) * st + di * (ke - 1) + 1 - m - 2 * pa for n, m, st, di, ke, pa in
                zip(raw.shape[-2:], b.raw_shape(x)[-2:], s, d, k, p, strict=True)]  # fmt: skip
        sides = (p[0], p[0] + max(past[0], 0), p[1], p[1] + max(past[1], 0))
    return [Layer(x, lambda name, inputs, loc: MaxPool2d(
        name=name, inputs=inputs, loc=loc, kernel=k, stride=s, padding=sides, dilation=d))]  # fmt: skip


LAYERS: dict[str, Callable[[Raw, Builder], list[Layer]]] = {
    "convolution": _convolution, "conv2d": _convolution, "addmm": _dense, "mm": _dense, "matmul": _dense, "linear": _dense, "bmm": _dense,
    "native_batch_norm": _batch_norm, "cudnn_batch_norm": _batch_norm, "_native_batch_norm_legit_no_training": _batch_norm,
    "avg_pool2d": _avg_pool, "mean": _reduce, "sum": _reduce, "_adaptive_avg_pool2d": _adaptive, "adaptive_avg_pool2d": _adaptive,
    "max_pool2d_with_indices": _max_pool, "max_pool2d": _max_pool,
}  # fmt: skip

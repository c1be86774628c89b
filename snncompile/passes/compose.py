"""Two linear maps in a row as one: two convolutions of which one is depthwise, or a dense layer behind a depthwise convolution."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir.graph import Array, Shape
from snncompile.ir.linear_ops import Conv2d


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of two convolutions in a row, as one: padding, and the rows ``first..last`` of the input that it may see."""

    pad: tuple[int, int]
    first: int
    last: int


def is_depthwise(op: Conv2d) -> bool:
    """Whether each output channel reads the input channel of the same number, as in pooling."""
    return op.weight.shape[:2] == (op.groups, 1)


def composed(outer: Conv2d, inner: Conv2d, x: Shape, mid: Shape, out: Shape) -> tuple[Conv2d, Array | None] | str:
    """One convolution for ``outer(inner(x))``, one of them depthwise, both without bias; and the index of a crop in front of it.

    Kernel ``d2 * s1 * (k2 - 1) + d1 * (k1 - 1) + 1``, stride ``s1 * s2``. Exact only if the rows that ``outer`` takes for padding
    of the middle map would be zero in the merged convolution too; otherwise the reason why not is returned.
    """
    axes: list[Axis] = []
    for k, name in enumerate(("rows", "columns")):
        axis = _axis(outer, inner, k, (x[1 + k], mid[1 + k], out[1 + k]))
        if axis is None:
            return f"windows at the border overlap {name} that the padding of '{outer.name}' hides"
        axes.append(axis)
    o, _, kh, kw = outer.weight.shape
    (ih, iw), (s1h, s1w) = inner.weight.shape[2:], inner.stride
    (d1h, d1w), (d2h, d2w) = inner.dilation, outer.dilation
    size = (d2h * s1h * (kh - 1) + d1h * (ih - 1) + 1, d2w * s1w * (kw - 1) + d1w * (iw - 1) + 1)
    if is_depthwise(inner):
        groups, per_group = outer.groups, outer.weight.shape[1]
        taps = np.repeat(inner.weight.reshape(groups, per_group, ih, iw), o // groups, axis=0)
    else:
        groups, per_group, taps = inner.groups, inner.weight.shape[1], inner.weight
    taps = np.asarray(taps, dtype=np.float64)
    weight = np.zeros((o, per_group, *size))
    for a in range(kh):
        for b in range(kw):
            top, left = a * d2h * s1h, b * d2w * s1w
            rows = slice(top, top + d1h * (ih - 1) + 1, d1h)
            columns = slice(left, left + d1w * (iw - 1) + 1, d1w)
            weight[:, :, rows, columns] += outer.weight[:, :, a, b, None, None] * taps
    conv = replace(
        outer, weight=weight, bias=None, groups=groups, stride=(s1h * outer.stride[0], s1w * outer.stride[1]), dilation=(1, 1),
        padding=(*axes[0].pad, *axes[1].pad),
    )  # fmt: skip
    if all(axis.first == 0 and axis.last == n - 1 for axis, n in zip(axes, x[1:], strict=True)):
        return conv, None
    index = np.arange(int(np.prod(x))).reshape(x)
    return conv, index[:, axes[0].first : axes[0].last + 1, axes[1].first : axes[1].last + 1]


def _axis(outer: Conv2d, inner: Conv2d, k: int, sizes: tuple[int, int, int]) -> Axis | None:
    """The merged geometry of axis ``k``; None if it cannot be exact, even with the input cropped to the rows in use.

    ``sizes`` of the input, the middle map and the output.
    """
    n, middle, size = sizes
    k1, s1, d1, p1 = inner.weight.shape[2 + k], inner.stride[k], inner.dilation[k], inner.padding[2 * k]
    k2, s2, d2, p2 = outer.weight.shape[2 + k], outer.stride[k], outer.dilation[k], outer.padding[2 * k]
    touched = {q * s2 - p2 + h * d2 for q in range(size) for h in range(k2)}

    def rows(p: int) -> set[int]:
        return {p * s1 - p1 + h * d1 for h in range(k1)}

    hidden = set().union(*(rows(p) for p in touched if not 0 <= p < middle))
    used = set().union(*(rows(p) for p in touched if 0 <= p < middle)) & set(range(n))
    first, last = 0, n - 1
    if hidden & set(range(n)):
        if not used:
            return None
        first, last = min(used), max(used)
        if hidden & set(range(first, last + 1)):
            return None
    pad = p2 * s1 + p1 + first
    kernel = d2 * s1 * (k2 - 1) + d1 * (k1 - 1) + 1
    reach = (size - 1) * s1 * s2 + kernel - 1 - pad
    return Axis((pad, reach - (last - first)), first, last)


def _inside(pad: int, taps: int, step: int, size: int) -> tuple[slice, slice]:
    """The places of a line of this size that one window covers, and their taps."""
    first = -(-pad // step) if pad > 0 else 0
    last = min(taps, (size - 1 + pad) // step + 1)
    return slice(first * step - pad, (last - 1) * step - pad + 1, step), slice(first, last)


def dense_behind_depthwise(weight: Array, inner: Conv2d, x: Shape, mid: Shape) -> Array:
    """The weights of a dense layer on ``x`` for one that reads ``inner(x)``, ``inner`` depthwise without bias."""
    outs = weight.shape[0]
    per_map, kernel = weight.reshape(outs, *mid), np.asarray(inner.weight[:, 0], dtype=np.float64)
    result = np.zeros((outs, *x))
    if mid[1:] == (1, 1):  # one window: global pooling
        (rows_in, taps_in), (columns_in, more_in) = (
            _inside(inner.padding[2 * k], inner.weight.shape[2 + k], inner.dilation[k], x[1 + k]) for k in (0, 1)
        )
        np.multiply(per_map, kernel[:, taps_in, more_in], out=result[:, :, rows_in, columns_in])
        return result.reshape(outs, -1)
    for h in range(inner.weight.shape[2]):
        rows = np.arange(mid[1]) * inner.stride[0] - inner.padding[0] + h * inner.dilation[0]
        for w in range(inner.weight.shape[3]):
            columns = np.arange(mid[2]) * inner.stride[1] - inner.padding[2] + w * inner.dilation[1]
            r, c = (rows >= 0) & (rows < x[1]), (columns >= 0) & (columns < x[2])
            tap = per_map[:, :, r][:, :, :, c] * kernel[:, h, w][:, None, None]
            result[:, :, rows[r][:, None], columns[c]] += tap
    return result.reshape(outs, -1)

"""Convolution geometry shared by the float interpreter and the bound analysis (the integer reference has its own)."""

from __future__ import annotations

import numpy as np

from snncompile.ir.graph import Array
from snncompile.ir.linear_ops import Conv2d, Sides

BLOCK = 2**21


def pad_or_crop(x: Array, sides: Sides) -> Array:
    """Zero-pad the last two axes by (top, bottom, left, right); negative sides crop."""
    top, bottom, left, right = sides
    h, w = x.shape[-2:]
    x = x[..., max(-top, 0) : h - max(-bottom, 0), max(-left, 0) : w - max(-right, 0)]
    grow = [(0, 0)] * (x.ndim - 2) + [(max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))]
    return np.pad(x, grow) if any(a or b for a, b in grow) else x


def patches(x: Array, op: Conv2d) -> Array:
    """Windows of a batch ``(N, C, H, W)`` as ``(N, P, Q, C, kh, kw)``, a view."""
    kh, kw = op.weight.shape[2:]
    (dh, dw), (sh, sw) = op.dilation, op.stride
    padded = pad_or_crop(x, op.padding)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (dh * (kh - 1) + 1, dw * (kw - 1) + 1), axis=(2, 3))
    windows = windows[:, :, ::sh, ::sw, ::dh, ::dw]
    return windows.transpose(0, 2, 3, 1, 4, 5)


def correlate(x: Array, op: Conv2d, weight: Array | None = None) -> Array:
    """``op`` without its bias on a batch ``(N, C, H, W)`` of any dtype, in float64; ``weight`` replaces the op's own.

    One matrix product per group and block of samples; a block's windows are laid out in at most ``BLOCK`` numbers (but for one sample).
    """
    w = op.weight if weight is None else weight
    out, per_group, kh, kw = w.shape
    kernels = w.reshape(op.groups, out // op.groups, -1).astype(np.float64, copy=False)
    p, q = patches(x[:1], op).shape[1:3]
    y = np.empty((len(x), out, p, q))
    block = max(1, BLOCK // (per_group * op.groups * kh * kw * p * q))
    for start in range(0, len(x), block):
        windows = patches(x[start : start + block], op).transpose(3, 4, 5, 0, 1, 2)
        columns = np.ascontiguousarray(windows, dtype=np.float64).reshape(op.groups, per_group * kh * kw, -1)
        y[start : start + block] = np.matmul(kernels, columns).reshape(out, -1, p, q).swapaxes(0, 1)
    return y

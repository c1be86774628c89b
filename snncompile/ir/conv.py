"""Convolution geometry shared by the float interpreter and the bound analysis (the integer reference has its own)."""

from __future__ import annotations

import numpy as np

from snncompile.ir.graph import Array
from snncompile.ir.linear_ops import Conv2d, Sides


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
    """``op`` without its bias on a batch ``(N, C, H, W)``, one matrix product per group; ``weight`` replaces the op's own."""
    w = op.weight if weight is None else weight
    out, per_group = w.shape[:2]
    windows = patches(x, op)
    n, p, q = windows.shape[:3]
    parts = []
    for g in range(op.groups):
        columns = windows[:, :, :, g * per_group : (g + 1) * per_group].reshape(n * p * q, -1)
        kernel = w[g * out // op.groups : (g + 1) * out // op.groups].reshape(out // op.groups, -1)
        parts.append(columns @ kernel.T)
    y = np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
    return y.reshape(n, p, q, out).transpose(0, 3, 1, 2)

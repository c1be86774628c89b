"""Synapses: integer payload vector in, int64 accumulator out, exact and as fast as BLAS allows.

Every partial sum is an integer of magnitude at most ``bound = max over rows of sum |w|, times the largest payload``. Integers
below 2**24 (2**53) are exact in float32 (float64) whatever the order of summation, so BLAS may be used; beyond, int64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .plan import PlanError, Port

Synapse = Callable[[np.ndarray], np.ndarray]


def make_synapse(port: Port, shape: tuple[int, ...], largest_payload: int) -> Synapse:
    """Return the function from the source's flat int32 payload to the accumulator of ``shape``, before the exponent."""
    where = f"synapse from '{port.source}'"
    exact = exact_dtype(port, largest_payload, where)
    builder = {"conv2d": _conv2d, "linear": _linear, "diagonal": _diagonal}[port.kind]
    source_shape = port.source_shape if port.gather is None else port.gather.shape
    apply, out_size = builder(port, source_shape, shape, exact, where)
    size = int(np.prod(shape))
    if out_size != size:
        raise PlanError(f"{where} gives {out_size} values, the population has {size}")
    gather = _gather(port, where)
    return lambda payload: apply(gather(payload)).reshape(shape)


def exact_dtype(port: Port, largest_payload: int, where: str) -> type:
    """Fastest number type in which every partial sum of ``port`` is exact."""
    weight = np.abs(port.weight.astype(np.int64))
    rows = int(weight.max(initial=0)) if port.kind == "diagonal" else int(weight.reshape(weight.shape[0], -1).sum(axis=1).max(initial=0))
    bound = rows * largest_payload
    if bound << port.exponent >= 2**62:
        raise PlanError(f"{where}: accumulator bound {bound} << {port.exponent} overflows 64 bits")
    if port.kind == "diagonal" or bound >= 2**53:
        return np.int64
    return np.float32 if bound < 2**24 else np.float64


def fits_builtin_dense(port: Port, largest_payload: int) -> bool:
    """True where Lava's built-in Dense computes ``weight @ payload`` exactly.

    PyDenseModelBitAcc with sign_mode MIXED and num_weight_bits 8 clips to [-256, 255] and floors to even; the accumulator is an
    int32 matrix product, shifted right by one for weight_exp = -1. Passing 2*q is therefore exact when q is in [-128, 127] (2*q is even
    and inside the clip range) and 2 * sum|q| * max|payload| < 2**31 (no wrap; the sum is even, so the shift loses nothing).
    A gather happens before the synapse and has no built-in, so it is fused.
    """
    if port.kind != "linear" or port.gather is not None or port.weight.ndim != 2:
        return False
    weight = port.weight.astype(np.int64)
    bound = 2 * int(np.abs(weight).sum(axis=1).max(initial=0)) * largest_payload
    return bool(weight.min(initial=0) >= -128 and weight.max(initial=0) <= 127 and bound < 2**31)


def _gather(port: Port, where: str) -> Synapse:
    if port.gather is None:
        return lambda payload: payload
    size, index = int(np.prod(port.source_shape)), np.asarray(port.gather).astype(np.int64)
    if index.size and (index.min() < -1 or index.max() >= size):
        raise PlanError(f"{where}: gather indices leave -1..{size - 1}")
    missing = index < 0
    if not missing.any():
        return lambda payload: payload[index]
    safe = np.where(missing, 0, index)
    return lambda payload: np.where(missing, 0, payload[safe])


def _linear(port: Port, source: tuple[int, ...], shape: tuple[int, ...], exact: type, where: str) -> tuple[Synapse, int]:
    n_in = int(np.prod(source))
    if port.weight.ndim != 2 or port.weight.shape[1] != n_in:
        raise PlanError(f"{where}: linear weight {port.weight.shape} does not fit {n_in} inputs")
    weight: np.ndarray = np.ascontiguousarray(port.weight, dtype=exact)
    return lambda x: (weight @ x.reshape(-1).astype(exact)).astype(np.int64), weight.shape[0]


def _diagonal(port: Port, source: tuple[int, ...], shape: tuple[int, ...], exact: type, where: str) -> tuple[Synapse, int]:
    weight = np.asarray(port.weight).astype(np.int64)
    if int(np.prod(source)) != int(np.prod(shape)) or np.broadcast_shapes(weight.shape, shape) != shape:
        raise PlanError(f"{where}: diagonal weight {weight.shape} and source {source} do not fit {shape}")
    return lambda x: x.reshape(shape) * weight, int(np.prod(shape))


def _conv2d(port: Port, source: tuple[int, ...], shape: tuple[int, ...], exact: type, where: str) -> tuple[Synapse, int]:
    """Cross-correlation as in PyTorch: im2col, then one matrix product per group."""
    groups, (sh, sw), (dh, dw), (top, bottom, left, right) = port.groups, port.stride, port.dilation, port.padding
    if len(source) != 3 or port.weight.ndim != 4 or source[0] != port.weight.shape[1] * groups or port.weight.shape[0] % groups:
        raise PlanError(f"{where}: conv2d weight {port.weight.shape} with {groups} groups does not fit input {source}")
    channels, height, width = source
    outputs, per_group, kh, kw = port.weight.shape
    padded_h, padded_w = height + top + bottom, width + left + right
    out_h, out_w = (padded_h - dh * (kh - 1) - 1) // sh + 1, (padded_w - dw * (kw - 1) - 1) // sw + 1
    if min(padded_h, padded_w, out_h, out_w) < 1:
        raise PlanError(f"{where}: conv2d leaves no output: {out_h} x {out_w}")
    weight: np.ndarray = np.ascontiguousarray(port.weight, dtype=exact).reshape(groups, outputs // groups, per_group * kh * kw)
    buffer: np.ndarray = np.zeros((channels, padded_h, padded_w), exact)
    kept = np.s_[:, max(-top, 0) : height - max(-bottom, 0), max(-left, 0) : width - max(-right, 0)]  # negative padding crops
    inside = np.s_[:, max(top, 0) : padded_h - max(bottom, 0), max(left, 0) : padded_w - max(right, 0)]
    sc, sy, sx = buffer.strides
    windows = np.lib.stride_tricks.as_strided(
        buffer, (channels, kh, kw, out_h, out_w), (sc, dh * sy, dw * sx, sh * sy, sw * sx), writeable=False
    )

    def apply(x: np.ndarray) -> np.ndarray:
        buffer[inside] = x.reshape(source)[kept]
        columns = windows.reshape(groups, per_group * kh * kw, out_h * out_w)
        sums: np.ndarray = (weight @ columns).astype(np.int64)
        return sums

    return apply, outputs * out_h * out_w

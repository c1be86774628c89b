"""Integer weights of up to 9 bits as synapses of the target's width, exactly."""

from __future__ import annotations

import numpy as np

from snncompile.ir.graph import Array

LOWEST, HIGHEST = -256, 254
"""What netx leaves as it is where signs are mixed; it clips the rest."""


def split(weight: Array, largest: int) -> list[tuple[Array, int]]:
    """Parts (q, e) with |q| <= largest and  weight = sum q * 2**e.

    lava-dl's weights are even and lie in -256..254, so they are 8 bits times 2; one part holds them all but for -256.
    """
    parts: list[tuple[Array, int]] = []
    rest = weight.astype(np.int64)
    while np.any(rest):
        bits = int(np.bitwise_or.reduce(np.abs(rest).reshape(-1)))
        e = (bits & -bits).bit_length() - 1
        q = np.clip(rest >> e, -largest, largest)
        parts.append((q, e))
        rest = rest - (q << e)
    return parts or [(rest, 0)]


def as_netx_runs_them(weight: Array) -> Array | None:
    """A dense layer's weights after netx's choice of bits and Lava's truncation; None where netx itself fails (all weights 0).

        netx   clip to -256..254 where signs are mixed; shift left by s = floor(log2(scale)) (+ 1 if signed) to fill 8 bits;
               n = the largest number of common zero bits (less 1 if signed); weight bits 8 - s - n, exponent -s
        Lava   sign mode from the shifted weights, clip to -256..255, 0..255 or -255..0, drop the lowest 8 - bits (+ 1 if mixed) bits
    Source  lava-dl netx/utils.py optimize_weight_bits; lava-nc 0.10.0 proc/dense, weightutils (no sign mode is passed on)
    """
    w = weight.astype(np.int64)
    if not np.any(w):
        return None
    if (w.max() > HIGHEST and w.min() < 0) or (w.min() < LOWEST and w.max() > 0):
        w = np.clip(w, LOWEST, HIGHEST)
    high, low = int(w.max()), int(w.min())
    signed = not (high < 0 or low >= 0)
    unsigned = -256 / low if high < 0 else 255 / max(high, 1)
    scale = min(127 / high if high else np.inf, -128 / low) if signed else unsigned
    shift = int(np.floor(np.log2(scale))) + signed
    if shift < 0:
        return None
    zeros = next((n for n in range(8, 0, -1) if not np.any(w % 2**n)), 0) - signed
    bits = 8 - shift - zeros
    w = w << shift
    mixed = w.min() < 0 < w.max()
    w = np.clip(w, -256, 255) if mixed else np.clip(w, 0, 255) if w.min() >= 0 else np.clip(w, -255, 0)
    drop = max(8 - bits + mixed, 0)
    w = -((-w >> drop) << drop) if w.max() <= 0 else (w >> drop) << drop
    return np.asarray(w >> shift)


__all__ = ["HIGHEST", "LOWEST", "as_netx_runs_them", "split"]

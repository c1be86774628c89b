"""Remainders of a population that sends whole numbers: what rounding leaves at one step is added at the next, so that sums lose nothing.

    k[t] = floor(x[t] + r[t]),   r[t+1] = x[t] + r[t] - k[t],   r[0] uniform in 0..1 by the neuron:    sum of k = floor(sum of x + r[0])

whose mean over all r[0] is the sum of x: no bias, and an error below 1, however long the stream is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
REST_BITS = 16


def first_rests(seed: int, neurons: int) -> Ints:
    """``r[0]`` of every neuron in units of 2**-REST_BITS: a multiplicative hash of seed and index."""
    word = np.uint64(0xFFFFFFFF)
    mixed = (np.arange(1, neurons + 1, dtype=np.uint64) * np.uint64(0x9E3779B1) + np.uint64(seed) * np.uint64(0x85EBCA6B)) & word
    mixed = (mixed ^ (mixed >> np.uint64(15))) * np.uint64(0x2C1B3C6D) & word
    return (mixed >> np.uint64(32 - REST_BITS)).astype(np.int64)


__all__ = ["REST_BITS", "Ints", "first_rests"]

"""Random numbers of a population: one xorshift generator of 32 bits a neuron, of which 16 bits are used at every model step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
DITHER_BITS = 16


class Dither:
    """Generators of ``neurons`` neurons, which stand at ``words``; adding ``draw() / 2**16`` before a floor rounds without bias."""

    def __init__(self, seed: int, neurons: int) -> None:
        self.words = _start(seed, neurons)

    def draw(self) -> Ints:
        """The next 16 random bits of every neuron."""
        x = self.words
        x = x ^ (x << np.uint64(13)) & np.uint64(0xFFFFFFFF)
        x = x ^ (x >> np.uint64(17))
        x = x ^ (x << np.uint64(5)) & np.uint64(0xFFFFFFFF)
        self.words = x
        return (x >> np.uint64(32 - DITHER_BITS)).astype(np.int64)


def _start(seed: int, neurons: int) -> npt.NDArray[np.uint64]:
    """A non-zero 32-bit start value per neuron: a multiplicative hash of seed and index."""
    word = np.uint64(0xFFFFFFFF)
    mixed = (np.arange(1, neurons + 1, dtype=np.uint64) * np.uint64(0x9E3779B1) + np.uint64(seed) * np.uint64(0x85EBCA6B)) & word
    mixed = (mixed ^ (mixed >> np.uint64(15))) * np.uint64(0x2C1B3C6D) & word
    return mixed | np.uint64(1)


__all__ = ["DITHER_BITS", "Dither"]

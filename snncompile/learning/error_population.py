"""The error population: from the readout's payloads and a target spike to the third factor, in integers.

softmax   g = softmax(z) - onehot             with the exponential from a table of half an octave's finest steps and one division
mse       g = (2 / n) * (z - onehot)
payload   k = floor(levels * g + r / 2**16),  r uniform in 0..2**16 - 1 per neuron and step:  the mean of k is levels * g, without bias
sent      y1 = 2 * max(k, 0),  y2 = 2 * max(-k, 0)        even, so that the engine's product loses no bit; two ports for the two signs
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
OCTAVE_BITS = 6
ONE_BITS = 15
LOSSES = ("softmax", "mse")


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorPopulation:
    """Integers of the error population.

    loss     "softmax" or "mse"       levels  k runs over -levels..levels; what lies beyond is clipped (mse only)
    multiplier, shift   softmax: steps of 1/64 octave per payload LSB;  mse: levels of the error per payload LSB; multiplier / 2**shift
    one      mse: the payload (times multiplier) that a target stands for      delay  hardware steps from the readout's update to arrival
    """

    loss: str
    levels: int
    multiplier: int
    shift: int
    one: int
    delay: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> ErrorPopulation:
        """Back from ``to_json``."""
        numbers = {k: int(row[k]) for k in ("levels", "multiplier", "shift", "one", "delay", "seed")}
        return cls(loss=str(row["loss"]), **numbers)


class ErrorState:
    """The population's random generators, one a neuron; ``step`` gives the signed payload k."""

    def __init__(self, population: ErrorPopulation, neurons: int) -> None:
        self.population = population
        self.random = _seeds(population.seed, neurons)
        octave = np.rint(2.0 ** (ONE_BITS - np.arange(2**OCTAVE_BITS) / 2**OCTAVE_BITS)).astype(np.int64)
        self.table = np.append((octave >> np.arange(ONE_BITS)[:, None]).reshape(-1), 0)  # every octave, then nothing is left

    def step(self, z: Ints, label: int) -> Ints:
        """k (n,) for the payloads ``z`` (n,); ``label`` below 0 is no target, hence no error. The generators advance in any case."""
        p, r = self.population, self._draw()
        if label < 0:
            return np.zeros(len(z), dtype=np.int64)
        if p.loss == "softmax":
            octaves = np.minimum(((z.max() - z) * p.multiplier) >> p.shift, ONE_BITS << OCTAVE_BITS)
            e = self.table[octaves]
            total = int(e.sum())
            e[label] -= total
            k = ((e * (p.levels << 16)) + r * total) // (total << 16)
        else:
            k = z * p.multiplier + (r << p.shift >> 16)
            k[label] -= p.one
            k >>= p.shift
        return np.asarray(np.minimum(np.maximum(k, -p.levels), p.levels))

    def _draw(self) -> Ints:
        """The next 16 random bits of every neuron (xorshift, 32 bits)."""
        x = self.random
        x = x ^ (x << np.uint64(13)) & np.uint64(0xFFFFFFFF)
        x = x ^ (x >> np.uint64(17))
        x = x ^ (x << np.uint64(5)) & np.uint64(0xFFFFFFFF)
        self.random = x
        return (x >> np.uint64(16)).astype(np.int64)


def split(k: Ints) -> Ints:
    """The third factors (3, n) that carry k: positive part, negative part, nothing."""
    return np.stack([2 * np.maximum(k, 0), 2 * np.maximum(-k, 0), np.zeros_like(k)])


def _seeds(seed: int, neurons: int) -> npt.NDArray[np.uint64]:
    """A non-zero 32-bit start value per neuron: a multiplicative hash of seed and index."""
    word = np.uint64(0xFFFFFFFF)
    mixed = (np.arange(1, neurons + 1, dtype=np.uint64) * np.uint64(0x9E3779B1) + np.uint64(seed) * np.uint64(0x85EBCA6B)) & word
    mixed = (mixed ^ (mixed >> np.uint64(15))) * np.uint64(0x2C1B3C6D) & word
    return mixed | np.uint64(1)


__all__ = ["LOSSES", "OCTAVE_BITS", "ONE_BITS", "ErrorPopulation", "ErrorState", "split"]

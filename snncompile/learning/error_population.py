"""The error population: from the readout's payloads and a target spike to the third factor, in integers.

softmax   g = softmax(z) - onehot             with the exponential from a table of half an octave's finest steps and one division
mse       g = (2 / n) * (z - onehot)
mean      g = (softmax(mean of z[0..t]) - onehot) / (t + 1) from step ``warm`` on, nothing before (LTL)
payload   k = floor(levels * g + r),  r the remainder of the step before, with 16 bits: see ``remainder``
sent      y1 = 2 * max(k, 0),  y2 = 2 * max(-k, 0)        even, so that the engine's product loses no bit; two ports for the two signs
graded    the same error with ``fine`` in place of ``levels``, to the nearest, signed: what a feedback synapse carries to hidden layers
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from snncompile.learning.remainder import REST_BITS, Ints, first_rests

OCTAVE_BITS = 6
ONE_BITS = 15
LOSSES = ("softmax", "mse")


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorPopulation:
    """Integers of the error population.

    loss     "softmax", "mse" or "mean"      levels  k runs over -levels..levels; what lies beyond is clipped (mse only)
    multiplier, shift   softmax: steps of 1/64 octave per payload LSB;  mse: levels of the error per payload LSB; multiplier / 2**shift
    one      mse: the payload (times multiplier) that a target stands for      delay  hardware steps from the readout's update to arrival
    fine     levels of the graded error, 0 where no feedback reads it (mse: a multiple of ``levels``)
    warm     mean: the first model step that learns; ``levels`` stand for an error of 1 / (warm + 1)
    """

    loss: str
    levels: int
    multiplier: int
    shift: int
    one: int
    delay: int
    seed: int
    fine: int = 0
    warm: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> ErrorPopulation:
        """Back from ``to_json``."""
        numbers = {k: int(row[k]) for k in ("levels", "multiplier", "shift", "one", "delay", "seed", "fine", "warm")}
        return cls(loss=str(row["loss"]), **numbers)


class ErrorState:
    """The population's remainders ``rest`` (n,) and its running sums; ``step`` gives the signed payload k."""

    def __init__(self, population: ErrorPopulation, neurons: int) -> None:
        self.population = population
        self.graded: Ints = np.zeros(neurons, dtype=np.int64)
        self.rest: Ints = first_rests(population.seed, neurons)
        octave = np.rint(2.0 ** (ONE_BITS - np.arange(2**OCTAVE_BITS) / 2**OCTAVE_BITS)).astype(np.int64)
        self._table = np.append((octave >> np.arange(ONE_BITS)[:, None]).reshape(-1), 0)  # every octave, then nothing is left
        self._sums: Ints = np.zeros(neurons, dtype=np.int64)

    def step(self, z: Ints, label: int, t: int = 0) -> Ints:
        """k (n,) for the payloads ``z`` (n,) of model step ``t``; ``label`` below 0 is no target, hence no error.

        The graded error of the same step is in ``graded``.
        """
        p = self.population
        self._sums = z if t == 0 else self._sums + z
        if label < 0 or t < p.warm:
            self.graded = np.zeros_like(z)
            return self.graded
        if p.loss == "mse":
            error, unit = z * p.multiplier, 2**p.shift
            error[label] -= p.one
            if p.fine:
                self.graded = np.clip((2 * error * (p.fine // p.levels) + unit) >> (p.shift + 1), -p.fine, p.fine)
        else:
            z, steps, late = (self._sums, t + 1, p.warm + 1) if p.loss == "mean" else (z, 1, 1)
            octaves = np.minimum(((z.max() - z) * p.multiplier // steps) >> p.shift, ONE_BITS << OCTAVE_BITS)
            e = self._table[octaves]
            total = int(e.sum())
            e[label] -= total
            error, unit = e * (p.levels * late), total * steps
            if p.fine:
                self.graded = (2 * e * p.fine + total) // (2 * total)
        whole = (error << REST_BITS) + self.rest * unit
        k = whole // (unit << REST_BITS)
        self.rest = whole // unit - (k << REST_BITS)
        return np.asarray(np.minimum(np.maximum(k, -p.levels), p.levels))


def split(k: Ints) -> Ints:
    """The third factors (3, n) that carry k: positive part, negative part, nothing."""
    return np.stack([2 * np.maximum(k, 0), 2 * np.maximum(-k, 0), np.zeros_like(k)])


__all__ = ["LOSSES", "OCTAVE_BITS", "ONE_BITS", "ErrorPopulation", "ErrorState", "split"]

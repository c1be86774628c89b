"""The modulator population of a plastic hidden layer: one neuron for each of the layer's, which sends it its third factor.

It hears how far the layer's membrane is from the threshold at model step t, looks up psi, and multiplies it with an error:

psi       p = table[(|d| * psi_multiplier) >> psi_shift], 0 beyond the table;   d = m - threshold, before the reset
feedback  k = floor(M * p * multiplier / 2**shift + r)      M = B @ graded error of the readout, by a fixed synapse
local     k = floor(levels * c * (warm + 1) / (t + 1) * (n / (t + 1) - A / 255) * p / 255 + r)    from step ``warm`` on, else 0
          c = multiplier / 2**shift, up to 1
          n  the neuron's spikes so far in the sample        A  the teacher's activity, 0..255, a graded input; without one k = 0
r  the remainder of the step before, with ``shift`` bits for feedback, 16 for a local error: see ``remainder``
clipped to -levels..levels;   sent as the error population sends: 2 max(k, 0), 2 max(-k, 0)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from snncompile.learning.psi import ENTRIES, PSI_TOP
from snncompile.learning.remainder import REST_BITS, Ints, first_rests

ACTIVITY_TOP = 255
"""The graded input of an activity of 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Modulator:
    """Integers of a modulator population.

    kind      "feedback" or "local"         levels  k runs over -levels..levels
    psi       the table                     psi_multiplier, multiplier  one number, or one a neuron
    feedback  B, rows of weights (neuron, class) of the feedback synapse; empty for "local"
    multiplier, shift   multiplier / 2**shift: levels per unit of M * p (feedback), or what makes up for whole levels (local)
    warm      local: the first model step that learns
    delay     hardware steps to arrival, from the arrival of M (feedback; 0: at once) or from the layer's update (local; at least 1)
    """

    kind: str
    levels: int
    psi: tuple[int, ...]
    psi_multiplier: tuple[int, ...]
    psi_shift: int
    feedback: tuple[tuple[int, ...], ...] = ()
    multiplier: tuple[int, ...] = (0,)
    shift: int = 0
    warm: int = 0
    delay: int = 0
    seed: int = 1

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Modulator:
        """Back from ``to_json``."""
        return cls(
            kind=str(row["kind"]), levels=int(row["levels"]), psi=tuple(int(v) for v in row["psi"]),
            psi_multiplier=tuple(int(v) for v in row["psi_multiplier"]), psi_shift=int(row["psi_shift"]),
            feedback=tuple(tuple(int(v) for v in r) for r in row["feedback"]),
            multiplier=tuple(int(v) for v in row["multiplier"]), shift=int(row["shift"]),
            warm=int(row["warm"]), delay=int(row["delay"]), seed=int(row["seed"]),
        )  # fmt: skip


class ModulatorState:
    """A modulator's remainders and its memory of the sample; ``hear`` hears the layer, ``back`` and ``local`` give the signed payload k."""

    def __init__(self, modulator: Modulator, neurons: int) -> None:
        self.modulator = modulator
        self.rest: Ints = first_rests(modulator.seed, neurons) << self._rest_bits >> REST_BITS
        self._table = np.array([*modulator.psi, 0], dtype=np.int64)
        self._scale = np.array(modulator.psi_multiplier, dtype=np.int64)
        self._gain = np.array(modulator.multiplier, dtype=np.int64)
        self._feedback = np.array(modulator.feedback, dtype=np.int64)
        self._psi: Ints = np.zeros(neurons, dtype=np.int64)
        self._fired: Ints = np.zeros(neurons, dtype=np.int64)

    def hear(self, t: int, distance: Ints, spikes: Ints) -> None:
        """The layer's update at model step t: distance from the threshold before the reset, and spikes."""
        at = (np.abs(distance) * self._scale) >> self.modulator.psi_shift
        self._psi = self._table[np.minimum(at, ENTRIES)]
        self._fired = spikes if t == 0 else self._fired + spikes

    def back(self, graded: Ints) -> Ints:
        """k of the step that was heard last, for the readout's graded error (classes,)."""
        whole = (self._feedback @ graded) * self._psi * self._gain + self.rest
        k = whole >> self.modulator.shift
        self.rest = whole - (k << self.modulator.shift)
        return self._clipped(k)

    def local(self, t: int, activity: Ints | None) -> Ints:
        """k of the step that was heard last, for the teacher's activity (neurons,)."""
        p = self.modulator
        if activity is None or t < p.warm:
            return np.zeros_like(self._psi)
        error = (ACTIVITY_TOP * self._fired - activity * (t + 1)) * self._psi * (p.levels * (p.warm + 1) * self._gain)
        unit = ACTIVITY_TOP * PSI_TOP * (t + 1) ** 2 << p.shift
        whole = (error << REST_BITS) + self.rest * unit
        k = whole // (unit << REST_BITS)
        self.rest = whole // unit - (k << REST_BITS)
        return self._clipped(k)

    @property
    def _rest_bits(self) -> int:
        return self.modulator.shift if self.modulator.kind == "feedback" else REST_BITS

    def _clipped(self, k: Ints) -> Ints:
        return np.asarray(np.clip(k, -self.modulator.levels, self.modulator.levels))


__all__ = ["ACTIVITY_TOP", "Modulator", "ModulatorState"]

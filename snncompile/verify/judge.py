"""When two runs of a population differ: every bit between integers, float rounding between floats, events between both.

    bits    any payload or membrane that is not the same integer
    float   a spike, or a membrane by more than the tolerance times the population's largest membrane or threshold
    events  a payload. Membranes on both sides of a quantiser are never equal, what they make of their inputs is compared:
            spikes; graded payloads; a membrane that is sent as it is, beyond what cutting to whole LSBs can do to it

A spike that differs although both membranes lie within rounding of the threshold is a tie and counted apart. Where both membranes
are the same number it is no tie: the two compare differently, or with another threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from snncompile.ir.graph import Array
from snncompile.ir.neuron import Neuron
from snncompile.ir.population import FloatPopulation, IntPopulation
from snncompile.ir.program import IntProgram, NeuronProgram
from snncompile.quantize.constants import aligned
from snncompile.verify.dynamics import TIE, rounding_bound
from snncompile.verify.unit import Trace

Level = Literal["bits", "float", "events"]
EXACT, TORCH = 1e-9, 1e-5
"""Relative tolerance between two runs in float64, and against PyTorch's float32."""
DOUBLE = 2.0**-40
"""Relative distance of numbers that are the same but for float64's rounding."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Masks over (N, T, *shape): what differs, and what is put down to rounding at the threshold."""

    apart: Array
    ties: Array

    @property
    def events(self) -> int:
        """How many events differ."""
        return int(np.count_nonzero(self.apart))


@dataclass(frozen=True, kw_only=True, eq=False)
class Judge:
    """How one population is compared.

    neuron  the float population, if a side has one     whole  the integer population, if one side alone has integers
    """

    level: Level
    neuron: FloatPopulation | None = None
    whole: IntPopulation | None = None
    tolerance: float = EXACT

    def compare(self, driver: Trace, follower: Trace) -> Judged:
        """The driver's recorded run against another run on the same inputs."""
        if self.level == "bits":
            return self._bits(driver, follower)
        return self._float(driver, follower) if self.level == "float" else self._events(driver, follower)

    def _bits(self, driver: Trace, follower: Trace) -> Judged:
        apart = driver.payload != follower.payload
        for ours, theirs in ((driver.m, follower.m), (driver.v, follower.v)):
            if ours is not None and theirs is not None:
                apart = apart | (ours != theirs)
        return Judged(apart=apart, ties=np.zeros_like(apart))

    def _float(self, driver: Trace, follower: Trace) -> Judged:
        scale = self.tolerance * _largest(driver.m, follower.m, follower.threshold, driver.payload)
        ties = self._ties(driver, follower, scale)
        apart = np.zeros(driver.payload.shape, dtype=bool)
        for ours, theirs in ((driver.m, follower.m), (driver.v, follower.v)):
            if ours is not None and theirs is not None:
                apart |= np.abs(ours - theirs) > scale
        if self.neuron is not None and self.neuron.spiking:
            flipped = driver.payload != follower.payload
        else:
            flipped = np.abs(driver.payload - follower.payload) > scale
        return Judged(apart=(apart & ~ties) | (flipped & ~ties), ties=ties & (apart | flipped))

    def _events(self, driver: Trace, follower: Trace) -> Judged:
        assert self.neuron is not None
        assert self.whole is not None
        largest = _largest(follower.m, follower.threshold, driver.payload)
        if self.neuron.spiking:
            apart = driver.payload != follower.payload
            ties = apart & self._ties(driver, follower, TIE * np.maximum(np.abs(_known(follower.m)), np.abs(_known(follower.threshold))))
            return Judged(apart=apart & ~ties, ties=ties)
        if isinstance(self.neuron, NeuronProgram) or isinstance(self.whole, IntProgram):
            assert isinstance(self.whole, IntProgram)
            close = float(self.whole.out_scale) * (0.5 + max(2.0**-7, 2.0 ** (2 - self.whole.payload_shift)))
            apart = np.abs(driver.payload - follower.payload) > close
            return Judged(apart=apart, ties=np.zeros_like(apart))
        allowed: Array | float = TIE * largest
        if self.whole.fire == "none":
            steps, ndim = driver.payload.shape[1], driver.payload.ndim - 2
            lsb = np.asarray(self.whole.v_scale)
            bound = rounding_bound(self.neuron, self.whole, largest / float(lsb.max()), steps)
            allowed = bound.reshape((1, -1) + (1,) * ndim) * aligned(lsb[None], ndim)
        apart = np.abs(driver.payload - follower.payload) > allowed
        return Judged(apart=apart, ties=np.zeros_like(apart))

    def _ties(self, driver: Trace, follower: Trace, near: Array | float) -> Array:
        """Where rounding decides: the membrane lies at the threshold (or at a multiple of it, or between two steps of the grid)."""
        n, m, theta = self.neuron, follower.m, follower.threshold
        grid = n.grid if isinstance(n, Neuron) else 0.0
        if n is None or m is None or theta is None or not (n.spiking or grid):
            return np.zeros(driver.payload.shape, dtype=bool)
        theta = np.broadcast_to(theta, m.shape)
        if grid:
            level = (m - theta) / grid
            return np.asarray(np.abs(level - np.floor(level) - 0.5) <= near / grid)
        multiple = np.clip(np.rint(m / theta), 1, n.max_spikes) if n.max_spikes > 1 else 1.0
        at = np.abs(m - multiple * theta) <= near
        if driver.m is None or driver.threshold is None:
            return np.asarray(at)
        unit = DOUBLE * np.maximum(np.abs(m), np.abs(theta))
        identical = (driver.m == m) & (driver.threshold == theta)
        other_limit = (np.abs(driver.m - m) <= unit) & (np.abs(driver.threshold - theta) > unit)
        return np.asarray(at & ~identical & ~other_limit)


def _known(x: Array | None) -> Array:
    assert x is not None
    return x


def _largest(*traces: Array | None) -> float:
    return max([1e-30, *(float(np.abs(x).max(initial=0.0)) for x in traces if x is not None)])


__all__ = ["EXACT", "TORCH", "Judge", "Judged", "Level"]

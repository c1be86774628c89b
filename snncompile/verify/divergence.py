"""Where two runs first differ: the population in hop order, the step, the neuron, both values, the threshold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from snncompile.ir.graph import Array


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """The first difference of a pair of runs; ``what`` is payload or membrane, ``neuron`` the index in the population's shape."""

    population: str
    sample: int
    step: int
    neuron: tuple[int, ...]
    what: str
    expected: float
    found: float
    threshold: float | None = None

    def __str__(self) -> str:
        limit = "" if self.threshold is None else f" (threshold {self.threshold:g})"
        where = f"population '{self.population}', step {self.step + 1}, neuron {list(self.neuron)}, sample {self.sample}"
        return f"first divergence: {where}: {self.what} {self.found:g}, expected {self.expected:g}{limit}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "neuron": list(self.neuron)}


def first_difference(
    population: str,
    what: str,
    expected: Array,
    found: Array,
    *,
    different: Array | None = None,
    threshold: Array | None = None,
    offset: int = 0,
) -> Divergence | None:
    """The earliest difference of two traces (N, T, *shape): the first step of any sample, then the lowest sample and neuron.

    ``different`` marks what counts (default: every inequality); ``threshold`` broadcasts to (T, *shape); ``offset`` is the first sample's
    number.
    """
    mask = (expected != found) if different is None else different
    if not mask.any():
        return None
    step = int(np.flatnonzero(mask.any(axis=tuple(k for k in range(mask.ndim) if k != 1)))[0])
    sample, *neuron = (int(k) for k in np.argwhere(mask[:, step])[0])
    at = (sample, step, *neuron)
    limit = None if threshold is None else float(np.broadcast_to(threshold, expected.shape[1:])[at[1:]])
    return Divergence(
        population=population, sample=sample + offset, step=step, neuron=tuple(neuron), what=what,
        expected=float(expected[at]), found=float(found[at]), threshold=limit,
    )  # fmt: skip

"""The fixed feedback synapse of a hidden layer: random weights from a seed, or the readout's transposed weights as deployed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from snncompile.errors import fail
from snncompile.ir.graph import Array
from snncompile.ir.integer import IntNeuron
from snncompile.learning.chain import Link
from snncompile.numerics import half_even
from snncompile.target import Target

if TYPE_CHECKING:
    from snncompile.learning.attach import LearnOptions

FEEDBACK = ("random", "transpose")
FINE, LEAST = 4096, 64
"""Levels of the graded error: as many as wanted, and the fewest that are accepted."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """B = lsb * rows, (neurons, classes);  ``seed`` None for transposed weights."""

    rows: tuple[tuple[int, ...], ...]
    lsb: float
    seed: int | None

    def largest(self, loss: str) -> int:
        """The largest |B g| in units of ``lsb``: the softmax's errors add up to 0 and their sizes to 2 at most; others are 1 each."""
        b = np.array(self.rows)
        if loss == "softmax":
            return int((np.maximum(b.max(axis=1), 0) - np.minimum(b.min(axis=1), 0)).max())
        return self.total

    @property
    def total(self) -> int:
        """The largest sum of a row's magnitudes."""
        return int(np.abs(np.array(self.rows)).sum(axis=1).max())


def make_feedback(way: tuple[Link, Array, bool], options: LearnOptions, target: Target, index: int) -> Feedback:
    """The feedback of a hidden layer; ``way`` is the layer, the readout's float weights (classes, n), and whether it reads this layer.

    random     integers, uniform over all that a synapse holds, from a generator of numpy with the seed stated
    transpose  the readout's weights, rounded, frozen as they are at deployment
    Errors     SNN814 transposed weights of another layer than the one before the readout, or that are all 0
    """
    link, weight, direct = way
    high = target.weight.high
    if options.feedback == "transpose":
        if not direct:
            raise fail(
                "SNN814", f"'{link.population.name}' is not read by the readout: none of its weights lead back there", loc=link.synapse.loc,
                help="use random feedback for layers further back: --feedback random",
            )  # fmt: skip
        if not np.any(weight):
            raise fail(
                "SNN814", f"the readout's weights are all 0: transposed, they send nothing back to '{link.population.name}'",
                loc=link.synapse.loc, help="use random feedback: --feedback random",
            )  # fmt: skip
        lsb = float(np.abs(weight).max()) / high
        return Feedback(_rows(half_even(weight.T / lsb)), lsb, None)
    seed = options.seed + index
    b = np.random.default_rng(seed).integers(-high, high, size=(len(link.synapse.weight), len(weight)), endpoint=True)
    rms = float(np.sqrt(np.mean(b.astype(np.float64) ** 2)))
    scale = options.feedback_scale or float(np.sqrt(np.mean(weight**2))) or 1 / math.sqrt(len(weight))
    return Feedback(_rows(b), scale / rms, seed)


def feedback_levels(feedback: Iterable[Feedback], target: Target, readout: IntNeuron) -> int:
    """Levels of the graded error with which no sum of a feedback synapse overflows.

    Errors  SNN814 too many classes: fewer levels than are worth sending
    """
    total = max(f.total for f in feedback)
    levels = min(FINE, int(2 ** math.floor(math.log2(target.accumulator.high / total))))
    if levels < LEAST:
        raise fail(
            "SNN814", f"the feedback of '{readout.name}' does not fit: its sums reach {total} at one level of the error, which leaves "
            f"{levels} levels, {LEAST} are the fewest", loc=readout.loc, notes=(target.cite("formats.accumulator"),),
            help="let the readout alone learn, or use the layer's own error: --rule ltl",
        )  # fmt: skip
    return levels


def _rows(b: Array) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(v) for v in row) for row in b)


__all__ = ["FEEDBACK", "Feedback", "feedback_levels", "make_feedback"]

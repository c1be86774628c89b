"""Which hypotheses hold: every one is executed alone, then together, and the smallest set that leaves nothing is the cause."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np

from snncompile.errors import CompileError, InternalError
from snncompile.ir.graph import Array
from snncompile.verify.hypotheses import WHOLE_RUN, Hypothesis
from snncompile.verify.judge import Judge
from snncompile.verify.replay import Response, replay
from snncompile.verify.unit import Trace

CONTAINED = ("hop misalignment", "input scaling")
"""Causes whose repair is a part of what borrowing the currents repairs."""
RESIDUE = "membrane rounding"


@dataclass(frozen=True, kw_only=True)
class Cause:
    """A hypothesis and what executing it showed.

    explains   how many differing events its repair alone makes equal        events  of how many
    confirmed  it belongs to the smallest set of repairs after which nothing differs
    """

    cause: str
    detail: str
    explains: int
    events: int
    confirmed: bool

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What was tested. ``left`` events differ after all confirmed repairs together; 0 if the cause is known."""

    causes: tuple[Cause, ...]
    events: int
    left: int

    @property
    def confirmed(self) -> tuple[Cause, ...]:
        """The causes that hold."""
        return tuple(c for c in self.causes if c.confirmed)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"events": self.events, "left": self.left, "causes": [c.to_json() for c in self.causes]}


@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment:
    """One population, what drives it, the run to be explained and how the two are compared; ``sent`` are the spikes to reset by."""

    mine: Response
    found: Trace
    judge: Judge
    sent: Array | None

    @cached_property
    def before(self) -> Array:
        """Where the two runs differ as they are, (N, T, *shape)."""
        return self.judge.compare(self.found, replay(self.mine, self.sent)).apart

    def left(self, repairs: Sequence[Hypothesis]) -> tuple[int, int]:
        """Events that still differ after the repairs, and those that differed before, in the steps that all repairs speak about."""
        steps = next((h.steps for h in repairs if h.steps != WHOLE_RUN), WHOLE_RUN)
        before = int(np.count_nonzero(self.before[:, steps]))
        if not repairs:
            return before, before
        part = self.found.first(WHOLE_RUN, steps)
        try:
            trace = replay(reduce(lambda r, h: h.repair(r), repairs, self.mine), self.sent)
        except (InternalError, CompileError, NotImplementedError):  # a repair that cannot run explains nothing
            return int(part.payload.size), before
        return self.judge.compare(part, trace.first(WHOLE_RUN, steps)).events, before


def explain(e: Experiment, hypotheses: Sequence[Hypothesis], residue: Callable[[], Trace] | None = None) -> Explanation:
    """Find the causes; ``residue`` runs the integers themselves, for what no parameter explains."""
    tested = [(h, *e.left([h])) for h in hypotheses]
    _, events = e.left([])
    single = next((h for h, left, before in tested if left == 0 and before > 0), None)
    chosen = [single] if single is not None else _together(e, [h for h, *_ in tested])
    left = e.left(chosen)[0] if chosen else events
    causes = [
        Cause(
            cause=h.cause, detail=h.detail, explains=max(0, before - alone), events=before, confirmed=any(h is c for c in chosen),
        ) for h, alone, before in tested
    ]  # fmt: skip
    if left and residue is not None and np.array_equal(e.found.payload, residue().payload):
        text = "what is left comes from products that are cut to whole membrane LSBs"
        causes.append(Cause(cause=RESIDUE, detail=text, explains=left, events=events, confirmed=True))
        left = 0
    return Explanation(causes=tuple(causes), events=events, left=left)


def _together(e: Experiment, hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    """The smallest set found that leaves the fewest events: everything without what is not needed, or the best one after another."""
    everything = [h for h in hypotheses if h.cause not in CONTAINED and h.steps == WHOLE_RUN]
    best = _greedy(e, hypotheses)
    if everything and e.left(everything)[0] <= (e.left(best)[0] if best else np.inf):
        best = everything
    least = e.left(best)[0] if best else 0
    for h in reversed(best):
        without = [x for x in best if x is not h]
        if without and e.left(without)[0] <= least:
            best = without
    for h in [h for h in best if h.cause in ("weight rounding", "different weights")]:
        for smaller in (x for x in hypotheses if x.cause in CONTAINED):
            instead = [smaller if x is h else x for x in best]
            if e.left(instead)[0] <= least:
                return instead
    return best


def _greedy(e: Experiment, hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    chosen: list[Hypothesis] = []
    _, least = e.left([])
    while least:
        rest = [(e.left([*chosen, h])[0], k) for k, h in enumerate(hypotheses) if h not in chosen and _fits(chosen, h)]
        if not rest or min(rest)[0] >= least:
            break
        least, k = min(rest)
        chosen.append(hypotheses[k])
    return chosen


def _fits(chosen: list[Hypothesis], h: Hypothesis) -> bool:
    """One repair of a kind: a source cannot be late and early."""
    return all(c.cause != h.cause for c in chosen)


__all__ = ["RESIDUE", "Cause", "Experiment", "Explanation", "explain"]

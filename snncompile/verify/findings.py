"""What the comparison of two runs found: per population, at the first difference, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from snncompile.errors import Location
from snncompile.ir.graph import Array
from snncompile.verify.explain import Explanation
from snncompile.verify.judge import Level
from snncompile.verify.unit import Trace, Unit

Pair = tuple[float | None, float | None]
"""What A and B hold; None where a side does not tell."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Populated:
    """One population (or input) of both sides: how many events were compared, differ, and are ties."""

    name: str
    kind: str
    compared: int
    differing: int
    ties: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """The first difference: where it is, and what both sides (in the order of the command) hold there."""

    population: str
    sample: int
    step: int
    neuron: tuple[int, ...]
    loc: Location | None
    values: Mapping[str, Pair] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data; steps count from 0 here and from 1 for people."""
        loc = None if self.loc is None else {"file": self.loc.file, "line": self.loc.line}
        at = {"population": self.population, "sample": self.sample, "step": self.step, "neuron": list(self.neuron), "location": loc}
        return {**at, "values": {k: list(v) for k, v in self.values.items()}}


@dataclass(frozen=True, eq=False)
class Replayable:
    """One side's population by itself, its inputs (N, T, *shape), and what an executor made of them, if it was one."""

    unit: Unit
    values: Mapping[str, Array]
    recorded: Trace | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What a reproduction of the first difference needs; ``sent`` are the payloads that float spikes reset by."""

    a: Replayable
    b: Replayable
    sent: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Localised:
    """Everything that was found. ``driver`` is 0 or 1: whose recorded inputs both sides were given."""

    labels: tuple[str, str]
    level: Level
    driver: int
    samples: int
    steps: int
    populations: tuple[Populated, ...]
    place: Place | None = None
    explanation: Explanation | None = None
    evidence: Evidence | None = None
    notes: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether nothing differs beyond ties."""
        return self.place is None

    def to_json(self) -> dict[str, Any]:
        """The object that ``diff --json`` prints."""
        return {
            "equal": self.equal, "a": self.labels[0], "b": self.labels[1], "compared_by": self.level, "inputs_of": self.labels[self.driver],
            "samples": self.samples, "steps": self.steps, "populations": [p.to_json() for p in self.populations],
            "first_divergence": None if self.place is None else self.place.to_json(),
            "explanation": None if self.explanation is None else self.explanation.to_json(), "notes": list(self.notes),
        }  # fmt: skip


__all__ = ["Evidence", "Localised", "Pair", "Place", "Populated", "Replayable"]

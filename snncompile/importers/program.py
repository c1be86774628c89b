"""What an importer returns: an integer program with its proofs and its schedule, as the bundle and the verification want it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from snncompile.ledger import Decision
from snncompile.mapping.schedule import Schedule
from snncompile.quantize import QuantResult
from snncompile.target import Target


@dataclass(frozen=True, kw_only=True)
class ImportedProgram:
    """An integer program read from a file; a bundle is made of it like of ``snncompile.pipeline.Compiled``.

    input_range  (low, high, grid) of the raw input values
    facts        what the manifest says about the source
    settings     how to import the same file again
    decisions    what the file left open, and who decided it
    stand_ins    what the network's modules say that they approximate: a file says nothing
    """

    name: str
    target: Target
    result: QuantResult
    schedule: Schedule
    readout: Literal["sum", "mean", "last"]
    input_shape: tuple[int, ...]
    input_range: tuple[float, float, float]
    facts: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    passes: tuple[()] = ()
    decisions: tuple[Decision, ...] = ()
    stand_ins: tuple[Mapping[str, Any], ...] = ()

    @property
    def steps(self) -> int:
        """T, the steps of a sample."""
        return self.result.graph.steps


__all__ = ["ImportedProgram"]

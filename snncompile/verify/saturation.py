"""What a program cuts off: payloads beyond a calibrated range, and input values beyond the input's. Counted, never silent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snncompile.ir.graph import Array, Graph
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.neuron import at_step
from snncompile.ir.program import IntProgram
from snncompile.ir.reference import round_shift
from snncompile.quantize import QuantResult


@dataclass(kw_only=True)
class Saturated:
    """One population: how many of its payloads would have been larger than ``limit`` and were sent as it; ``most`` is the largest."""

    name: str
    limit: int
    payloads: int = 0
    saturated: int = 0
    most: int = 0


@dataclass(frozen=True, kw_only=True)
class Clipped:
    """One input: how many values lie outside ``low`` to ``high`` and were taken for these; ``least`` and ``most`` are the values seen."""

    name: str
    low: float
    high: float
    values: int
    clipped: int
    least: float
    most: float

    def __str__(self) -> str:
        return (
            f"{self.clipped} of {self.values} values of '{self.name}' lie outside its range {self.low:g}..{self.high:g} and were clipped:"
            f" they reach {self.least:g}..{self.most:g}"
        )


@dataclass(kw_only=True)
class SaturatedRegisters:
    """One neuron program: how many register updates were limited to the registers' format, in how many updates of a neuron."""

    name: str
    updates: int = 0
    saturated: int = 0


@dataclass
class Saturation:
    """Counts over all samples and steps, of every input and every population whose range comes from calibration data."""

    inputs: tuple[Clipped, ...] = ()
    populations: dict[str, Saturated] = field(default_factory=dict)
    programs: dict[str, SaturatedRegisters] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The ``saturation`` object of ``verify --json``."""
        rows = [vars(p) | {} for p in self.populations.values()]
        total = {key: sum(row[key] for row in rows) for key in ("saturated", "payloads")}
        programs = {"programs": [dict(vars(p)) for p in self.programs.values()]} if self.programs else {}
        return {**total, "populations": rows, "inputs": [dict(vars(c)) for c in self.inputs], **programs}


def clipped_inputs(graph: Graph, x: Mapping[str, Array]) -> tuple[Clipped, ...]:
    """Inputs of which real values ``(N, T | 1, *shape)`` lie beyond the range by more than their rounding; payloads are no real values."""
    found = (_clipped(op, np.asarray(x[op.name])) for op in graph.of(IntInput) if op.name in x)
    return tuple(c for c in found if c is not None)


def _clipped(op: IntInput, x: Array) -> Clipped | None:
    if not np.issubdtype(x.dtype, np.floating) or not x.size:
        return None
    outside = 0
    for sample in x:
        payload = np.rint((sample.astype(np.float64) - op.offset) / op.lsb)
        outside += int(np.count_nonzero((payload < op.low) | (payload > op.high)))
    if not outside:
        return None
    ends = (op.offset + op.lsb * op.low, op.offset + op.lsb * op.high)
    return Clipped(
        name=op.name, low=float(np.min(ends[0])), high=float(np.max(ends[1])), values=x.size, clipped=outside, least=float(x.min()),
        most=float(x.max()),
    )  # fmt: skip


def watched(result: QuantResult) -> list[str]:
    """The populations whose payloads may saturate: their range is that of calibration data."""
    return [p.name for p in result.populations if p.ceiling == "calibrated"]


def saturation_ports(result: QuantResult) -> list[str]:
    """What to record of a run so that ``count`` can count."""
    return [f"{name}.m" for name in watched(result)] + [f"{n.name}.saturated" for n in _programs(result)]


def _programs(result: QuantResult) -> list[IntProgram]:
    """The programs with registers that saturate where no bound could be proved."""
    return [n for n in result.graph.of(IntProgram) if n.saturates]


def count(result: QuantResult, traces: Mapping[str, Array], found: Saturation) -> None:
    """Add one batch, of which everything that ``saturation_ports`` names was recorded, ``(N, T, *shape)``."""
    for program in _programs(result):
        events = traces[f"{program.name}.saturated"]
        registers = found.programs.setdefault(program.name, SaturatedRegisters(name=program.name))
        registers.updates += events.size
        registers.saturated += int(events.sum())
    for name in watched(result):
        n = result.graph.by_name[name]
        assert isinstance(n, IntNeuron)
        assert n.multiplier is not None
        assert n.shift is not None
        entry = found.populations.setdefault(name, Saturated(name=name, limit=n.payload_max))
        m = traces[f"{name}.m"]
        for t in range(m.shape[1]):
            wanted = round_shift((m[:, t].astype(np.int64) - at_step(n.threshold, t)) * n.multiplier, n.shift)
            entry.saturated += int(np.count_nonzero(wanted > n.payload_max))
            if n.payload_min:  # a signed relay; elsewhere what is below 0 is silence
                entry.saturated += int(np.count_nonzero(wanted < n.payload_min))
                entry.most = max(entry.most, int(-wanted.min(initial=0)))
            entry.most = max(entry.most, int(wanted.max(initial=0)))
            entry.payloads += wanted.size


__all__ = ["Clipped", "Saturated", "SaturatedRegisters", "Saturation", "clipped_inputs", "count", "saturation_ports", "watched"]

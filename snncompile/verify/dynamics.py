"""The third level of equivalence: float graph against the integer program.

Three sources of error are kept apart. Weight rounding and payload rounding change the network that is computed; what is left is
dynamics: the float graph with the integers' own weights and biases, every population fed with the integer program's payloads, so
that one difference does not cascade. In a population declared exact a difference must be a tie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snncompile.ir.graph import Array, Graph
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.interpret import interpret
from snncompile.ir.neuron import Neuron, at_step
from snncompile.ir.population import FLOAT_POPULATIONS
from snncompile.ir.program import IntProgram, NeuronProgram
from snncompile.ir.reference import quantise_input
from snncompile.quantize import PopulationReport, QuantResult
from snncompile.quantize.dequantise import payload_values
from snncompile.verify.divergence import Divergence, first_difference

TIE = 2.0**-23
"""Relative distance of a membrane from its threshold that float32 cannot tell from 0."""


@dataclass
class PopulationDynamics:
    """Counts over all samples and steps: events compared, differing beyond ties, and ties."""

    name: str
    exact: bool
    reason: str
    compared: int = 0
    differing: int = 0
    ties: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dict(vars(self))


@dataclass
class Dynamics:
    """The comparison of all populations, and the first difference in one declared exact."""

    populations: dict[str, PopulationDynamics] = field(default_factory=dict)
    first: Divergence | None = None
    limit: float = 1e-4

    def _of(self, exact: bool) -> list[PopulationDynamics]:
        return [p for p in self.populations.values() if p.exact is exact]

    @property
    def differing_exact(self) -> int:
        """Events beyond ties in populations declared exact; the claim is 0."""
        return sum(p.differing for p in self._of(True))

    @property
    def inexact_rate(self) -> float:
        """Share of differing events in the other populations; the claim is at most 1 in 10,000."""
        compared = sum(p.compared for p in self._of(False))
        return sum(p.differing for p in self._of(False)) / compared if compared else 0.0

    @property
    def ok(self) -> bool:
        """Whether both claims hold."""
        return self.differing_exact == 0 and self.inexact_rate <= self.limit

    def to_json(self) -> dict[str, Any]:
        """The ``dynamics`` object of ``verify --json``."""
        return {
            "exact_populations": len(self._of(True)),
            "differing_spikes": self.differing_exact,
            "ties": sum(p.ties for p in self.populations.values()),
            "compared": sum(p.compared for p in self.populations.values()),
            "inexact_populations": len(self._of(False)),
            "inexact_rate": self.inexact_rate,
            "populations": [p.to_json() for p in self.populations.values()],
            "first_divergence": None if self.first is None else self.first.to_json(),
        }


def input_values(graph: Graph, x: Mapping[str, Array]) -> dict[str, Array]:
    """Input payloads (integers) by name, ``(N, T | 1, *shape)``."""
    out = {}
    for op in graph.of(IntInput):
        assert isinstance(op, IntInput)
        data = x[op.name]
        out[op.name] = np.stack([quantise_input(op, data[:, t]) for t in range(data.shape[1])], axis=1)
    return out


def compare(
    result: QuantResult, dequantised: Graph, inputs: Mapping[str, Array], traces: Mapping[str, Array], found: Dynamics, offset: int
) -> None:
    """Add one batch to ``found``.

    inputs  integer payloads by input, (N, T | 1, *shape); traces  the integer run's payloads by population, (N, T, *shape)
    """
    reports = {r.name: r for r in result.populations}
    values = payload_values(result, {**inputs, **traces})
    names = [n.name for n in dequantised.of(*FLOAT_POPULATIONS)]
    given = {name: values[name] for name in inputs}
    overrides = {name: values[name] for name in names}
    mine = interpret(
        dequantised, given, record=[ref for name in names for ref in (name, f"{name}.m", f"{name}.threshold")], overrides=overrides
    )
    for name in names:
        n, whole = dequantised.by_name[name], result.graph.by_name[name]
        if isinstance(n, NeuronProgram) and isinstance(whole, IntProgram):
            compare_program(n, whole, reports[name], mine, traces[name], found)
            continue
        assert isinstance(n, Neuron)
        assert isinstance(whole, IntNeuron)
        _compare_population(n, whole, reports[name], mine, traces[name], found, offset)


def compare_program(
    n: NeuronProgram, whole: IntProgram, report: PopulationReport, mine: Mapping[str, Array], payload: Array, found: Dynamics
) -> None:
    """Spikes of a program, ties apart. A graded payload is a tie where the rounding of registers decides how it is rounded itself: within
    2**-7 of its LSB, or 4 LSBs of the register that is sent, of the middle between two payloads."""
    entry = found.populations.setdefault(n.name, PopulationDynamics(n.name, report.exact, report.reason))
    m, theta = mine[f"{n.name}.m"], mine[f"{n.name}.threshold"]
    if n.spiking:
        expected = mine[n.name]
        near = np.abs(m - theta) <= TIE * np.maximum(np.abs(m), np.abs(theta))
    else:
        raw = mine[n.name] / whole.out_scale
        expected = np.clip(np.rint(raw), whole.payload_min, whole.payload_max)
        near = np.abs(raw - np.floor(raw) - 0.5) <= max(2.0**-7, 2.0 ** (2 - whole.payload_shift))
        near &= np.abs(expected - payload) <= 1
    apart = expected != payload
    entry.compared += apart.size
    entry.ties += int(np.count_nonzero(apart & near))
    entry.differing += int(np.count_nonzero(apart & ~near))


def rounding_bound(n: Neuron, whole: IntNeuron, largest: float, steps: int) -> Array:
    """How far a membrane that is sent as it is may lie from the real one, in membrane LSB, at each step.

    e[t] = |leak| * e[t-1] + 1 (truncation of the decay) + |leak_q - leak| * largest membrane (rounding of the leak)
    """
    errors = [0.0]
    for t in range(steps):
        leak, rounded = at_step(n.leak, t), at_step(whole.leak, t) / 2.0**whole.decay_bits
        errors.append(float(np.abs(leak).max()) * errors[-1] + 1.0 + float(np.abs(rounded - leak).max()) * largest)
    return np.asarray(errors[1:])


def _multiplied(whole: IntNeuron) -> Array:
    """What multiplier and shift make of one payload LSB: 1 up to their rounding, which is the payload's and not the dynamics'."""
    assert whole.multiplier is not None
    return np.asarray(whole.multiplier * 2.0 ** -np.asarray(whole.shift, dtype=np.float64) * whole.out_scale / whole.v_scale)


def _compare_population(
    n: Neuron, whole: IntNeuron, report: PopulationReport, mine: Mapping[str, Array], payload: Array, found: Dynamics, offset: int
) -> None:
    entry = found.populations.setdefault(n.name, PopulationDynamics(n.name, report.exact, report.reason))
    m = mine[f"{n.name}.m"]
    theta = mine[f"{n.name}.threshold"]
    scale = np.maximum(np.abs(m), np.abs(theta))
    if n.spiking:
        expected = mine[n.name]
        multiple = np.clip(np.rint(m / theta), 1, n.max_spikes) if n.max_spikes > 1 else 1
        near = np.abs(m - multiple * theta) <= TIE * scale
    elif whole.fire == "none":
        expected = mine[n.name] / whole.out_scale
        largest = max(float(np.abs(expected).max(initial=0)), 1.0)
        allowed = TIE * largest if report.exact else rounding_bound(n, whole, largest, m.shape[1]).reshape((1, -1) + (1,) * (m.ndim - 2))
        expected = np.where(np.abs(expected - payload) <= allowed, payload, expected)
        near = np.zeros(expected.shape, dtype=bool)
    else:
        raw = (np.maximum(m - theta, 0.0) if n.grid else mine[n.name]) / whole.out_scale * _multiplied(whole)
        expected = np.clip(np.rint(raw), whole.payload_min, whole.payload_max)
        near = np.abs(raw - np.floor(raw) - 0.5) <= TIE * np.maximum(np.abs(raw), 1.0)
    apart = expected != payload
    entry.compared += apart.size
    entry.ties += int(np.count_nonzero(apart & near))
    beyond = apart & ~near
    entry.differing += int(np.count_nonzero(beyond))
    if report.exact and found.first is None and beyond.any():
        found.first = first_difference(
            n.name, "payload", expected, payload, different=beyond, threshold=whole.threshold if n.spiking else None, offset=offset
        )

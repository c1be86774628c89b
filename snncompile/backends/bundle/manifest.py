"""manifest.json: everything that is known about a program, as plain JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np

from snncompile.backends.bundle.ledger import ledger
from snncompile.ir.graph import Graph, port_of
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.population import INTEGER_POPULATIONS, IntPopulation, ports
from snncompile.ledger import Decision
from snncompile.mapping.schedule import Schedule, Wire
from snncompile.passes import PassRecord
from snncompile.quantize import PopulationReport, QuantResult
from snncompile.target import Quantity, Target
from snncompile.version import VERSION

FORMAT = "snncompile-bundle"
SCHEMA = 3


class CompiledLike(Protocol):
    """What a bundle is made of; ``snncompile.pipeline.Compiled`` is one."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def target(self) -> Target: ...  # noqa: D102
    @property
    def passes(self) -> Sequence[PassRecord]: ...  # noqa: D102
    @property
    def result(self) -> QuantResult: ...  # noqa: D102
    @property
    def schedule(self) -> Schedule: ...  # noqa: D102
    @property
    def readout(self) -> str: ...  # noqa: D102
    @property
    def settings(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def decisions(self) -> Sequence[Decision]: ...  # noqa: D102
    @property
    def stand_ins(self) -> Sequence[Mapping[str, Any]]: ...  # noqa: D102


def describe(compiled: CompiledLike, source: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The manifest without what only the finished folder knows (tensors, files, verification)."""
    graph = compiled.result.graph
    reports = {p.name: p for p in compiled.result.populations}
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "tool": {"name": "snncompile", "version": VERSION},
        "name": compiled.name,
        "source": dict(source or {}),
        "target": _target(compiled.target),
        "readout": compiled.readout,
        "settings": dict(compiled.settings),
        **program_facts(graph),
        "ledger": [d.to_json() for d in ledger(compiled.decisions, compiled.passes, compiled.result)],
        "passes": [pass_to_json(r) for r in compiled.passes],
        "populations": [_population(n, graph, reports[n.name]) for n in graph.nodes if isinstance(n, INTEGER_POPULATIONS)],
        "approximations": approximations(compiled),
        "notes": list(compiled.result.notes),
        "schedule": schedule_to_json(compiled.schedule),
    }


def program_facts(graph: Graph) -> dict[str, Any]:
    """What the manifest says about the program itself, and a reader finds again in ``graph.txt``."""
    return {"steps": graph.steps, "inputs": [_input(n, graph) for n in graph.of(IntInput)], "outputs": dict(graph.outputs)}


def approximations(compiled: CompiledLike) -> list[dict[str, Any]]:
    """Every way in which the program differs from the trained network, with its measured size; first what the network itself declares."""
    graph, rows = compiled.result.graph, [dict(row) for row in compiled.stand_ins]
    for p in compiled.result.populations:
        if p.weight_error > 0:
            what = f"weights rounded to {p.weight_bits} bits" + (" with calibration data" if p.adapted is not None else "")
            rows.append({"population": p.name, "what": what, "size": p.weight_error, "unit": "relative root mean square"})
        if p.payload_lsb is not None and graph.by_name[p.name].fire == "relu":  # type: ignore[attr-defined]
            rows.append({"population": p.name, "what": "graded output rounded", "size": p.payload_lsb / 2, "unit": "largest payload error"})
        if not p.exact:
            rows.append({"population": p.name, "what": f"dynamics not exact: {p.reason}", "size": None, "unit": "see verification"})
    return rows


def _quantity(q: Quantity) -> dict[str, Any]:
    value: Any = str(q.format) if q.format is not None else q.value
    return {"key": q.key, "value": value, "unit": q.unit, "source": q.source, "status": q.status}


def _target(target: Target) -> dict[str, Any]:
    return {
        "name": target.name, "family": target.family, "executor": target.executor, "summary": target.summary,
        "quantities": [_quantity(q) for q in target.quantities.values()],
        "assumed": [q.key for q in target.assumed],
    }  # fmt: skip


def _input(n: IntInput, graph: Graph) -> dict[str, Any]:
    low, high = n.lsb * n.low + n.offset, n.lsb * n.high + n.offset
    return {
        "name": n.name, "shape": list(graph.shape(n.name)), "payload": [n.low, n.high],
        "range": [float(np.min(low)), float(np.max(high))], "lsb": sorted({float(v) for v in np.ravel(n.lsb)})[:16],
    }  # fmt: skip


def _population(n: IntPopulation, graph: Graph, p: PopulationReport) -> dict[str, Any]:
    incoming = ports(graph, n)
    return {
        **({"placement": "host"} if n.name in graph.meta.get("host", ()) else {}),
        "name": p.name, "shape": list(graph.shape(n.name)), "neurons": p.neurons, "synapses": p.synapses,
        "weights": int(sum(np.asarray(q.synapse.weight).size for q in incoming)),
        "from": [q.source.name + (f" (t-{len(q.delays)})" if q.delays else "") for q in incoming],
        "kinds": [q.synapse.kind for q in incoming],
        "fire": n.fire, "reset": n.reset.value if isinstance(n, IntNeuron) else "program",
        "weight_bits": p.weight_bits, "guard_bits": p.guard_bits, "weight_error": p.weight_error,
        "adapted": None if p.adapted is None else asdict(p.adapted),
        "sigma": list(p.sigma), "steps_per_threshold": None if p.steps_per_threshold is None else list(p.steps_per_threshold),
        "exact": p.exact, "reason": p.reason, "payload_lsb": p.payload_lsb, "ceiling": p.ceiling,
        "bounds": {k: list(v) for k, v in p.bounds.items()},
        "location": None if n.loc is None else str(n.loc), "origin": list(n.origin),
        "readout": any(ref.partition(".")[0] == n.name for ref in graph.outputs.values()),
        "reads": sorted({port_of(ref) for ref in graph.outputs.values() if ref.partition(".")[0] == n.name}),
    }  # fmt: skip


def pass_to_json(r: PassRecord) -> dict[str, Any]:
    """What a pass did, as plain values."""
    return {
        "name": r.name, "nodes_before": r.nodes_before, "nodes_after": r.nodes_after, "rewrites": r.rewrites, "executed": r.executed,
        "membrane_error": r.membrane_error, "worst_population": r.worst_population, "differing_spikes": r.differing_spikes,
        "output_error": r.output_error, "bound": r.bound, "refusals": [{"node": x.node, "reason": x.reason} for x in r.refusals],
    }  # fmt: skip


def schedule_to_json(s: Schedule) -> dict[str, Any]:
    """A schedule as plain values."""
    return {
        "steps": s.steps, "initiation_interval": s.initiation_interval, "total_hops": s.total_hops, "depth": dict(s.depth),
        "hop_delay": dict(s.hop_delay), "model_delay": dict(s.model_delay), "critical": list(s.critical),
        "wires": [{"source": w.source, "synapse": w.synapse, "reader": w.reader, "delay": w.delay} for w in s.wires],
        **({"host": list(s.host)} if s.host else {}),
    }  # fmt: skip


def schedule_from_json(row: Mapping[str, Any]) -> Schedule:
    """The schedule of ``schedule_to_json``; raises KeyError, TypeError or ValueError."""

    def counts(key: str) -> dict[str, int]:
        return {str(k): int(v) for k, v in row[key].items()}

    wires = tuple(Wire(str(w["source"]), str(w["synapse"]), str(w["reader"]), int(w["delay"])) for w in row["wires"])
    return Schedule(
        host=tuple(map(str, row.get("host", ()))),
        steps=int(row["steps"]), initiation_interval=int(row["initiation_interval"]), depth=counts("depth"), hop_delay=counts("hop_delay"),
        model_delay=counts("model_delay"), wires=wires, critical=tuple(str(c) for c in row["critical"]),
    )  # fmt: skip


def plain(value: Any) -> Any:
    """The same in types that JSON has, without wall times (they differ from run to run) and with no NaN or infinity."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items() if not str(k).endswith("seconds")}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else str(float(value))
    return value if value is None or isinstance(value, str) else str(value)


__all__ = [
    "FORMAT",
    "SCHEMA",
    "CompiledLike",
    "approximations",
    "describe",
    "pass_to_json",
    "plain",
    "program_facts",
    "schedule_from_json",
    "schedule_to_json",
]

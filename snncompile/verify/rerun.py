"""Two runs of one network, and the means to run one of them again on the inputs that the other recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from snncompile.errors import fail
from snncompile.ir import reference
from snncompile.ir.graph import Array, Dialect, Graph, Op
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Input
from snncompile.ir.neuron import Fire, Neuron
from snncompile.ir.population import FLOAT_POPULATIONS, INTEGER_POPULATIONS
from snncompile.quantize.constants import aligned
from snncompile.verify.judge import EXACT, Judge, Level
from snncompile.verify.real import as_float, payload_value, values_of
from snncompile.verify.unit import Trace, Unit, cut, run_unit

PORTS = ("", ".m", ".v")


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One of two runs.

    graph      what is executed, or the model that an executor was given      tolerance  relative, of its arithmetic
    recorded   what an executor gave: payloads and membranes by reference, (N, T, *shape); None if the graph itself is executed
    entry      where its inputs are described, if not in ``graph``
    """

    label: str
    graph: Graph
    recorded: Mapping[str, Array] | None = None
    tolerance: float = EXACT
    entry: Graph | None = None

    @property
    def integer(self) -> bool:
        """Whether it computes with integers."""
        return self.graph.dialect is Dialect.INTEGER


class Rerun:
    """The comparison of two prepared sides; float sides are compared in real units, integers as they are."""

    def __init__(self, driver: Side, follower: Side, level: Level, x: Mapping[str, Array]) -> None:
        self.driver, self.follower, self.level = driver, follower, level
        self.x = x
        self.samples = len(next(iter(x.values())))
        self.steps = driver.graph.steps
        raw = dict(driver.recorded) if driver.recorded is not None else run_graph(driver.graph, x)
        self.raw = raw
        self.model = driver.graph
        if level == "events":
            self.model = as_float(driver.graph).map_nodes(self._strict)
            raw = values_of(driver.graph, raw)
        self.traces: dict[str, Array] = {**{n: self._input(n) for n in self.inputs()}, **raw}
        self.own: dict[str, Array] | None = None

    def _strict(self, op: Op) -> Op:
        """Integers know >= alone: where the follower fires at >, so does the driver's model, one LSB lower."""
        theirs, whole = self.follower.graph.by_name.get(op.name), self.driver.graph.by_name.get(op.name)
        if not (isinstance(op, Neuron) and isinstance(theirs, Neuron) and isinstance(whole, IntNeuron)):
            return op
        if theirs.fire is not Fire.STEP_GT or op.fire is not Fire.STEP_GE or op.max_spikes > 1:
            return op
        lower = aligned(whole.threshold - 1, len(self.driver.graph.shape(op.name))) * whole.v_scale
        return replace(op, fire=Fire.STEP_GT, theta=np.asarray(lower))

    def names(self) -> list[str]:
        """Populations of both, in the driver's order."""
        theirs = set(populations(self.follower.graph))
        return [n for n in populations(self.driver.graph) if n in theirs and n in self.traces]

    def inputs(self) -> list[str]:
        """Inputs of both."""
        return [n.name for n in self.driver.graph.of(Input, IntInput) if n.name in self.follower.graph.by_name]

    def raw_input(self, name: str, side: Side) -> tuple[Array, Input | IntInput]:
        """The user's samples, and the node that takes them in."""
        op = (side.entry or side.graph).by_name[name]
        assert isinstance(op, (Input, IntInput))
        return self.x[name], op

    def _input(self, name: str) -> Array:
        """What the driver's first populations see, over all steps."""
        x, op = self.raw_input(name, self.driver)
        seen = reference.quantise_input(op, x) if isinstance(op, IntInput) else np.asarray(x, dtype=np.float64)
        if self.level == "events":
            seen = payload_value(op, seen)
        return np.broadcast_to(seen, (len(seen), self.steps, *seen.shape[2:]))

    def values(self, unit: Unit) -> dict[str, Array]:
        """The inputs of a unit: the driver's, or the follower's own where the driver has none."""
        if any(ref not in self.traces for ref in unit.sources.values()) and self.own is None:
            self.own = run_graph(self.follower.graph, self.x)
        return {label: self.traces[ref] if ref in self.traces else (self.own or {})[ref] for label, ref in unit.sources.items()}

    def driven(self, name: str) -> Trace:
        """The driver's run of a population."""
        m, v = self.traces.get(f"{name}.m"), self.traces.get(f"{name}.v")
        payload = self.traces[name]
        op = self.model.by_name[name]
        threshold = None
        if isinstance(op, Neuron) and op.adapt_jump is None:
            threshold = np.broadcast_to(aligned(op.theta, payload.ndim - 2)[None], payload.shape)
        return Trace(payload=payload, m=m, v=v, threshold=threshold)

    def follow(self, name: str) -> Trace:
        """The follower's run of a population on the driver's inputs."""
        unit = cut(self.follower.graph, name)
        return run_unit(unit, self.values(unit), self.traces[name])

    def judge(self, name: str) -> Judge:
        """How the population is compared."""
        op, whole = self.follower.graph.by_name[name], self.driver.graph.by_name[name]
        return Judge(
            level=self.level, neuron=op if isinstance(op, FLOAT_POPULATIONS) else None,
            whole=whole if isinstance(whole, INTEGER_POPULATIONS) and self.level == "events" else None,
            tolerance=max(self.driver.tolerance, self.follower.tolerance),
        )  # fmt: skip

    def whole(self, name: str) -> tuple[Unit, dict[str, Array]]:
        """The driver's integer population itself, and its inputs as payloads."""
        unit = cut(self.driver.graph, name)
        given = {}
        for label, ref in unit.sources.items():
            op = self.driver.graph.by_name.get(ref)
            x = reference.quantise_input(op, self.x[ref]) if isinstance(op, IntInput) else self.raw[ref]
            given[label] = np.broadcast_to(x, (len(x), self.steps, *x.shape[2:])).astype(np.int64)
        return unit, given

    def integers(self, name: str, chosen: Array) -> Trace:
        """That population run again, in real units."""
        unit, given = self.whole(name)
        trace = run_unit(unit, {label: x[chosen] for label, x in given.items()})
        assert trace.m is not None
        real = values_of(self.driver.graph, {name: trace.payload, f"{name}.m": trace.m})
        return Trace(payload=real[name], m=real[f"{name}.m"])


def run_graph(graph: Graph, x: Mapping[str, Array]) -> dict[str, Array]:
    """Payloads and membranes of every population of a graph, by reference."""
    integer = graph.dialect is Dialect.INTEGER
    refs = reference.references(graph) if integer else [f"{n.name}{port}" for n in graph.of(*FLOAT_POPULATIONS) for port in PORTS]
    seen = reference.run(graph, x, record=refs) if integer else interpret(graph, x, record=refs)
    return {ref: seen[ref] for ref in refs}


def only_input(graph: Graph) -> str:
    """The name of the one input (SNN604 if there are several)."""
    names = [n.name for n in graph.of(Input, IntInput)]
    if len(names) != 1:
        raise fail("SNN604", f"the network has {len(names)} inputs: {', '.join(names)}", help="a data file holds the samples of one, x")
    return names[0]


def populations(graph: Graph) -> list[str]:
    """Names of all populations, in the graph's order."""
    return [n.name for n in graph.of(*FLOAT_POPULATIONS, *INTEGER_POPULATIONS)]


__all__ = ["Rerun", "Side", "only_input", "populations", "run_graph"]

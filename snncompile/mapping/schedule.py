"""Time on the chip: when each population works, and how long each synapse waits.

Every synapse hop takes at least one hardware step. Population p works on model step t at hardware step ``II * t + depth[p]``:

    hop(port) = II * delay(port) + depth[reader] - depth[source]        >= 1, at most what the target's synapses can delay
    II        = the smallest initiation interval for which such depths exist: max over cycles of ceil(hops / model delay)
    depth     = the smallest that satisfy all ports: longest paths from the inputs, which send at depth 0

Branches that join are balanced by the hops that follow from this: the shorter branch waits in its synapse.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import networkx as nx

from snncompile.errors import CompileError, Diagnostic, InternalError
from snncompile.ir.graph import Graph
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.population import ports
from snncompile.ir.program import IntProgram


@dataclass(frozen=True, slots=True)
class Wire:
    """A port as the schedule sees it: who sends, through which synapse, to whom, how many model steps late, and its least hops."""

    source: str
    synapse: str
    reader: str
    delay: int
    least: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When everything happens, in hardware steps.

    depth       per input and population: it works on model step t of sample n at ``initiation_interval * (n * T + t) + depth``
    hop_delay   per synapse: hardware steps from the sender's update to the reader's; 1 is the hop itself
    model_delay per synapse: how many model steps late it comes; in a sample's first steps it delivers its initial payload
    total_hops  the depth of the last population: hardware steps from an input to the output it causes
    host        populations that the chip's host computes: what they hear and send takes the target's ``host.latency`` more steps
    critical    populations on a cycle that forces the initiation interval, empty if it is 1
    """

    steps: int
    initiation_interval: int
    depth: dict[str, int]
    hop_delay: dict[str, int]
    model_delay: dict[str, int]
    wires: tuple[Wire, ...]
    critical: tuple[str, ...] = ()
    host: tuple[str, ...] = ()

    @property
    def total_hops(self) -> int:
        """Hardware steps from an input to the last population that it reaches."""
        return max(self.depth.values(), default=0)

    def hardware_steps(self, samples: int = 1) -> int:
        """How many hardware steps ``samples`` back to back take."""
        return self.initiation_interval * (samples * self.steps - 1) + self.total_hops + 1

    def describe(self) -> str:
        """The schedule as text, one line per population and synapse."""
        lines = [f"one model step every {self.initiation_interval} hardware step(s), {self.total_hops} hop(s) from input to output"]
        if self.critical:
            lines.append(f"forced by the cycle {' -> '.join(self.critical)}")
        for name in sorted(self.depth, key=lambda n: (self.depth[n], n)):
            arrivals = [f"{w.source} by {w.synapse} (hop {self.hop_delay[w.synapse]})" for w in self.wires if w.reader == name]
            place = " (on the host)" if name in self.host else ""
            lines.append(f"  {self.depth[name]:4d}  {name}{place}" + (f"  from {', '.join(arrivals)}" if arrivals else ""))
        return "\n".join(lines)


def schedule(graph: Graph, hop_limit: int | None = None, interval: int = 1) -> Schedule:
    """Schedule an integer graph.

    interval   the smallest initiation interval to take, where a cycle does not force a larger one
    hop_limit  the most hardware steps one synapse can take; by default what the graph's ``meta["hop_limit"]`` records
    raises     CompileError SNN403 where a synapse would have to wait longer than that
    """
    limit = graph.meta.get("hop_limit") if hop_limit is None else hop_limit
    wires = tuple(_wires(graph))
    names = [n.name for n in graph.nodes if isinstance(n, (IntInput, IntNeuron, IntProgram))]
    inputs = {n.name for n in graph.nodes if isinstance(n, IntInput)}
    forced = smallest_interval(wires)
    ii = max(forced, interval)
    depth = depths(names, inputs, wires, ii)
    if depth is None:
        raise InternalError(f"no schedule with initiation interval {ii}")
    hops = {w.synapse: ii * w.delay + depth[w.reader] - depth[w.source] for w in wires}
    late = [w for w in wires if limit is not None and hops[w.synapse] > limit]
    if late:
        raise CompileError([
            Diagnostic(
                "SNN403", f"'{w.synapse}' from '{w.source}' to '{w.reader}' waits {hops[w.synapse]} hardware steps, the limit is {limit}",
                graph.by_name[w.synapse].loc, (f"limit is target '{graph.meta.get('target', '?')}': limits.delay, and the hop itself",),
                "put relay populations on the shorter branch",
            ) for w in late
        ])  # fmt: skip
    return Schedule(
        steps=graph.steps, initiation_interval=ii, depth=depth, hop_delay=hops, wires=wires,
        model_delay={w.synapse: w.delay for w in wires}, critical=critical_cycle(wires, ii) if ii == forced else (),
        host=tuple(graph.meta.get("host", ())),
    )  # fmt: skip


def _wires(graph: Graph) -> Iterable[Wire]:
    host, latency = set(graph.meta.get("host", ())), int(graph.meta.get("host_latency", 0))
    for n in graph.nodes:
        if isinstance(n, (IntNeuron, IntProgram)):
            for p in ports(graph, n):
                yield Wire(p.source.name, p.synapse.name, n.name, len(p.delays), 1 + latency * len({p.source.name, n.name} & host))


def _constraints(wires: Iterable[Wire], ii: int) -> nx.DiGraph:
    """Edge source -> reader of weight ``II * delay - least hops``: a negative cycle is one that needs a larger II."""
    g = nx.DiGraph()
    for w in wires:
        weight = ii * w.delay - w.least
        if not g.has_edge(w.source, w.reader) or weight < g[w.source][w.reader]["weight"]:
            g.add_edge(w.source, w.reader, weight=weight)
    return g


def smallest_interval(wires: Iterable[Wire]) -> int:
    """The smallest II without a negative cycle. A cycle has at most as many hops as populations, and a delay of at least 1."""
    wires = tuple(wires)
    low, high = 1, max(1, sum({w.reader: w.least for w in sorted(wires, key=lambda w: w.least)}.values()))
    while low < high:
        middle = (low + high) // 2
        if nx.negative_edge_cycle(_constraints(wires, middle)):
            low = middle + 1
        else:
            high = middle
    return low


def critical_cycle(wires: Iterable[Wire], ii: int) -> tuple[str, ...]:
    """A cycle that forbids a smaller II, from its first population by name back to it."""
    if ii == 1:
        return ()
    g = _constraints((w for w in wires if w.source != w.reader), ii - 1)  # one hop, one model step or more: never critical
    for name in sorted(g):
        try:
            cycle = nx.find_negative_cycle(g, name)[:-1]
        except nx.NetworkXError:
            continue
        first = cycle.index(min(cycle))
        return (*cycle[first:], *cycle[:first], cycle[first])
    raise InternalError(f"initiation interval {ii} has no critical cycle")


def depths(names: Iterable[str], inputs: set[str], wires: Iterable[Wire], ii: int) -> dict[str, int] | None:
    """The smallest depths that give every port a hop of at least 1; None if there are none (II too small)."""
    depth = {name: 0 if name in inputs else 1 for name in names}
    wires = tuple(wires)
    for _ in range(len(depth) + 1):
        moved = False
        for w in wires:
            least = depth[w.source] + w.least - ii * w.delay
            if depth[w.reader] < least:
                depth[w.reader], moved = least, True
        if not moved:
            return depth
    return None


__all__ = ["Schedule", "Wire", "critical_cycle", "depths", "schedule", "smallest_interval"]

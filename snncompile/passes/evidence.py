"""Executing a graph before and after a pass, each population fed with the same payloads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir.graph import Array, Graph, Op, fresh_name, node_of, port_of, toposort
from snncompile.ir.interpret import walk
from snncompile.ir.linear_ops import Input
from snncompile.ir.neuron import Fire, Neuron, Reset
from snncompile.ir.population import FLOAT_POPULATIONS
from snncompile.passes.arrays import spread


@dataclass(slots=True)
class Difference:
    """Largest relative membrane error (in the scale of before) and where, differing spikes, largest error of outputs that moved.

    A membrane that is the same within the bound flips a spike only on a tie, but then its own reset differs: what an element
    does after its first differing spike is not compared.
    """

    membrane: float = 0.0
    population: str | None = None
    spikes: int = 0
    output: float = 0.0


@dataclass(frozen=True)
class Evidence:
    """What every population and output of a graph computes on the probe.

    ``heard`` is what readers see: the payloads of the first graph of all (and of populations that came later, when they came),
    so that a difference in one population cannot travel. ``values`` is what this graph computes from them. Only populations
    that a changed node feeds are executed again.
    """

    graph: Graph
    probe: Mapping[str, Array]
    steps: int
    heard: Mapping[str, Array]
    values: dict[str, Array]

    @classmethod
    def of(cls, graph: Graph, probe: Mapping[str, Array], steps: int | None = None) -> Evidence:
        """Run a graph freely: the reference for all that follow."""
        total = graph.steps if steps is None else steps
        refs = _watched(graph)
        values: dict[str, Array] = {}
        for found in walk(graph, probe, {*refs, *graph.outputs.values()}, steps=total):
            values |= _packed(graph, found)
        heard = {ref: values[ref] for ref in refs}
        outputs = {_output(label): values[ref] for label, ref in graph.outputs.items()}
        return cls(graph, probe, total, heard, {**heard, **outputs})

    def after(self, graph: Graph) -> tuple[Evidence, Difference]:
        """The evidence of the graph that a pass made of this one, and what differs. This evidence is spent: its values make room for those
        of the next, one population after the other."""
        watched, difference = _watched(graph), Difference()
        heard, values = dict(self.heard), self.values
        for fresh in self._execute(graph, self._dirty(graph)):
            self._compare(graph, fresh, difference)
            values |= fresh
            heard |= {ref: value for ref, value in fresh.items() if ref not in self.heard}
        for key in [k for k in values if not k.startswith("output ") and node_of(k) not in graph.by_name]:
            del values[key]
        kept = {ref: heard[ref] for ref in watched if ref in heard}
        return Evidence(graph, self.probe, self.steps, kept, values), difference

    def _dirty(self, graph: Graph) -> set[str]:
        """Nodes that are not the same object as before, or that read such a node other than through a population."""
        dirty = {n.name for n in graph.nodes if self.graph.by_name.get(n.name) is not n}
        grew = True
        while grew:
            more = {
                n.name for n in graph.nodes if n.name not in dirty
                and any(node_of(r) in dirty and r not in self.heard for r in n.inputs)
            }  # fmt: skip
            dirty |= more
            grew = bool(more)
        return dirty

    def _execute(self, graph: Graph, dirty: set[str]) -> Iterator[dict[str, Array]]:
        """Values of the dirty populations and outputs, each from what it hears, one after the other."""
        wanted = {ref: ref for ref in _watched(graph) if node_of(ref) in dirty}
        wanted |= {
            _output(label): ref
            for label, ref in graph.outputs.items()
            if node_of(ref) in dirty or self.graph.outputs.get(label) != ref
        }  # fmt: skip
        return self._segment(graph, wanted) if wanted else iter(())

    def _segment(self, graph: Graph, outputs: Mapping[str, str]) -> Iterator[dict[str, Array]]:
        """Execute only what these references need, with inputs that repeat what was heard in place of populations."""
        taken: dict[str, object] = dict(graph.by_name)
        nodes: dict[str, Op] = {}
        stand_ins: dict[str, str] = {}
        sources: list[Op] = []
        data = dict(self.probe)
        waiting = [node_of(ref) for ref in outputs.values()]
        while waiting:
            op = graph.by_name[waiting.pop()]
            if op.name in nodes:
                continue
            for ref in op.inputs:
                if ref not in self.heard:
                    waiting.append(node_of(ref))
                elif ref not in stand_ins:
                    name = fresh_name(taken, f"heard_{node_of(ref)}_{port_of(ref)}")
                    taken[name] = stand_ins[ref] = name
                    sources.append(Input(name=name, size=graph.shape(ref)))
                    data[name] = self.heard[ref]
            nodes[op.name] = replace(op, inputs=tuple(stand_ins.get(r, r) for r in op.inputs))
        fed = replace(graph, nodes=toposort([*sources, *nodes.values()]), outputs=dict(outputs))
        keys: dict[str, list[str]] = {}
        for key, ref in outputs.items():
            keys.setdefault(ref, []).append(key)
        for values in walk(fed, data, set(outputs.values()), steps=self.steps):
            yield {key: value for ref, value in _packed(graph, values).items() for key in keys[ref]}

    def _compare(self, graph: Graph, fresh: Mapping[str, Array], found: Difference) -> None:
        """Note how values of one node, or of several, differ from those before."""
        for n in [graph.by_name[node_of(key)] for key in fresh if key.endswith(".m") and not key.startswith("output ")]:
            key = f"{n.name}.m"
            if key not in self.values:
                continue
            valid: Array | None = None
            assert isinstance(n, FLOAT_POPULATIONS)
            if n.spiking or (isinstance(n, Neuron) and n.reset is Reset.SET):
                before, after = self.values[n.name], fresh[n.name]
                flips = before != after if n.spiking else (before > 0) != (after > 0)
                if flips.any():
                    valid = np.cumsum(flips, axis=1) <= flips  # none before
                    found.spikes += int(np.sum(flips & valid))
            error = relative(_as_before(fresh[key], self.graph.by_name[n.name], n), self.values[key], valid)
            if error > found.membrane:
                found.membrane, found.population = error, n.name
        for label, ref in graph.outputs.items():
            key = _output(label)
            if key in fresh and ref != self.graph.outputs[label]:
                found.output = max(found.output, relative(fresh[key], self.values[key]))


def _as_before(m: Array, before: Op, after: Op) -> Array:
    """A membrane on its scale before the pass: what became of a threshold says how it was divided, or, without a state, shifted."""
    if not isinstance(before, Neuron) or not isinstance(after, Neuron) or np.array_equal(before.theta, after.theta):
        return m
    rank = max(before.theta.ndim, after.theta.ndim) - 1
    if after.grid and after.reset is Reset.STATELESS:
        return np.asarray(m + (spread(before.theta, rank) - spread(after.theta, rank)))
    if not after.spiking or not (np.all(before.theta > 0) and np.all(after.theta > 0)):
        return m
    return np.asarray(m * (spread(before.theta, rank) / spread(after.theta, rank)))


def relative(after: Array, before: Array, valid: Array | None = None) -> float:
    """The largest difference (where ``valid``), relative to the largest value before."""
    if after.shape != before.shape:
        return float("inf")
    scale = max(float(before.max(initial=0.0)), -float(before.min(initial=0.0)))
    apart = np.subtract(after, before, dtype=np.float64)
    error = float(np.abs(apart, out=apart).max(initial=0.0, where=True if valid is None else valid))
    return error / scale if scale > 0 else error


def _watched(graph: Graph) -> list[str]:
    """Every population's payload and membrane, and its membrane after the reset if something reads that."""
    used = {r for n in graph.nodes for r in n.inputs} | set(graph.outputs.values())
    return [
        ref for n in graph.of(*FLOAT_POPULATIONS) for ref in (n.name, f"{n.name}.m", f"{n.name}.v") if not ref.endswith(".v") or ref in used
    ]


def _packed(graph: Graph, values: Mapping[str, Array]) -> dict[str, Array]:
    """Recorded values; spikes of which there is at most one in one byte each, and a membrane that is sent as it is once."""
    found = dict(values)
    for ref in values:
        op = graph.by_name.get(ref)
        if isinstance(op, FLOAT_POPULATIONS) and op.spiking and op.max_spikes == 1:
            found[ref] = values[ref].astype(np.bool_)
        elif isinstance(op, Neuron) and op.fire is Fire.NONE and f"{ref}.m" in values:
            found[f"{ref}.m"] = values[ref]
    return found


def _output(label: str) -> str:
    return f"output {label}"

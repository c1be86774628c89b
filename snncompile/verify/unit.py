"""One population cut out of a network: its synapses and its neurons, fed with payloads from outside.

Every payload that the population reads, its own one step ago included, becomes an input of the unit. So two networks can be
compared population by population on the same inputs, and one difference does not cascade.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir import reference
from snncompile.ir.graph import Array, Dialect, Graph, Op, node_of, port_of
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Input
from snncompile.ir.max_pool import MaxPool2d
from snncompile.ir.population import FLOAT_POPULATIONS, INTEGER_POPULATIONS, FloatPopulation, IntPopulation

ANY_INTEGER = 2**31 - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """A population's run, ``(N, T, *shape)`` each: what it sent, its membrane before and after the reset; None where nobody recorded it.

    threshold  in force, if the executor tells (it may adapt)
    """

    payload: Array
    m: Array | None = None
    v: Array | None = None
    threshold: Array | None = None

    def first(self, samples: slice, steps: slice) -> Trace:
        """A part of it."""
        return self._map(lambda x: x[samples, steps])

    def take(self, samples: Array) -> Trace:
        """Some of its samples."""
        return self._map(lambda x: x[samples])

    def _map(self, part: Callable[[Array], Array]) -> Trace:
        m, v, threshold = (None if x is None else part(x) for x in (self.m, self.v, self.threshold))
        return Trace(payload=part(self.payload), m=m, v=v, threshold=threshold)


@dataclass(frozen=True, kw_only=True, eq=False)
class Unit:
    """A population by itself.

    graph    inputs, synapses, the population; its outputs are the population's payload
    sources  for each input of the unit, the value of the whole network that it stands for: ``{"lif1_sent": "lif1"}``
    """

    graph: Graph
    name: str
    sources: Mapping[str, str]

    @property
    def neuron(self) -> FloatPopulation | IntPopulation:
        """The population."""
        found = self.graph.by_name[self.name]
        assert isinstance(found, (*FLOAT_POPULATIONS, *INTEGER_POPULATIONS))
        return found

    @property
    def divisible(self) -> bool:
        """Whether its current is a sum over its sources."""
        return not self.graph.of(MaxPool2d)


def cut(graph: Graph, name: str) -> Unit:
    """Cut a population out of a graph of either dialect."""
    neuron = graph.by_name[name]
    sources: dict[str, str] = {}
    kept: dict[str, Op] = {}
    renamed: dict[str, str] = {}

    def boundary(ref: str) -> str | None:
        source = graph.node(ref)
        if isinstance(source, (Input, IntInput)):
            return source.name
        if isinstance(source, (*FLOAT_POPULATIONS, *INTEGER_POPULATIONS)):
            return f"{source.name}_{port_of(ref) or 'sent'}"
        return None

    stack = list(neuron.inputs)
    while stack:
        ref = stack.pop()
        label = boundary(ref)
        if label is not None:
            sources[label], renamed[ref] = ref, label
        elif node_of(ref) not in kept:
            op = graph.node(ref)
            kept[op.name] = op
            stack += op.inputs
    integer = graph.dialect is Dialect.INTEGER
    nodes: list[Op] = [any_input(label, graph.shape(ref), integer=integer) for label, ref in sorted(sources.items())]
    for op in (*(n for n in graph.nodes if n.name in kept), neuron):
        nodes.append(replace(op, inputs=tuple(renamed.get(r, r) for r in op.inputs)))
    cut_out = replace(graph, name=name, nodes=tuple(nodes), outputs={"payload": name}).rebuild(nodes)
    return Unit(graph=cut_out, name=name, sources=dict(sorted(sources.items())))


def any_input(label: str, shape: tuple[int, ...], *, integer: bool) -> Op:
    """An input that takes whatever comes: real numbers, or payloads of any size."""
    if not integer:
        return Input(name=label, size=shape)
    one, zero = np.ones(()), np.zeros(())
    return IntInput(name=label, size=shape, lsb=one, offset=zero, low=-ANY_INTEGER, high=ANY_INTEGER)


def run_unit(unit: Unit, values: Mapping[str, Array], sent: Array | None = None) -> Trace:
    """Run the population on its inputs ``{label: (N, T, *shape)}``; a population of float spikes resets by ``sent`` if given."""
    name = unit.name
    if unit.graph.dialect is Dialect.INTEGER:
        found = reference.run(unit.graph, values, record=[name, f"{name}.m", f"{name}.v"])
        return Trace(payload=found[name], m=found[f"{name}.m"], v=found[f"{name}.v"])
    neuron = unit.neuron
    assert isinstance(neuron, FLOAT_POPULATIONS)
    forced = {} if sent is None or not neuron.spiking else {name: sent}
    refs = [name, *(f"{name}.{port}" for port in ("m", "v", "threshold"))]
    seen = interpret(unit.graph, values, record=refs, overrides=forced)
    return Trace(payload=seen[name], m=seen[f"{name}.m"], v=seen[f"{name}.v"], threshold=seen[f"{name}.threshold"])


def currents(unit: Unit, values: Mapping[str, Array]) -> Array:
    """What the population's synapses deliver, ``(N, T, *shape)``: the float current, or the sum of shifted accumulators."""
    neuron = unit.neuron
    read = list(dict.fromkeys(neuron.inputs))
    alive = {ref: k for k, ref in enumerate(read)}
    nodes = [n for n in unit.graph.nodes if n.name != unit.name]
    part = replace(unit.graph, nodes=tuple(nodes), outputs={str(k): ref for ref, k in alive.items()}).rebuild(nodes)
    if isinstance(neuron, IntNeuron):
        found = reference.run(part, values)
        shifts = zip(neuron.inputs, neuron.exponents, strict=True)
        return np.asarray(sum(found[str(alive[ref])].astype(np.int64) << e for ref, e in shifts))
    return interpret(part, values)[str(alive[neuron.inputs[0]])]


__all__ = ["Trace", "Unit", "any_input", "currents", "cut", "run_unit"]

"""Which populations of two networks belong together: those of one name, or, where no name is shared, those of one place and shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from snncompile.ir.graph import Array, Graph
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.linear_ops import Input
from snncompile.ir.neuron import Fire, Neuron, Reset, constant
from snncompile.ir.population import FLOAT_POPULATIONS, INTEGER_POPULATIONS
from snncompile.verify.rerun import Side, populations


def align(a: Side, b: Side) -> tuple[Side, Side, list[str]]:
    """Both with the names of ``a`` where that is certain and with a population for every output, and what was decided."""
    names, notes = {}, []
    ours, theirs = (s.graph.of(Input, IntInput) for s in (a, b))
    if len(ours) == len(theirs) == 1 and ours[0].name != theirs[0].name:
        names[theirs[0].name] = ours[0].name
    mine, other = populations(a.graph), populations(b.graph)
    if not set(mine) & set(other) and _shapes(a.graph, mine) == _shapes(b.graph, other):
        names.update(zip(other, mine, strict=True))
        pairs = ", ".join(f"{m} and {o}" for o, m in zip(other, mine, strict=True))
        notes.append(f"no population has the same name in both; they are paired in order: {pairs}")
    a, b = _read_out(a, rename(b, names) if names else b)
    return a, b, notes


def _read_out(a: Side, b: Side) -> tuple[Side, Side]:
    """Outputs that are currents become readout populations, called as on the side where the passes made them one."""
    for one, two in zip(a.graph.outputs, b.graph.outputs, strict=False):
        mine, other = a.graph.outputs[one], b.graph.outputs[two]
        if a.graph.shape(mine) != b.graph.shape(other):
            continue
        wished = next((r for s, r in ((b, other), (a, mine)) if _is_readout(s.graph, r)), f"output_{one}")
        a, b = (s if _is_payload(s.graph, s.graph.outputs[k]) else _with_readout(s, k, wished) for s, k in ((a, one), (b, two)))
    return a, b


def _is_payload(graph: Graph, ref: str) -> bool:
    return isinstance(graph.node(ref), (*FLOAT_POPULATIONS, *INTEGER_POPULATIONS))


def _is_readout(graph: Graph, ref: str) -> bool:
    n = graph.by_name.get(ref)
    return (isinstance(n, Neuron) and n.fire is Fire.NONE) or (isinstance(n, IntNeuron) and n.fire == "none")


def _with_readout(side: Side, label: str, name: str) -> Side:
    graph, ref = side.graph, side.graph.outputs[label]
    if name in graph.by_name:
        return side
    zero, one = constant(0.0), constant(1.0)
    made = Neuron(
        name=name, inputs=(ref,), loc=graph.node(ref).loc, fire=Fire.NONE, reset=Reset.STATELESS, leak=zero, gain=one, bias=zero,
        theta=zero, reset_amount=zero, reset_value=zero, v_init=np.zeros(()),
    )  # fmt: skip
    recorded = side.recorded
    if recorded is not None and ref in recorded:
        recorded = {**recorded, name: recorded[ref]}
    return replace(side, graph=graph.rebuild([*graph.nodes, made]), recorded=recorded)


def _shapes(graph: Graph, names: list[str]) -> list[tuple[int, ...]]:
    return [graph.shape(name) for name in names]


def rename(side: Side, names: Mapping[str, str]) -> Side:
    """Other names for nodes; what else has such a name makes room."""

    def new(name: str) -> str:
        return names.get(name, f"{name}_" if name in names.values() else name)

    def ref(value: str) -> str:
        node, dot, port = value.partition(".")
        return f"{new(node)}{dot}{port}"

    def of(graph: Graph) -> Graph:
        nodes = [replace(n, name=new(n.name), inputs=tuple(map(ref, n.inputs))) for n in graph.nodes]
        return graph.rebuild(nodes, {label: ref(value) for label, value in graph.outputs.items()})

    recorded: dict[str, Array] | None = None if side.recorded is None else {ref(k): v for k, v in side.recorded.items()}
    return replace(side, graph=of(side.graph), recorded=recorded, entry=None if side.entry is None else of(side.entry))


__all__ = ["align", "rename"]

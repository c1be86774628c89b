"""Where learning happens: the dense layers from the first plastic one to the readout, and what cannot be one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from snncompile.errors import CompileError, fail
from snncompile.ir.graph import Graph, Op
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.linear_ops import Linear
from snncompile.ir.neuron import Reset
from snncompile.ir.population import Port, ports
from snncompile.ir.program import IntProgram
from snncompile.quantize.planes import is_fine_of

DENSE = "only dense synapses have a learning engine"
TRACE = "a presynaptic trace counts spikes"
WAY = "source: lava-nc 0.10.0, proc/dense"
DENSE_ROW = "choose a dense layer that reads spikes, and from which dense layers lead to the readout"


@dataclass(frozen=True, eq=False)
class Link:
    """One dense layer of the chain: the population that sends, the trained synapse, the population that reads; whether it learns."""

    source: Op
    synapse: Linear
    population: IntNeuron
    plastic: bool


def find_chain(graph: Graph, layers: Iterable[str]) -> tuple[Link, ...]:
    """The layers called ``layers`` and the frozen ones between them and the readout, in the order in which spikes pass them.

    A layer is called by its node's name, its population's, or the module's it came from.
    Errors  SNN805 no such layer; SNN810 one named twice; SNN806 a layer that cannot learn on the chip, with the reason
    """
    wanted: dict[str, str] = {}
    for layer in layers:
        port, population = _find(graph, layer)
        if population.name in wanted:
            again = "twice" if wanted[population.name] == layer else f"as '{wanted[population.name]}', too"
            raise fail("SNN810", f"the layer '{layer}' is named {again}", loc=population.loc, help="name every layer that learns once")
        _check_plastic(graph, layer, port, population)
        wanted[population.name] = layer
    return links(graph, wanted, wanted)


def links(graph: Graph, wanted: Iterable[str], called: Mapping[str, str] | None = None) -> tuple[Link, ...]:
    """The chain of the populations ``wanted``, to the readout; ``called`` is what a user calls them."""
    readout = _readout(graph, ", ".join((called or {}).values()))
    missing, found, at = set(wanted), [], readout
    while missing:
        first = (called or {}).get(min(missing), min(missing))
        where = f"'{at.name}', between the plastic layer and the readout, is not a dense layer that reads one population"
        port, *others = (p for p in ports(graph, at) if p.synapse.name not in graph.meta.get("changes", ()))
        if others or not isinstance(port.synapse, Linear) or port.gather is not None or port.delays:
            raise _refused(first, where, "the error's way is known for dense layers in a row", at.loc)
        found.append(Link(port.source, port.synapse, at, at.name in wanted))
        missing.discard(at.name)
        if missing and not isinstance(port.source, IntNeuron):
            raise _refused(first, "no dense layers in a row lead from it to the readout", DENSE, at.loc)
        if missing and isinstance(port.source, IntNeuron):
            at = port.source
            _check_hidden(at, at.name)
    return tuple(reversed(found))


def _find(graph: Graph, layer: str) -> tuple[Port, IntNeuron]:
    known = []
    for n in (*graph.of(IntNeuron), *graph.of(IntProgram)):
        for p in ports(graph, n):
            if layer in (names := {p.synapse.name, n.name, *p.synapse.origin[:1]}) or layer.replace(".", "_") in names:
                if not isinstance(n, IntNeuron):
                    raise _refused(layer, f"'{n.name}' is a neuron program", "the float rule must know the neuron's derivative", n.loc)
                return p, n
            known.append(p.synapse.name)
    raise fail("SNN805", f"the network has no layer '{layer}'", help=f"its layers are: {', '.join(known)}")


def _check_plastic(graph: Graph, layer: str, port: Port, population: IntNeuron) -> None:
    op = port.synapse
    if not isinstance(op, Linear):
        raise _refused(layer, f"it is a {op.kind}, whose weights are shared", DENSE, op.loc)
    if port.gather is not None or port.delays:
        raise _refused(layer, "its input is rearranged or delayed on the way", "the trace must be that of the spikes that arrive", op.loc)
    if not _binary(port.source):
        raise _refused(layer, f"'{port.source.name}' does not send binary spikes", TRACE, op.loc)
    if any(is_fine_of(graph.node(ref), op) for ref in population.inputs):
        raise _refused(
            layer, "its weights are wider than one synapse", "what is learned is added to weights of one synapse", op.loc,
            way_out="leave --weight-bits at 8 for a network that learns",
        )  # fmt: skip
    if len(population.inputs) != 1:
        raise _refused(layer, f"'{population.name}' reads other layers too", "a plastic population has one synapse", op.loc)


def _binary(source: Op) -> bool:
    """Whether it sends 0 and 1: neurons, or an input of nothing else."""
    if isinstance(source, IntInput):
        return source.low == 0 and source.high == 1 and not np.any(source.offset) and float(np.ptp(source.lsb)) == 0
    return isinstance(source, IntNeuron | IntProgram) and source.fire == "step" and source.max_spikes == 1


def _check_hidden(n: IntNeuron, layer: str) -> None:
    """What a population between the first plastic synapse and the readout may be: the float rule must know its derivative."""
    rule = "the postsynaptic factor is the derivative of a spike at the membrane"
    if n.fire != "step" or n.max_spikes != 1:
        raise _refused(layer, f"'{n.name}' does not send binary spikes", rule, n.loc)
    filters = n.alpha is not None or n.gain is not None or n.adapt_jump is not None or n.v_min is not None or n.reset_keep is not None
    if filters or n.reset not in (Reset.SUBTRACT, Reset.SET):
        raise _refused(
            layer, f"'{n.name}' is no plain leaky neuron: its current is filtered or scaled, its threshold adapts, or it resets otherwise",
            rule, n.loc,
        )  # fmt: skip


def _readout(graph: Graph, layer: str) -> IntNeuron:
    names = sorted({ref.partition(".")[0] for ref in graph.outputs.values()})
    n = graph.by_name[names[0]]
    if len(names) != 1 or not isinstance(n, IntNeuron) or n.fire != "none":
        raise _refused(
            layer, f"'{names[0]}' is not the network's only output, without spikes", "the error is taken from one readout", n.loc
        )
    return n


def _refused(layer: str, why: str, rule: str, loc: Any, way_out: str = DENSE_ROW) -> CompileError:
    return fail("SNN806", f"'{layer}' cannot learn on the chip: {why}", loc=loc, notes=(rule, WAY), help=way_out)


__all__ = ["Link", "find_chain", "links"]

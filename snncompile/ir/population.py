"""Population form: every neuron reads synapses, every synapse reads one population's payload.

    source (input or neuron) -> delay* -> at most one gather -> synapse (conv2d, linear, diagonal) -> [add] -> neuron

Both dialects use it: float neurons read one synapse or one sum of synapses, integer neurons read their synapses directly.
"""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.errors import InternalError
from snncompile.ir.graph import Array, Graph, Op, port_of
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.linear_ops import Add, Conv2d, Delay, Diagonal, Gather, Input, Linear
from snncompile.ir.neuron import Neuron
from snncompile.ir.program import IntProgram, NeuronProgram

Synapse = Conv2d | Linear | Diagonal
FLOAT_POPULATIONS = (Neuron, NeuronProgram)
INTEGER_POPULATIONS = (IntNeuron, IntProgram)
IntPopulation = IntNeuron | IntProgram
FloatPopulation = Neuron | NeuronProgram


@dataclass(frozen=True, kw_only=True, eq=False)
class Port:
    """One synapse into a population, with everything between it and the population whose payload it carries.

    ``delays`` is in the order in which the payload meets them; each adds one model step.
    """

    synapse: Synapse
    gather: Gather | None
    delays: tuple[Delay, ...]
    source: Op

    @property
    def wiring(self) -> Array | None:
        """The gather's index, or None where the synapse reads the payload as it is."""
        return None if self.gather is None else self.gather.index


def synapses_of(graph: Graph, neuron: Op) -> tuple[Op, ...]:
    """The nodes that a population sums: what it reads, sums opened."""
    read = map(graph.node, neuron.inputs)
    return tuple(part for node in read for part in (map(graph.node, node.inputs) if isinstance(node, Add) else (node,)))


def ports(graph: Graph, neuron: Op) -> tuple[Port, ...]:
    """The synapses that a population reads, in order; raises InternalError where the graph is not in population form."""
    found: list[Port] = []
    for synapse in synapses_of(graph, neuron):
        port = port_at(graph, synapse)
        if isinstance(port, str):
            raise InternalError(f"'{neuron.name}' reads {port}: the graph is not in population form")
        found.append(port)
    return tuple(found)


def port_at(graph: Graph, synapse: Op) -> Port | str:
    """The port that a synapse is, or why it is none."""
    if not isinstance(synapse, (Conv2d, Linear, Diagonal)):
        return f"'{synapse.name}' ({synapse.kind}), not a synapse"
    ref = synapse.inputs[0]
    gather: Gather | None = None
    delays: list[Delay] = []
    while isinstance(node := graph.node(ref), (Gather, Delay)):
        if isinstance(node, Gather):
            if gather is not None or delays:
                return f"'{synapse.name}' through '{node.name}' in the wrong place"
            gather = node
        elif len(delays) > len(graph.nodes):
            return f"'{synapse.name}' through a delay that only reads itself"
        else:
            delays.append(node)
        ref = node.inputs[0]
    if not isinstance(node, (Input, IntInput, *FLOAT_POPULATIONS, *INTEGER_POPULATIONS)) or port_of(ref):
        return f"'{synapse.name}', which reads '{ref}' ({node.kind}), not a payload"
    return Port(synapse=synapse, gather=gather, delays=tuple(reversed(delays)), source=node)


__all__ = [
    "FLOAT_POPULATIONS", "INTEGER_POPULATIONS", "FloatPopulation", "IntPopulation", "Port", "Synapse", "port_at", "ports", "synapses_of",
]  # fmt: skip

"""Population form: every neuron reads synapses, every synapse reads one population's payload.

    source (input or neuron) -> delay* -> at most one gather -> synapse (conv2d, linear, diagonal) -> [add] -> neuron

Both dialects use it: float neurons read one synapse or one sum of synapses, integer neurons read their synapses directly.
"""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.errors import InternalError
from snncompile.ir.graph import Array, Graph, Op, port_of
from snncompile.ir.linear_ops import Add, Conv2d, Delay, Diagonal, Gather, Linear

Synapse = Conv2d | Linear | Diagonal


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


def ports(graph: Graph, neuron: Op) -> tuple[Port, ...]:
    """The synapses that a population reads, in order; raises InternalError where the graph is not in population form."""
    found: list[Port] = []
    for ref in neuron.inputs:
        node = graph.node(ref)
        for inner in node.inputs if isinstance(node, Add) else (ref,):
            found.append(_port(graph, graph.node(inner), neuron))
    return tuple(found)


def _port(graph: Graph, synapse: Op, neuron: Op) -> Port:
    if not isinstance(synapse, (Conv2d, Linear, Diagonal)):
        raise InternalError(f"'{neuron.name}' reads '{synapse.name}' ({synapse.kind}), not a synapse: the graph is not in population form")
    ref = synapse.inputs[0]
    gather: Gather | None = None
    delays: list[Delay] = []
    while isinstance(node := graph.node(ref), (Gather, Delay)):
        if isinstance(node, Gather):
            if gather is not None or delays:
                raise InternalError(f"'{synapse.name}' reads through '{node.name}' in the wrong place: the graph is not in population form")
            gather = node
        else:
            delays.append(node)
        ref = node.inputs[0]
    if node.kind not in ("input", "int_input", "neuron", "int_neuron") or port_of(ref):
        raise InternalError(f"'{synapse.name}' reads '{ref}' ({node.kind}), not a payload: the graph is not in population form")
    return Port(synapse=synapse, gather=gather, delays=tuple(reversed(delays)), source=node)


__all__ = ["Port", "Synapse", "ports"]

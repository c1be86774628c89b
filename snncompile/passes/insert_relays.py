"""Give every real value that a synapse, a delay or an output needs as a payload a relay population."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from snncompile.ir.graph import Graph, Op, fresh_name
from snncompile.ir.linear_ops import Add, Affine, Conv2d, Delay, Gather, Input, Linear
from snncompile.ir.population import FLOAT_POPULATIONS
from snncompile.passes.arrays import constant_in_time
from snncompile.passes.base import Change, Refusal, RewritePass
from snncompile.passes.relay import relay, relay_for


@dataclass(frozen=True)
class InsertRelays(RewritePass):
    """After this pass every current is read once, by a population or by a sum in front of one.

    Given    %x = add(...)    %y = conv2d(%x)    %z = add(%x, ...)       a residual stream of real values
    Result   %x = add(...)    %r = relay(%x)     %y = conv2d(%r)    %z = add(%r, ...)

    An output that is no population's payload is read out by one. A current that only populations read is computed once for
    each of them while it has at most ``max_copy`` weights and adds to no stream, and relayed otherwise. A factor that differs
    between steps and that no neuron could take becomes the gain of a relay.
    """

    name = "insert-relays"
    max_copy: int = 4096

    def rule(self, op: Op, graph: Graph) -> Change | Refusal | None:
        """Relay, copy or leave one value."""
        is_output = op.name in graph.outputs.values()
        if isinstance(op, (Input, Gather, Delay)):
            return self._readout(op, graph) if is_output else None
        if not isinstance(op, (Conv2d, Linear, Affine, Add)):
            return None
        readers = graph.readers_of[op.name]
        if isinstance(op, Affine) and not constant_in_time(op.factor):
            name = fresh_name(graph.by_name, f"{op.name}_{'readout' if is_output else 'relay'}")
            carrier = relay(name, op.inputs[0], op, gain=op.factor, bias=op.shift)
            return Change((carrier,), {op.name: name})
        if is_output or any(not isinstance(r, (*FLOAT_POPULATIONS, Add)) for r in readers):
            return relay_for(op, graph)
        if len(readers) < 2:
            return None
        if cost(op, graph) > self.max_copy:
            return relay_for(op, graph)
        copy = replace(op, name=fresh_name(graph.by_name, f"{op.name}_{readers[-1].name}"), origin=op.origin or (op.name,))
        reader = replace(readers[-1], inputs=tuple(copy.name if r == op.name else r for r in readers[-1].inputs))
        return Change((copy, reader))

    def _readout(self, op: Op, graph: Graph) -> Change:
        """A population that repeats a payload which leaves the network through wiring, a delay or directly."""
        name = fresh_name(graph.by_name, f"{op.name}_readout")
        return Change((relay(name, op.name, op),), leave={op.name: name})


def cost(op: Op, graph: Graph) -> float:
    """How many weights a second copy of a current costs, everything that a sum reads included; a real-valued stream is never copied.

    A copy would meet the stream's payload with the weights of every current that was added to it since.
    """
    if isinstance(op, Add):
        return sum(inf if _streams(graph.node(r), graph) else cost(graph.node(r), graph) for r in op.inputs)
    return op.weight.size if isinstance(op, (Conv2d, Linear)) else 0


def _streams(part: Op, graph: Graph) -> bool:
    """Whether a summand is a payload of real values, passed on as it is."""
    while isinstance(part, (Affine, Gather, Delay)):
        part = graph.node(part.inputs[0])
    return isinstance(part, FLOAT_POPULATIONS) and not part.spiking

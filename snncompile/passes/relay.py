"""Relay populations: a real value becomes a graded payload, a value that leaves the network becomes a readout."""

from __future__ import annotations

from snncompile.ir.graph import Array, Graph, Op, fresh_name
from snncompile.ir.neuron import Fire, Neuron, Reset, constant
from snncompile.passes.base import Change, merged


def relay(name: str, ref: str, op: Op, *, gain: Array | None = None, bias: Array | None = None) -> Neuron:
    """A population without memory that sends ``gain[t] * x + bias[t]`` in the same model step."""
    zero = constant(0.0)
    return Neuron(
        name=name, inputs=(ref,), loc=op.loc, origin=merged(op), fire=Fire.NONE, reset=Reset.STATELESS, leak=zero,
        gain=constant(1.0) if gain is None else gain, bias=zero if bias is None else bias,
        theta=zero, reset_amount=zero, reset_value=zero, v_init=zero,
    )  # fmt: skip


def relay_for(op: Op, graph: Graph) -> Change:
    """Put a relay behind ``op`` that takes over all its readers; it is called a readout if an output reads it."""
    suffix = "readout" if op.name in graph.outputs.values() else "relay"
    name = fresh_name(graph.by_name, f"{op.name}_{suffix}")
    return Change((relay(name, op.name, op),), {op.name: name})

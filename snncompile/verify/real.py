"""An integer graph as a float graph of the same network: every integer as the real number that it stands for.

What is left of the integers' ways is what no parameter shows: products that are cut to whole membrane LSBs, payloads rounded to
theirs and limited to their range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from snncompile.errors import InternalError
from snncompile.ir.graph import Array, Dialect, Graph, Op
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.linear_ops import Add, Delay, Input
from snncompile.ir.neuron import Fire, Neuron, constant
from snncompile.ir.population import INTEGER_POPULATIONS
from snncompile.ir.program import IntProgram, NeuronProgram
from snncompile.quantize import QuantResult, dequantise
from snncompile.quantize.constants import aligned


def as_float(graph: Graph) -> Graph:
    """The float graph, in population form, with the same names."""
    nodes: list[Op] = []
    for op in graph.nodes:
        if isinstance(op, IntNeuron):
            if len(op.inputs) > 1:
                nodes.append(Add(name=f"{op.name}_sum", inputs=op.inputs))
            nodes.append(_neuron(op, len(graph.shape(op.name))))
        elif isinstance(op, IntProgram):
            nodes += _program(op)
        elif isinstance(op, IntInput):
            nodes.append(Input(name=op.name, size=op.size, static=op.static))
        elif isinstance(op, Delay):
            nodes.append(replace(op, initial=payload_value(_source(graph, op), op.initial)))
        else:
            nodes.append(op)
    made = replace(graph, dialect=Dialect.FLOAT, nodes=tuple(nodes), meta={}).rebuild(nodes)
    return dequantise(made, QuantResult(graph=graph, populations=()))


def payload_value(source: Op, payload: Array) -> Array:
    """The real value of a payload."""
    if isinstance(source, IntInput):
        return np.asarray(payload * source.lsb + source.offset)
    if not isinstance(source, INTEGER_POPULATIONS):
        raise InternalError(f"'{source.name}' sends no payload")
    return np.asarray(payload * source.out_scale)


def values_of(graph: Graph, traces: Mapping[str, Array]) -> dict[str, Array]:
    """Payloads and membranes of an integer run, by reference, as real values."""
    out = {}
    for ref, x in traces.items():
        name, _, port = ref.partition(".")
        op = graph.by_name[name]
        out[ref] = np.asarray(x * op.v_scale) if port and isinstance(op, INTEGER_POPULATIONS) else payload_value(op, x)
    return out


def _source(graph: Graph, op: Op) -> Op:
    while not isinstance(op, (IntInput, *INTEGER_POPULATIONS)):
        op = graph.node(op.inputs[0])
    return op


def _program(n: IntProgram) -> list[Op]:
    """The program with real constants and functions, and the sums in front of its currents; the rest is given back by ``dequantise``."""
    nodes: list[Op] = []
    inputs: list[str] = []
    for k in range(len(n.gain)):
        refs = tuple(ref for ref, current in zip(n.inputs, n.currents, strict=True) if current == k)
        if len(refs) > 1:
            nodes.append(Add(name=f"{n.name}_sum{k}", inputs=refs))
        inputs.append(refs[0] if len(refs) == 1 else f"{n.name}_sum{k}")
    code = tuple(f"{i.target} = {n.functions[i.table] if i.op == 'table' else i.op} {' '.join(i.args)}" for i in n.instructions)
    ones = (constant(1.0),) * len(n.gain)
    made = NeuronProgram(
        name=n.name, inputs=tuple(inputs), loc=n.loc, origin=n.origin, code=code, payload=n.payload, membrane=n.membrane,
        threshold=n.threshold, following=n.following, gain=ones, bias=(constant(0.0),) * len(n.gain),
        initial=tuple(np.asarray(v * s) for v, s in zip(n.initial, n.state_scale, strict=True)),
        constants=tuple(np.asarray(c * s) for c, s in zip(n.constants, n.constant_scale, strict=True)),
    )  # fmt: skip
    return [*nodes, made]


def _neuron(n: IntNeuron, ndim: int) -> Neuron:
    """The neuron with real constants; gain, bias and weights are given back by ``dequantise``."""

    def volts(field: Array | None) -> Array:
        return constant(0.0) if field is None else np.asarray(aligned(field, ndim) * n.v_scale)

    def factor(field: Array | None) -> Array | None:
        return None if field is None else np.asarray(field / 2.0**n.decay_bits)

    leak = factor(n.leak)
    assert leak is not None
    several = n.max_spikes > 1 and n.spike_step is not None
    strict = several and bool(np.any(n.threshold != n.spike_step))
    fire = {"none": Fire.NONE, "relu": Fire.NONE if n.payload_min < 0 else Fire.RELU}.get(n.fire, Fire.STEP_GT if strict else Fire.STEP_GE)
    return Neuron(
        name=n.name, inputs=n.inputs if len(n.inputs) == 1 else (f"{n.name}_sum",), loc=n.loc, origin=n.origin, fire=fire, reset=n.reset,
        leak=leak, gain=constant(1.0), bias=constant(0.0), theta=volts(n.spike_step if several else n.threshold),
        reset_amount=volts(n.reset_amount) / n.out_scale, reset_value=volts(n.reset_value), v_init=np.asarray(n.v_init * n.v_scale),
        alpha=factor(n.alpha), late_current=n.late_current, max_spikes=n.max_spikes, reset_keep=factor(n.reset_keep),
        v_min=None if n.v_min is None else volts(n.v_min), adapt_decay=factor(n.adapt_decay),
        adapt_jump=None if n.adapt_jump is None else volts(n.adapt_jump) / n.out_scale, adapt_reset=n.adapt_reset,
    )  # fmt: skip


__all__ = ["as_float", "payload_value", "values_of"]

"""The float graph with the integers' weights and biases: what the chip's program would compute if dynamics were never rounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from snncompile.errors import InternalError
from snncompile.ir.graph import Array, Graph, Op
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.linear_ops import Add, Linear
from snncompile.ir.neuron import Neuron
from snncompile.ir.population import INTEGER_POPULATIONS, ports
from snncompile.ir.program import NeuronProgram
from snncompile.quantize.constants import aligned
from snncompile.quantize.options import QuantResult
from snncompile.quantize.payload import incoming, offset_map, payload_of
from snncompile.quantize.planes import whole_ports
from snncompile.quantize.program import dequantised_program


def dequantise(graph: Graph, result: QuantResult) -> Graph:
    """``graph`` with weights, gains and biases given back from the integers; thresholds, leaks and resets stay as trained.

    A synapse that learned on the chip, which ``graph`` lacks, is added to what its population reads.
    """
    graph = _with_changes(graph, result.graph)
    changed: dict[str, Op] = {}
    for n in graph.nodes:
        if isinstance(n, NeuronProgram):
            changed |= dequantised_program(graph, result, n)
            continue
        if not isinstance(n, Neuron):
            continue
        whole = result.graph.by_name[n.name]
        if not isinstance(whole, IntNeuron):
            raise InternalError(f"'{n.name}' is no population of the integer graph")
        shape = graph.shape(n.name)
        bias, gain = whole.bias * whole.v_scale, n.gain
        if whole.gain is not None and whole.gain_shift is not None and whole.i_scale is not None:
            gain = np.asarray(whole.gain * 2.0**-whole.gain_shift * whole.v_scale / whole.i_scale)
        for p, e in whole_ports(graph, result.graph, whole):
            source = p.source
            if not isinstance(source, (IntInput, *INTEGER_POPULATIONS)):
                raise InternalError(f"'{source.name}' sends no payload")
            scale = whole.v_scale if whole.i_scale is None else whole.i_scale
            payload = payload_of(source, (0, 0), result.graph.shape(source.name))
            unit = incoming(result.graph, p, payload, shape[0])
            q = p.synapse.weight
            step = (scale * 2.0**e).reshape((-1,) + (1,) * (q.ndim - 1))
            changed[p.synapse.name] = replace(graph.by_name[p.synapse.name], weight=q * step / unit.lsb)  # type: ignore[call-arg]
            if unit.zero is not None:
                bias = bias - aligned(gain, len(shape)) * scale * 2.0**e * offset_map(p.synapse, q, unit.zero)[None]
        changed[n.name] = replace(n, bias=np.asarray(bias), gain=gain)
    return graph.map_nodes(lambda op: changed.get(op.name, op))


def _with_changes(graph: Graph, whole: Graph) -> Graph:
    """``graph`` with the dense synapses that learn on the chip (``meta["changes"]`` of the integer graph), zeros."""
    nodes = list(graph.nodes)
    for n in whole.of(IntNeuron):
        first, *others = ports(whole, n)
        for p in others:
            if p.synapse.name not in whole.meta.get("changes", ()):
                continue
            mine, trained = graph.by_name[n.name], graph.by_name[first.synapse.name]
            total = Add(name=f"{p.synapse.name}_sum", inputs=(trained.name, p.synapse.name), loc=mine.loc)
            change = Linear(name=p.synapse.name, inputs=trained.inputs, loc=trained.loc, weight=np.zeros(np.shape(p.synapse.weight)))
            nodes = [replace(op, inputs=(total.name,)) if op.name == n.name else op for op in nodes] + [change, total]
    return graph if len(nodes) == len(graph.nodes) else graph.rebuild(nodes)


def payload_values(result: QuantResult, traces: Mapping[str, Array]) -> dict[str, Array]:
    """Payloads of the integer run as real values, by population: feeds ``interpret(..., overrides=...)``."""
    values = {}
    for op in result.graph.nodes:
        if isinstance(op, IntInput) and op.name in traces:
            values[op.name] = traces[op.name] * op.lsb + op.offset
        elif isinstance(op, INTEGER_POPULATIONS) and op.name in traces:
            values[op.name] = traces[op.name] * op.out_scale
    return values


__all__ = ["dequantise", "payload_values"]

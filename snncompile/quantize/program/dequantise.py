"""A float program with the integers' weights, gains and biases: what the chip's would compute if its registers were never rounded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from snncompile.errors import InternalError
from snncompile.ir.graph import Graph, Op
from snncompile.ir.integer import IntInput
from snncompile.ir.population import INTEGER_POPULATIONS, ports
from snncompile.ir.program import IntProgram, NeuronProgram
from snncompile.quantize.options import QuantResult
from snncompile.quantize.payload import incoming, offset_map, payload_of


def dequantised_program(graph: Graph, result: QuantResult, n: NeuronProgram) -> dict[str, Op]:
    """The program and its synapses, by name; constants and tables stay as trained.

    A weight is ``q * g * 2**(exponent - shift) * LSB`` over the trained gain's size, with g the largest gain of its channel;
    the gain of a step is relative to g, times that size.
    """
    whole = result.graph.by_name[n.name]
    if not isinstance(whole, IntProgram):
        raise InternalError(f"'{n.name}' is no program of the integer graph")
    shape = graph.shape(n.name)
    largest = [np.maximum(np.abs(g).max(axis=0), 1) for g in whole.gain]
    biases = [np.asarray(b * s) for b, s in zip(whole.bias, whole.i_scale, strict=True)]
    trained = [float(np.abs(g).max()) or 1.0 for g in n.gain]
    changed: dict[str, Op] = {}
    for p, e, k in zip(ports(result.graph, whole), whole.exponents, whole.currents, strict=True):
        if not isinstance(p.source, (IntInput, *INTEGER_POPULATIONS)):
            raise InternalError(f"'{p.source.name}' sends no payload")
        unit = incoming(result.graph, p, payload_of(p.source, (0, 0), result.graph.shape(p.source.name)), shape[0])
        q = p.synapse.weight
        step = largest[k] * 2.0 ** (e - whole.gain_shift[k]) * whole.i_scale[k] / trained[k]
        changed[p.synapse.name] = replace(
            graph.by_name[p.synapse.name],
            weight=q * step.reshape((-1,) + (1,) * (q.ndim - 1)) / unit.lsb,  # type: ignore[call-arg]
        )
        if unit.zero is not None:
            biases[k] = biases[k] - whole.gain[k] * 2.0 ** (e - whole.gain_shift[k]) * whole.i_scale[k] * offset_map(
                p.synapse, q, unit.zero
            )
    gains = tuple(np.asarray(g / most[None] * factor) for g, most, factor in zip(whole.gain, largest, trained, strict=True))
    return {**changed, n.name: replace(n, gain=gains, bias=tuple(biases))}


__all__ = ["dequantised_program"]

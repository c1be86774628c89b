"""How fine a graded payload may be: as fine as the accumulators and membranes of its readers can add up without overflow.

A reader adds up to 2**b membrane LSBs to either side, half of what a membrane holds, for every input. Its smallest weight step times
the payload's LSB is one membrane LSB at most, so

    LSB >= load * memory / (step * 2**b)      load    sum of |weight| * largest payload over all its ports, per channel
                                              memory  sum over t < T of |leak|^t: how much of the past a membrane keeps
                                              step    a trained grid (of the only port), a single synapse, else largest / codes
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from snncompile.ir.graph import Array, Graph, Op
from snncompile.ir.linear_ops import Diagonal
from snncompile.ir.neuron import Fire, Neuron, Reset
from snncompile.ir.population import Port, ports
from snncompile.ir.program import NeuronProgram
from snncompile.quantize.blockwise import flat, per_row
from snncompile.quantize.scales import grid_of
from snncompile.target import Target

COUNTED_BITS = 12
"""Payloads whose differences populations count exactly (maximum pooling) stay this narrow, so that their sums fit a payload."""

Peak = Callable[[Op], float]
"""The largest magnitude that a source sends, in real units."""


def finest_lsb(
    graph: Graph, n: Neuron | NeuronProgram, peak_of: Peak, *, codes: int, target: Target, readers: tuple[Neuron | NeuronProgram, ...]
) -> float:
    """The smallest payload LSB of population ``n`` that all its readers can take; ``codes`` is the largest weight integer."""
    finest = 0.0
    for reader in readers:
        arriving = ports(graph, reader)
        channels = graph.shape(reader.name)[0]
        load = sum((_load(p, channels) * peak_of(p.source) for p in arriving), start=np.zeros(channels))
        held = load * memory(reader, graph.steps)
        for p in arriving:
            if p.source.name != n.name:
                continue
            step = _step(p, channels, codes, alone=len(arriving) == 1)
            some = step > 0
            if not some.any():
                continue
            membrane = 0.0  # a program's currents have an LSB of their own
            if isinstance(reader, Neuron):
                membrane = float((held[some] / step[some]).max()) / (target.membrane.high / 2)
            accumulator = float((_load(p, channels)[some] * peak_of(n) / step[some]).max()) / target.accumulator.high
            finest = max(finest, membrane, accumulator)
            if isinstance(n, Neuron) and n.fire is Fire.NONE and _counts(reader):
                finest = max(finest, peak_of(n) / 2**COUNTED_BITS)
    return finest


def _counts(reader: Neuron | NeuronProgram) -> bool:
    """Whether a reader counts differences of payloads exactly (maximum pooling)."""
    plain = isinstance(reader, Neuron) and reader.fire is Fire.RELU and reader.reset is Reset.STATELESS
    return plain and isinstance(reader, Neuron) and not np.any(reader.theta) and not reader.grid


def reach(graph: Graph, n: Neuron, peak_of: Peak) -> float:
    """A bound of what a population sends, in real units, from what its sources send."""
    channels = graph.shape(n.name)[0]
    load = sum((_load(p, channels) * peak_of(p.source) for p in ports(graph, n)), start=np.zeros(channels))
    constants = float(np.abs(n.bias).max(initial=0.0)) + float(np.maximum(-n.theta, 0.0).max(initial=0.0))
    return (float(load.max(initial=0.0)) * float(np.abs(n.gain).max()) + constants) * memory(n, graph.steps) or 1.0


def memory(n: Neuron | NeuronProgram, steps: int) -> float:
    """By how much a membrane may exceed what arrives in one step."""
    if isinstance(n, NeuronProgram) or n.reset is Reset.STATELESS:
        return 1.0
    leak = float(np.abs(n.leak).max(initial=0.0))
    return float(sum(leak**t for t in range(steps)))


def _one(weight: Array, channels: int) -> Array:
    """The largest magnitude per channel of a synapse of one weight a neuron."""
    weight = np.abs(np.asarray(weight, dtype=np.float64))
    whole = weight if weight.ndim and weight.shape[0] == channels else np.broadcast_to(weight.max(initial=0.0), (channels,))
    return np.asarray(whole.reshape(channels, -1).max(axis=1))


def _load(p: Port, channels: int) -> Array:
    """The sum of the weights' magnitudes per channel."""
    weight = p.synapse.weight
    return _one(weight, channels) if isinstance(p.synapse, Diagonal) else per_row(lambda rows: np.abs(rows).sum(axis=1), flat(weight))


def _step(p: Port, channels: int, codes: int, *, alone: bool) -> Array:
    if isinstance(p.synapse, Diagonal):
        return _one(p.synapse.weight, channels)
    rows = flat(p.synapse.weight)
    grid = per_row(lambda part: grid_of(np.abs(part), codes), rows) if alone else np.zeros(channels)
    return np.where(grid > 0, grid, per_row(lambda part: np.abs(part).max(axis=1), rows) / codes)


__all__ = ["finest_lsb", "memory", "reach"]

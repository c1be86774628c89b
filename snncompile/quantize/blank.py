"""A blank sample's way through the network and, population by population, through the program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from snncompile.ir.graph import Array, Graph
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Input
from snncompile.ir.neuron import Neuron
from snncompile.ir.population import Port
from snncompile.ir.reference import quantise_input, synapse
from snncompile.quantize.background import WIDE, Blank, counts, in_payloads, whole_payloads
from snncompile.quantize.payload import Payload, initial_payload


@dataclass(frozen=True, kw_only=True, eq=False)
class BlankRun:
    """Payloads by name, ``(T, *shape)``: ``real`` those of the network's spikes, ``sent`` the program's, as far as it is built."""

    graph: Graph
    real: Mapping[str, Array]
    sent: dict[str, Array] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph, *, affordable: bool) -> BlankRun:
        """Run the network on zeros, or where a range has no zero on what is nearest to it; only if that is ``affordable``."""
        counted = [n for n in graph.nodes if isinstance(n, Neuron) and counts(n)] if affordable else []
        if not counted:
            return cls(graph=graph, real={})
        seen = interpret(graph, {n.name: _nothing(n) for n in graph.nodes if isinstance(n, Input)}, record=[n.name for n in counted])
        return cls(graph=graph, real={n.name: in_payloads(n, seen[n.name][0]) for n in counted})

    def begin(self, op: IntInput) -> None:
        """An input of the program."""
        source = self.graph.by_name[op.name]
        assert isinstance(source, Input)
        self.sent[op.name] = np.repeat(quantise_input(op, _nothing(source)[0]), self.graph.steps, axis=0)

    def hear(self, neuron: Neuron, found: Sequence[Port], payloads: Mapping[str, Payload]) -> Blank:
        """What arrives at a population, and what the network's sends."""
        arriving = []
        for p in found:
            sent = self.sent.get(p.source.name) if self.real else None
            here = None if sent is None else _arrive(sent, p, payloads[p.source.name], self.graph.shape(p.synapse.inputs[0]))
            if here is None:
                return Blank()
            arriving.append(here)
        return Blank(arriving=tuple(arriving), sent=self.real.get(neuron.name))

    def end(self, n: IntNeuron, total: Array) -> None:
        """A population of the program that heard a blank sample, by the sums of its accumulators."""
        self.sent[n.name] = whole_payloads(n, total)


def summed(found: Sequence[Port], weights: Sequence[Array], exponents: Sequence[int], blank: Blank) -> Array:
    """The sum of a population's accumulators, ``(T, *shape)``."""
    assert blank.arriving is not None
    parts = zip(found, weights, exponents, blank.arriving, strict=True)
    return np.asarray(sum(synapse(replace(p.synapse, weight=q), [x], WIDE) << e for p, q, e, x in parts))


def _nothing(n: Input) -> Array:
    low, high = (0.0 if n.low is None else n.low), (0.0 if n.high is None else n.high)
    return np.full((1, 1, *n.size), min(max(0.0, low), high))


def _arrive(sent: Array, p: Port, payload: Payload, shape: tuple[int, ...]) -> Array | None:
    for delay in p.delays:
        first = initial_payload(delay.initial, payload)
        if first is None:
            return None
        sent = np.concatenate([np.broadcast_to(first, (1, *sent.shape[1:])), sent[:-1]])
    if p.gather is not None:
        flat = sent.reshape(len(sent), -1)
        sent = np.where(p.gather.index < 0, 0, flat[:, np.maximum(p.gather.index, 0)])
    return sent.reshape(len(sent), *shape)


__all__ = ["BlankRun", "summed"]

"""The hop-accurate mode of the reference: hardware step by hardware step, with the delays of a schedule.

It proves a schedule by execution: payloads and membranes must equal the step-wise reference bit for bit, with samples
following each other without gaps. Nothing here knows model time but the schedule: every port is a ring buffer of payloads,
written at the sender's hardware step and read ``hop_delay`` later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from snncompile.errors import InternalError
from snncompile.ir.graph import Array, Graph
from snncompile.ir.integer import IntInput
from snncompile.ir.population import INTEGER_POPULATIONS, IntPopulation, Port, ports
from snncompile.ir.reference import State, limits, population_step, quantise_input, synapse
from snncompile.mapping.schedule import Schedule


@dataclass
class _Line:
    """One port: what is under way in its synapse, by the hardware step at which it arrives."""

    port: Port
    slots: list[tuple[int, Array] | None]

    def send(self, arrival: int, payload: Array) -> None:
        self.slots[arrival % len(self.slots)] = (arrival, payload)

    def receive(self, now: int) -> Array:
        slot = self.slots[now % len(self.slots)]
        if slot is None or slot[0] != now:
            raise InternalError(f"nothing arrives through '{self.port.synapse.name}' at hardware step {now}: the schedule is wrong")
        return slot[1]


def run_hops(graph: Graph, plan: Schedule, inputs: Mapping[str, Array], *, steps: int | None = None) -> dict[str, Array]:
    """Run samples back to back in hardware time.

    inputs   as for the reference: ``(N, T | 1, *shape)``
    returns  ``{reference: (N, T, *shape)}`` for every population's payload, ``.m`` and ``.v``, int32
    """
    total = graph.steps if steps is None else steps
    data = {n.name: quantise_input(n, inputs[n.name]) for n in graph.nodes if isinstance(n, IntInput)}
    samples = len(next(iter(data.values())))
    neurons: dict[str, IntPopulation] = {n.name: n for n in graph.nodes if isinstance(n, INTEGER_POPULATIONS)}
    lines = {n.name: [_Line(p, [None] * (plan.hop_delay[p.synapse.name] + 1)) for p in ports(graph, n)] for n in neurons.values()}
    outgoing: dict[str, list[_Line]] = {name: [] for name in plan.depth}
    for line in (line for row in lines.values() for line in row):
        outgoing[line.port.source.name].append(line)
    out = {f"{name}{port}": np.empty((samples, total, *graph.shape(name)), dtype=np.int32) for name in neurons for port in ("", ".m", ".v")}
    states: dict[str, State] = {}
    last = plan.initiation_interval * (samples * total - 1) + plan.total_hops
    for now in range(last + 1):
        sent: list[tuple[str, Array]] = []
        for name, depth in plan.depth.items():
            slot, phase = divmod(now - depth, plan.initiation_interval)
            if phase or not 0 <= slot < samples * total:
                continue  # this population holds its state
            sample, t = divmod(slot, total)
            if name in data:
                x = data[name][sample]
                sent.append((name, x[t if len(x) > 1 else 0][None]))
                continue
            if t == 0:
                states[name] = {}
            accumulators = [_arriving(graph, line, now, t) for line in lines[name]]
            found = population_step(neurons[name], accumulators, states[name], t, limits(graph))
            for port in ("", ".m", ".v"):
                out[f"{name}{port}"][sample, t] = found[f"{name}{port}"][0]
            sent.append((name, found[name]))
        for name, payload in sent:  # after everyone has read: a hop takes at least one step
            for line in outgoing[name]:
                line.send(now + plan.hop_delay[line.port.synapse.name], payload)
    return out


def _arriving(graph: Graph, line: _Line, now: int, t: int) -> Array:
    """A port's accumulators; before its first payload of a sample can have come, those of the delays' initial values."""
    p = line.port
    if t < len(p.delays):
        delay = p.delays[len(p.delays) - 1 - t]  # the delay nearest to the synapse is read first
        payload = np.broadcast_to(delay.initial, delay.size)[None].astype(np.int64)
    else:
        payload = line.receive(now)
    if p.gather is not None:
        payload = synapse(p.gather, [payload], limits(graph))
    return synapse(p.synapse, [payload], limits(graph))


__all__ = ["run_hops"]

"""A population in hardware time: when it updates, what its synapses have delivered by then, what it records.

Hardware step h is model step t of sample s when h = interval * (s * (T + rest) + t) + depth; at any other h the population holds and
sends 0. ``rest`` is 0 but for streams that learn.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np

from .neuron import NeuronState
from .plan import Plan, Population, Port
from .program import ProgramState
from .synapse import make_synapse


class Engine:
    """Everything a population does in one hardware step, without any Lava: ``update`` first, then ``deliver``."""

    def __init__(
        self, plan: Plan, population: Population, *, samples: int, largest: dict[str, int], dense: frozenset[int], out: Path, rest: int = 0
    ) -> None:
        self.plan, self.population, self.samples, self.rest = plan, population, samples, rest
        self.neuron = NeuronState(plan, population) if population.program is None else ProgramState(plan, population)
        self.currents = 1 if population.program is None else len(population.program.gains)
        self.lines = [DelayLine(p, k in dense) for k, p in enumerate(population.ports)]
        self.synapses = {k: make_synapse(p, population.shape, largest[p.source]) for k, p in enumerate(population.ports) if k not in dense}
        self.payloads = np.load(out / f"{population.name}.payload.npy", mmap_mode="r+", allow_pickle=False)
        self.membranes = np.load(out / f"{population.name}.membrane.npy", mmap_mode="r+", allow_pickle=False)

    def slot(self, h: int) -> tuple[int, int] | None:
        """Return (sample, model step) done at hardware step ``h``, or None when the population holds."""
        return slot(h - self.population.depth, self.plan, self.samples, self.rest)

    def update(self, h: int, dense: dict[int, np.ndarray]) -> np.ndarray | None:
        """Do hardware step ``h``; ``dense`` holds what built-in Dense processes sent, by port. Return the payload or None for zeros."""
        for k, sent in dense.items():
            self.lines[k].push(sent.reshape(self.population.shape))
        arrived = [line.pop() for line in self.lines]
        slot = self.slot(h)
        if slot is None:
            return None
        sample, t = slot
        if t == 0:
            self.neuron.start_sample()
        sums = [np.zeros(self.population.shape, np.int64) for _ in range(self.currents)]
        for port, delivered in zip(self.population.ports, arrived, strict=True):
            accumulator = delivered
            if t < port.model_delay:  # the delay reaches into the previous sample
                accumulator = None if port.initial is None else port.initial[t]
            if accumulator is not None:
                sums[port.current] += accumulator.astype(np.int64, copy=False) << port.exponent
        n = self.neuron.step(t, sums[0]) if isinstance(self.neuron, NeuronState) else self.neuron.step(t, sums)
        self.payloads[sample, t] = n
        self.membranes[sample, t] = self.neuron.v
        return n

    def deliver(self, port: int, payload: np.ndarray) -> None:
        """Put the payload that arrived at a fused port through its synapse; it is used ``hop_delay`` steps from now."""
        self.lines[port].push(self.synapses[port](payload) if payload.any() else None)


def slot(h: int, plan: Plan, samples: int, rest: int) -> tuple[int, int] | None:
    """Return (sample, model step) of hardware step ``h`` at depth 0, or None between steps, between samples and after the last."""
    count, phase = divmod(h, plan.interval)
    sample, t = divmod(count, plan.steps + rest)
    return None if count < 0 or phase or t >= plan.steps or sample >= samples else (sample, t)


class DelayLine:
    """Accumulators in flight; None stands for zeros.

    A fused synapse pushes after the update of step h and is popped ``hop_delay`` updates later. A built-in Dense has already
    spent one step when its accumulator is pushed, before the update, hence one entry less.
    """

    def __init__(self, port: Port, dense: bool) -> None:
        waiting = port.hop_delay - 1 if dense else port.hop_delay
        self._queue: deque[np.ndarray | None] = deque([None] * waiting)

    def push(self, accumulator: np.ndarray | None) -> None:
        """Accept what arrived in this hardware step."""
        self._queue.append(accumulator)

    def pop(self) -> np.ndarray | None:
        """Return what is due in this hardware step."""
        return self._queue.popleft()

"""The integer program on a stream of samples: what the chip computes and learns, in hardware time, bit for bit."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from snncompile.ir.graph import Array, Graph
from snncompile.ir.integer import IntNeuron
from snncompile.ir.reference import State, limits, neuron_step
from snncompile.learning.engine import PlasticDense
from snncompile.learning.error_population import ErrorState, Ints, split
from snncompile.learning.program import LearningProgram
from snncompile.learning.widths import Widths
from snncompile.mapping.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Learned:
    """What happened in a stream of N samples.

    weights  (N + 1, post, pre) chip weights: as loaded, then after every sample
    checks   (H,) CRC-32 of the weights in force in every hardware step
    logits   (N, T, post) the readout's payloads        errors  (N, T, post) the error population's payloads k
    """

    weights: npt.NDArray[np.int16]
    checks: npt.NDArray[np.uint32]
    logits: npt.NDArray[np.int32]
    errors: npt.NDArray[np.int16]

    @property
    def final(self) -> Ints:
        """The weights at the end."""
        return np.asarray(self.weights[-1], dtype=np.int64)


def learn(
    program: LearningProgram,
    graph: Graph,
    schedule: Schedule,
    widths: Widths,
    spikes: Array,
    labels: Array,
    *,
    weights: Ints | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Learned:
    """Run the plastic readout on the presynaptic spikes of a stream.

    spikes   (N, T, pre) what the source population sends in each sample      labels  (N,) the target's class, negative for none
    weights  chip weights to start from instead of the program's own
    """
    neuron, clock = graph.by_name[program.population], program.time(schedule)
    assert isinstance(neuron, IntNeuron)
    start = program.chip_weights(graph) if weights is None else weights
    synapse = PlasticDense(program.rule, widths, start)
    neuron = replace(neuron, exponents=(program.chip_exponent(graph),))
    count, post = len(spikes), len(start)
    errors = ErrorState(program.error, post)
    late: deque[Ints | None] = deque([None] * clock.delay)
    total = clock.hardware_steps(count)
    taught = {clock.done(n): n + 1 for n in range(count)}
    out = Learned(
        weights=np.empty((count + 1, *start.shape), dtype=np.int16), checks=np.empty(total, dtype=np.uint32),
        logits=np.empty((count, clock.steps, post), dtype=np.int32), errors=np.empty((count, clock.steps, post), dtype=np.int16),
    )  # fmt: skip
    out.weights[0] = synapse.w
    state: State = {}
    ranges = limits(graph)
    previous, check = None, 0
    for h in range(total):
        if synapse.w is not previous:
            previous = synapse.w
            check = zlib.crc32(previous.astype("<i2").tobytes())
        out.checks[h] = check
        if h in taught:
            if progress is not None:
                progress(taught[h], count)
            out.weights[taught[h]] = synapse.w
        at = clock.slot(h, clock.source, count)
        due = late.popleft()
        accumulator = synapse.step(None if at is None else spikes[at].astype(np.int64), None if due is None else split(due))
        at, k = clock.slot(h, clock.readout, count), None
        if at is not None:
            sample, t = at
            if t == 0:
                state = {}
            z, _, _ = neuron_step(neuron, [accumulator[None]], state, t, ranges)
            k = errors.step(z[0], int(labels[sample]))
            out.logits[sample, t], out.errors[sample, t] = z[0], k
        late.append(k)
    return out


def readout(program: LearningProgram, graph: Graph, spikes: Array, weights: Ints) -> Array:
    """Logits (N, T, post) of frozen chip weights on presynaptic spikes (N, T, pre)."""
    neuron = graph.by_name[program.population]
    assert isinstance(neuron, IntNeuron)
    neuron = replace(neuron, exponents=(program.chip_exponent(graph),))
    state: State = {}
    out = np.empty((*spikes.shape[:2], len(weights)), dtype=np.int32)
    for t in range(spikes.shape[1]):
        accumulator = np.rint(spikes[:, t].astype(np.float32) @ weights.T.astype(np.float32)).astype(np.int64)
        out[:, t] = neuron_step(neuron, [accumulator], state, t, limits(graph))[0]
    return out


__all__ = ["Learned", "learn", "readout"]

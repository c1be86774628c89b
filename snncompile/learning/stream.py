"""The integer program on a stream of samples: what the chip computes and learns, in hardware time, bit for bit."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snncompile.ir.graph import Array, Graph
from snncompile.ir.neuron import at_step
from snncompile.ir.reference import State, limits, neuron_step
from snncompile.learning.chain import Link, links
from snncompile.learning.engine import PlasticDense
from snncompile.learning.error_population import ErrorState, split
from snncompile.learning.modulator import ModulatorState
from snncompile.learning.program import Clock, LearningProgram, PlasticLayer
from snncompile.learning.remainder import Ints
from snncompile.learning.state import ERROR, LearningState
from snncompile.learning.widths import Widths
from snncompile.mapping.schedule import Schedule

KEEP_BYTES = 2**28
CHECKPOINTS = 8


@dataclass(frozen=True, eq=False)
class LayerLearned:
    """What one plastic layer learned.

    weights  (K, post, pre) chip weights of the synapse that learns: as loaded, then after some numbers of samples (``Learned.at``)
    checks   (H,) CRC-32 of the weights in force in every hardware step          sent  (N, T, post) third factors k sent to the layer
    """

    weights: npt.NDArray[np.int16]
    checks: npt.NDArray[np.uint32]
    sent: npt.NDArray[np.int16]

    @property
    def final(self) -> Ints:
        """The weights at the end."""
        return np.asarray(self.weights[-1], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Learned:
    """What happened in a stream of N samples: ``layers`` as in the program, ``logits`` (N, T, classes) the readout's payloads.

    ``at`` says after how many samples weights were kept: 0..N where that is no more than ``KEEP_BYTES``, else 0, N and some between.
    ``state`` is what another call needs to go on.
    """

    at: tuple[int, ...]
    layers: tuple[LayerLearned, ...]
    logits: npt.NDArray[np.int32]
    state: LearningState


def kept(program: LearningProgram, graph: Graph, samples: int) -> tuple[int, ...]:
    """After which numbers of samples weights are kept."""
    size = sum(x.chip_weights(graph).size for x in program.layers)
    if 2 * size * (samples + 1) <= KEEP_BYTES:
        return tuple(range(samples + 1))
    return tuple(sorted({0, *(max(1, round(samples * k / CHECKPOINTS)) for k in range(1, CHECKPOINTS + 1))}))


def learn(
    program: LearningProgram,
    graph: Graph,
    schedule: Schedule,
    widths: Widths,
    spikes: Array,
    labels: Array,
    *,
    activity: Mapping[str, Array] | None = None,
    weights: Sequence[Ints] | None = None,
    state: LearningState | None = None,
    keep: Collection[int] = (),
    stop: Callable[[], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Learned:
    """Run the plastic part of the network on a stream.

    spikes   (N, T, pre) what ``program.source`` sends in each sample      labels  (N,) the target's class, negative for none
    activity (N, n) the teacher's, 0..255, by population, for layers with a local error; samples with a negative label learn nothing there
    weights  chip weights to start from, by layer, instead of the program's own      keep  further numbers of samples to keep weights after
    state    the end of another call: this one goes on, bit for bit as if the samples of both were one stream
    stop     asked before every sample but the first; if it says so the stream ends there, and N is how many samples were seen
    """
    clock, count = program.time(schedule), len(spikes)
    starts = [x.chip_weights(graph) for x in program.layers] if weights is None else list(weights)
    chain = _chain(program, graph, widths, clock, starts)
    errors = ErrorState(program.error, len(chain[-1].link.synapse.weight))
    plastic = [x for x in chain if x.synapse is not None]
    first, begin = (0, 0) if state is None else (state.samples, clock.begin(state.samples, program.source))
    if state is not None:
        _restore(state, chain, errors)
    last, at = first + count, {*kept(program, graph, count), *(n for n in keep if n <= count)}
    logits = np.empty((count, clock.steps, len(chain[-1].link.synapse.weight)), dtype=np.int32)
    for x in plastic:
        x.record_to(len(at), clock.hardware_steps(last) - begin, count)
    done, rows, ends, h = 0, [0], dict[str, dict[str, Ints]](), begin
    depth, ranges = clock.depth[program.source], limits(graph)
    while h < clock.hardware_steps(last) or len(ends) < len(plastic):
        slot, row = clock.slot(h, depth, last), None
        if stop is not None and slot is not None and slot[0] > first and slot[1] == 0 and stop():
            last, slot = slot[0], None
        if first + done < last and h == clock.done(first + done):
            done += 1
            if done in at:
                row = len(rows)
                rows.append(done)
            if progress is not None:
                progress(done, count)
        for x in plastic:
            x.note(h - begin, row)
            if h == clock.begin(last, x.link.source.name):
                ends[x.link.population.name] = x.end()
        sent = None if slot is None else spikes[slot[0] - first, slot[1]].astype(np.int64)
        for x in chain:
            slot = clock.slot(h, x.depth, last)
            slot = None if slot is None or slot[0] < first else (slot[0] - first, slot[1])
            sent = x.step(h, sent, slot, ranges)
            if slot is not None and x.state is not None and x.state.modulator.kind == "local":
                given = None if activity is None or labels[slot[0]] < 0 else activity[x.link.population.name][slot[0]].astype(np.int64)
                x.tell(slot, x.state.local(slot[1], given))
        if slot is not None and sent is not None:  # the readout's
            logits[slot] = sent
            k = errors.step(sent, int(labels[slot[0]]), slot[1])
            for x in plastic:
                if x.state is None:
                    x.tell(slot, k)
                elif x.state.modulator.kind == "feedback":
                    x.tell(slot, x.state.back(errors.graded))
        h += 1
    seen, steps = last - first, clock.hardware_steps(last) - begin
    rows += [seen] if rows[-1] != seen else []
    rests = {ERROR: errors.rest} | {x.link.population.name: x.state.rest for x in plastic if x.state is not None}
    return Learned(
        at=tuple(rows), layers=tuple(x.recorded(len(rows), steps, seen) for x in plastic), logits=logits[:seen],
        state=LearningState(last, ends, rests),
    )  # fmt: skip


def _restore(state: LearningState, chain: Sequence[_Stage], errors: ErrorState) -> None:
    errors.rest = state.rests[ERROR]
    for x in chain:
        x.restore(state)


class _Stage:
    """A layer of the chain in hardware time: frozen, or plastic with its third factors on their way."""

    def __init__(self, link: Link, graph: Graph, clock: Clock) -> None:
        self.link, self.depth, self.neuron = link, clock.depth[link.population.name], link.population
        self.clock = clock
        self.synapse: PlasticDense | None = None
        self.state: ModulatorState | None = None
        self.record: LayerLearned | None = None
        self.lag = self.first = self.begin = 0
        self._membrane: State = {}
        self._none: Ints = np.zeros(len(link.synapse.weight), dtype=np.int64)
        self._late: Ints = self._none
        self._frozen = link.synapse.weight.astype(np.int64)
        self._due: dict[int, Ints] = {}
        self._checked: tuple[Ints | None, int] = (None, 0)

    def learn(self, layer: PlasticLayer, graph: Graph, widths: Widths, start: Ints) -> None:
        """Make it plastic."""
        self.synapse, self.neuron, self.lag = PlasticDense(layer.rule, widths, start), layer.chip_neuron(graph), layer.lag
        self.state = None if layer.modulator is None else ModulatorState(layer.modulator, len(start))

    @property
    def weights(self) -> Ints:
        """Chip weights now."""
        assert self.synapse is not None
        return self.synapse.w

    def restore(self, state: LearningState) -> None:
        """Begin where another stream ended."""
        self.first, self.begin = state.samples, self.clock.begin(state.samples, self.link.source.name)
        if self.synapse is not None:
            self.synapse.restore(state.layers[self.link.population.name], self.begin)
        if self.state is not None:
            self.state.rest = state.rests[self.link.population.name]

    def end(self) -> dict[str, Ints]:
        """What the synapse needs to go on."""
        assert self.synapse is not None
        return self.synapse.state()

    def record_to(self, rows: int, hardware_steps: int, samples: int) -> None:
        """Make room for a record, and begin it with the weights as they are."""
        self.record = LayerLearned(
            weights=np.empty((rows, *self.weights.shape), dtype=np.int16), checks=np.empty(hardware_steps, dtype=np.uint32),
            sent=np.zeros((samples, self.clock.steps, len(self.weights)), dtype=np.int16),
        )  # fmt: skip
        self.record.weights[0] = self.weights

    def recorded(self, rows: int, hardware_steps: int, samples: int) -> LayerLearned:
        """The record, of which so much was used; its last row are the weights now."""
        assert self.record is not None
        self.record.weights[rows - 1] = self.weights
        return LayerLearned(self.record.weights[:rows], self.record.checks[:hardware_steps], self.record.sent[:samples])

    def note(self, h: int, row: int | None) -> None:
        """Record the weights in force."""
        assert self.record is not None
        if self.weights is not self._checked[0]:
            self._checked = (self.weights, zlib.crc32(self.weights.astype("<i2").tobytes()))
        if h < len(self.record.checks):
            self.record.checks[h] = self._checked[1]
        if row is not None:
            self.record.weights[row] = self.weights

    def step(self, h: int, s: Ints | None, slot: tuple[int, int] | None, ranges: Mapping[str, tuple[int, int]]) -> Ints | None:
        """One hardware step: spikes ``s`` arrive at the synapse, the population updates if it is its turn; what it sends if it does."""
        if h < self.begin:
            return None
        accumulators = [self._late]
        self._late = self._none if s is None or not s.any() else np.asarray(self._frozen @ s)
        if self.synapse is not None:
            accumulators.append(self.synapse.step(s, self._due.pop(h, None)))
        if slot is None:
            return None
        if slot[1] == 0:
            self._membrane = {}
        payload, m, _ = neuron_step(self.neuron, [a[None] for a in accumulators], self._membrane, slot[1], ranges)
        if self.state is not None:
            self.state.hear(slot[1], m[0] - np.broadcast_to(at_step(self.neuron.threshold, slot[1]), m[0].shape), payload[0])
        return np.asarray(payload[0])

    def tell(self, slot: tuple[int, int], k: Ints) -> None:
        """Third factors k of a model step set out to arrive ``lag`` hardware steps after its spikes."""
        assert self.record is not None
        start = self.clock.begin(self.first + slot[0], self.link.source.name) + self.clock.interval * slot[1]
        self._due[start + self.lag] = split(k)
        self.record.sent[slot] = k


def _chain(program: LearningProgram, graph: Graph, widths: Widths, clock: Clock, starts: Sequence[Ints]) -> list[_Stage]:
    by_population = {x.population: (x, w) for x, w in zip(program.layers, starts, strict=True)}
    chain = []
    for link in links(graph, by_population):
        stage = _Stage(link, graph, clock)
        if link.plastic:
            layer, start = by_population[link.population.name]
            stage.learn(layer, graph, widths, start)
        chain.append(stage)
    return chain


def run_frozen(program: LearningProgram, graph: Graph, spikes: Array, weights: Sequence[Ints]) -> Array:
    """Logits (N, T, classes) of frozen chip weights, by layer, on the spikes (N, T, pre) of ``program.source``."""
    given = {x.population: (x, w) for x, w in zip(program.layers, weights, strict=True)}
    chain = []
    for link in links(graph, given):
        w = link.synapse.weight
        exact = np.float32 if 2**8 * w.shape[1] < 2**24 else np.float64
        neuron, synapses = link.population, [w.astype(exact).T]
        if neuron.name in given:
            layer, learned = given[neuron.name]
            neuron, synapses = layer.chip_neuron(graph), [*synapses, learned.astype(exact).T]
        chain.append((neuron, synapses))
    states: list[State] = [{} for _ in chain]
    out = np.empty((*spikes.shape[:2], chain[-1][1][0].shape[1]), dtype=np.int32)
    for t in range(spikes.shape[1]):
        sent = spikes[:, t]
        for (neuron, synapses), state in zip(chain, states, strict=True):
            sums = [np.rint(sent.astype(w.dtype) @ w).astype(np.int64) for w in synapses]
            sent = neuron_step(neuron, sums, state, t, limits(graph))[0]
        out[:, t] = sent
    return out


__all__ = ["LayerLearned", "Learned", "kept", "learn", "run_frozen"]

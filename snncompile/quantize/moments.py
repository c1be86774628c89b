"""What populations hear on calibration data: the second moments E[z z^T] of every synapse's inputs.

A membrane adds inputs up, so what counts is not an input y[t] but its average over the past as the membrane weighs it,

    z[t] = a[t] / c[t]        a[t] = leak * a[t-1] + y[t]        c[t] = leak * c[t-1] + 1

with the population's mean leak (1 for an output: decisions are read from sums over the steps). Moments about zero and not about the
mean: where nothing is heard, as most neurons of an image do at most times, no error of a weight may need a bias to make it good.

Averages are rounded to integers before they are multiplied, so that all sums are exact and depend on no order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod

import numpy as np

from snncompile.ir.conv import patches
from snncompile.ir.graph import Array, Graph, Shape
from snncompile.ir.interpret import walk
from snncompile.ir.linear_ops import Conv2d, Diagonal, Input, Linear
from snncompile.ir.neuron import Fire, Neuron, Reset
from snncompile.ir.population import Port, ports
from snncompile.quantize.payload import connections

COLUMNS = (1600, 800, 400, 200, 100, 50)
"""How many inputs' products are kept at most: the first number for which rounding takes no more than EFFORT. A row of more inputs is cut
into equal parts, and errors are made good within a part."""
EFFORT = 4e9
ROWS = 16384
"""Input vectors that are looked at, at most: positions, steps and samples at even distances."""
WORK = 1e10
"""Synaptic operations that looking at samples may take, at most."""
_LEVELS = 2**12
_MEMORY = 2**26
_TOGETHER = 2**21


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Of one synapse's inputs in real units, laid out like a row of its weights.

    parts  the moments (groups, k, k) of consecutive columns        samples  how many were seen
    """

    parts: tuple[Array, ...]
    samples: int


@dataclass(kw_only=True, eq=False)
class _Sums:
    """Running sums of one synapse's input vectors (groups, rows, K); ``scale`` is what one integer is worth."""

    scale: float
    columns: int
    count: int = 0
    squares: list[Array] | None = None

    def add(self, vectors: Array) -> None:
        whole = np.rint(vectors / self.scale)
        cuts = _cuts(whole.shape[2], self.columns)
        squares = [np.matmul(whole[:, :, a:b].swapaxes(1, 2), whole[:, :, a:b]) for a, b in cuts]
        self.count += whole.shape[1]
        self.squares = squares if self.squares is None else [a + b for a, b in zip(self.squares, squares, strict=True)]

    def moments(self, samples: int) -> Moments:
        assert self.squares is not None
        return Moments(parts=tuple(square / self.count * self.scale**2 for square in self.squares), samples=samples)


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """What one run over the calibration data told.

    peaks    the largest magnitude of every graded output that was asked for
    moments  by synapse name      notes  why there are none, if the network is too large
    """

    peaks: Mapping[str, float]
    moments: Mapping[str, Moments]
    notes: tuple[str, ...] = ()


NONE = Calibration(peaks={}, moments={})


def calibrate(graph: Graph, graded: list[str], data: Mapping[str, Array] | None) -> Calibration:
    """Run the float graph on calibration data ``(N, T | 1, *size)`` by input."""
    if data is None or not len(next(iter(data.values()))):
        return NONE
    run = _Run(graph=graph)
    samples = len(next(iter(data.values())))
    heard = min(samples, int(WORK / max(1, sample_work(graph))))
    sums: dict[str, _Sums] = {}
    peaks = dict.fromkeys(graded, 0.0)
    for start in range(0, samples if graded else heard, run.batch):
        part = {k: np.asarray(v[start : start + run.batch]) for k, v in data.items()}
        listening = start < heard
        seen: dict[str, Array] = {}
        for values in walk(graph, part, {*graded, *(run.sources if listening else ())}):
            for name in peaks.keys() & values.keys():
                peaks[name] = max(peaks[name], float(np.abs(values[name]).max(initial=0.0)))
            if listening:
                seen |= values
        if listening:
            share = max(1, ROWS * run.batch // heard)
            inputs = {n.name: part[n.name] for n in graph.of(Input)}
            run.listen(seen | inputs, sums, share, heard - start)
    large = f"weights are the nearest integers: one sample takes {sample_work(graph):.2g} operations, following it may take {WORK:.2g}"
    return Calibration(
        peaks={name: peak for name, peak in peaks.items() if peak > 0}, moments={name: s.moments(heard) for name, s in sums.items()},
        notes=() if heard else (large,),
    )  # fmt: skip


def sample_work(graph: Graph) -> int:
    """Synaptic operations of one sample."""
    return graph.steps * sum(connections(p.synapse, graph.shape(p.synapse.name)) for _, p in _heard(graph))


def _heard(graph: Graph) -> list[tuple[Neuron, Port]]:
    """The synapses whose weights may be rounded: all but those of one weight a neuron."""
    neurons = [n for n in graph.nodes if isinstance(n, Neuron)]
    return [(n, p) for n in neurons for p in ports(graph, n) if not isinstance(p.synapse, Diagonal)]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Run:
    graph: Graph

    @cached_property
    def heard(self) -> list[tuple[Neuron, Port]]:
        return _heard(self.graph)

    @cached_property
    def columns(self) -> int:
        """How many inputs' products are kept; see COLUMNS."""
        shapes = [np.reshape(p.synapse.weight, (len(p.synapse.weight), -1)).shape for _, p in self.heard]

        def effort(most: int) -> float:
            return sum(rows * k * min(k, most) + k * min(k, most) ** 2 / 3 for rows, k in shapes)

        return next((most for most in COLUMNS if effort(most) <= EFFORT), COLUMNS[-1])

    @cached_property
    def sources(self) -> list[str]:
        return list(dict.fromkeys(p.source.name for _, p in self.heard if not isinstance(p.source, Input)))

    @cached_property
    def batch(self) -> int:
        """How many samples' traces fit the memory."""
        values = self.graph.steps * sum(prod(self.graph.shape(name)) for name in self.sources)
        return int(np.clip(_MEMORY // (8 * max(1, values)), 1, 32))

    def listen(self, seen: Mapping[str, Array], sums: dict[str, _Sums], rows: int, samples: int) -> None:
        for n, p in self.heard:
            memory = 1.0 if _is_output(self.graph, n) else 0.0 if n.reset is Reset.STATELESS else float(np.mean(np.abs(n.leak)))
            values = _averages(seen[p.source.name][:samples], min(memory, 1.0), self.graph.steps)
            flat = values.reshape(-1, *values.shape[2:])
            if p.synapse.name not in sums:
                peak = float(np.abs(values).max(initial=0.0))
                sums[p.synapse.name] = _Sums(scale=2.0 ** np.ceil(np.log2(peak or 1.0)) / _LEVELS, columns=self.columns)
            for vectors in _vectors(flat, p, self.graph.shape(p.synapse.inputs[0]), rows):
                sums[p.synapse.name].add(vectors)


def _is_output(graph: Graph, n: Neuron) -> bool:
    return n.fire is Fire.NONE and any(ref.partition(".")[0] == n.name for ref in graph.outputs.values())


def _averages(values: Array, leak: float, steps: int) -> Array:
    """z[t] of the module, ``(N, T, *shape)``; inputs that never change are their own average."""
    if values.shape[1] == 1:
        return np.asarray(values, dtype=np.float64)
    out = np.empty(values.shape)
    a, c = np.zeros(values.shape[:1] + values.shape[2:]), 0.0
    for t in range(steps):
        a, c = leak * a + values[:, t], leak * c + 1.0
        out[:, t] = a / c
    return out


def _vectors(values: Array, p: Port, shape: Shape, rows: int) -> Iterator[Array]:
    """At most ``rows`` input vectors of values ``(N, *source shape)``, some at a time: ``(groups, some, K)``."""
    if p.gather is not None:
        flat = values.reshape(len(values), -1)
        values = np.where(p.gather.index < 0, 0.0, flat[:, np.maximum(p.gather.index, 0)])
    if isinstance(p.synapse, Linear):
        inputs = values.reshape(len(values), -1)
        for some in _together(_spread(len(values), rows), inputs.shape[1]):
            yield inputs[some][None]
        return
    op = p.synapse
    assert isinstance(op, Conv2d)
    windows = patches(values.reshape(len(values), *shape), op)
    for some in _together(_spread(prod(windows.shape[:3]), rows), prod(windows.shape[3:])):
        vectors = windows[np.unravel_index(some, windows.shape[:3])].reshape(len(some), op.groups, -1)
        yield np.ascontiguousarray(vectors.swapaxes(0, 1))


def _together(chosen: Array, columns: int) -> list[Array]:
    """Parts of the chosen vectors that are looked at together."""
    return np.array_split(chosen, max(1, -(-len(chosen) * columns // _TOGETHER)))


def _spread(total: int, count: int) -> Array:
    """``count`` of ``total`` numbers, spread evenly and in step with no period (multiples of the golden ratio)."""
    if total <= count:
        return np.arange(total)
    return np.asarray(np.floor((np.arange(count) * ((5**0.5 - 1) / 2)) % 1.0 * total), dtype=np.int64)


def _cuts(columns: int, most: int) -> list[tuple[int, int]]:
    """Equal parts of at most that many columns."""
    count = -(-columns // most)
    edges = [columns * k // count for k in range(count + 1)]
    return list(pairwise(edges))


__all__ = ["NONE", "WORK", "Calibration", "Moments", "calibrate", "sample_work"]

"""What commands that learn share: a compiled network with a plastic layer, the spikes that reach it, a stream and a held-out part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from snncompile.backends.bundle import Bundle
from snncompile.cli.data import Data
from snncompile.cli.progress import Progress
from snncompile.ir import reference
from snncompile.ir.graph import Array, Graph
from snncompile.learning import attach
from snncompile.learning.float_rule import learn_float
from snncompile.learning.program import LearningProgram, no_labels, nothing_learns
from snncompile.pipeline import Compiled
from snncompile.verify import default_input
from snncompile.verify.dynamics import input_values

BATCH = 32
HELD_OUT = 4
TRIAL, SPARE = 512, 1.25


def make_plastic(
    compiled: Compiled, options: attach.LearnOptions, headroom: float | None, data: Data | None, progress: Progress
) -> tuple[Compiled, LearningProgram]:
    """The compiled network with a layer that learns.

    Without a ``headroom``, the float rule is run on labelled data (at most 512 samples), and the largest weight that it reaches, and a
    quarter more, is what the chip's weights can hold; without such data it is ``LearnOptions``' default.
    """
    if headroom is not None:
        options = replace(options, headroom=headroom)
    made = _made(compiled, options)
    if headroom is None and data is not None and data.y is not None:
        progress.phase("trying the float rule for the range of the weights")
        program, graph = made.program, made.result.graph
        taught = seen(graph, program.source, data.first(TRIAL), progress)
        start = (program.chip_weights(graph) * program.lsb).astype(np.float64)
        reached = learn_float(program, graph, taught.spikes, taught.labels, start)
        growth = float(np.abs(reached).max() / max(np.abs(start).max(), 1e-30))
        made = _made(compiled, replace(options, headroom=max(1.0, SPARE * growth)))
    return replace(compiled, result=made.result, schedule=made.schedule), made.program


def _made(compiled: Compiled, options: attach.LearnOptions) -> attach.Plastic:
    return attach.make_plastic(compiled.result, compiled.float_graph, compiled.source_graph, compiled.target, options)


@dataclass(frozen=True, eq=False)
class Features:
    """A labelled part of the data as the plastic layer sees it: input payloads by name, spikes (N, T, pre), labels (N,)."""

    payloads: Mapping[str, Array]
    spikes: Array
    labels: Array

    def first(self, count: int) -> Features:
        """The first samples."""
        return Features({k: v[:count] for k, v in self.payloads.items()}, self.spikes[:count], self.labels[:count])


def learning_of(bundle: Bundle) -> LearningProgram:
    """The learning program of a bundle; SNN812 if nothing in it learns."""
    if bundle.learning is None:
        raise nothing_learns(str(bundle.path))
    return bundle.learning


def features(bundle: Bundle, data: Data, progress: Progress) -> Features:
    """Run the frozen part of the network on labelled samples; SNN813 without labels."""
    progress.phase("running the frozen layers")
    return seen(bundle.graph, learning_of(bundle).source, data, progress)


def seen(graph: Graph, source: str, data: Data, progress: Progress) -> Features:
    """What population ``source`` sends in labelled samples."""
    if data.y is None:
        raise no_labels(data.source)
    payloads = input_values(graph, default_input(graph, data.x))
    parts = []
    for start in range(0, len(data), BATCH):
        chunk = {k: v[start : start + BATCH] for k, v in payloads.items()}
        sent = reference.run(graph, chunk, record=[source], batch=BATCH)[source]
        parts.append(sent.reshape(*sent.shape[:2], -1).astype(np.uint8))
        progress.count(min(start + BATCH, len(data)), len(data))
    return Features(payloads, np.concatenate(parts), data.y)


def split(data: Data) -> tuple[Data, Data]:
    """The stream, and the last quarter of the samples, held out to measure on."""
    cut = max(1, len(data) - len(data) // HELD_OUT)
    held = replace(data, x=data.x[cut:], y=None if data.y is None else data.y[cut:])
    return data.first(cut), held if len(held) else data


__all__ = ["Features", "features", "learning_of", "make_plastic", "split"]

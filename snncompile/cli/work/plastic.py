"""What commands that learn share: a compiled network with a plastic layer, the spikes that reach it, a stream and a held-out part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from snncompile.backends.bundle import Bundle
from snncompile.cli.data import Data
from snncompile.cli.progress import Progress
from snncompile.errors import fail
from snncompile.ir import reference
from snncompile.ir.graph import Array
from snncompile.learning import attach
from snncompile.learning.program import LearningProgram
from snncompile.pipeline import Compiled
from snncompile.verify import default_input
from snncompile.verify.dynamics import input_values

BATCH = 32
HELD_OUT = 4


def make_plastic(compiled: Compiled, options: attach.LearnOptions) -> tuple[Compiled, LearningProgram]:
    """The compiled network with a layer that learns."""
    made = attach.make_plastic(compiled.result, compiled.float_graph, compiled.source_graph, compiled.target, options)
    return replace(compiled, result=made.result, schedule=made.schedule), made.program


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
    """The learning program of a bundle; SNN041 if nothing in it learns."""
    if bundle.learning is None:
        raise fail("SNN042", f"nothing in {bundle.path} learns", help="export it with --learn LAYER --rule ottt")
    return bundle.learning


def features(bundle: Bundle, data: Data, progress: Progress) -> Features:
    """Run the frozen part of the network on labelled samples; SNN043 without labels."""
    if data.y is None:
        raise fail("SNN043", f"{data.source} has no labels to learn from", help="add an array y with one class number per sample")
    program = learning_of(bundle)
    payloads = input_values(bundle.graph, default_input(bundle.graph, data.x))
    progress.phase("running the frozen layers")
    parts = []
    for start in range(0, len(data), BATCH):
        chunk = {k: v[start : start + BATCH] for k, v in payloads.items()}
        sent = reference.run(bundle.graph, chunk, record=[program.source], batch=BATCH)[program.source]
        parts.append(sent.reshape(*sent.shape[:2], -1).astype(np.uint8))
        progress.count(min(start + BATCH, len(data)), len(data))
    return Features(payloads, np.concatenate(parts), data.y)


def split(data: Data) -> tuple[Data, Data]:
    """The stream, and the last quarter of the samples, held out to measure on."""
    cut = max(1, len(data) - len(data) // HELD_OUT)
    held = replace(data, x=data.x[cut:], y=None if data.y is None else data.y[cut:])
    return data.first(cut), held if len(held) else data


__all__ = ["Features", "features", "learning_of", "make_plastic", "split"]

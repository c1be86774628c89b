"""A trained network on the (simulated) chip: its frozen layers run in batches, its readout learns sample by sample."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from net import make
from tasks import Task

import snncompile
from snncompile.backends.lava.learning_plan import add_learning
from snncompile.backends.lava.plan import write_plan
from snncompile.ir import reference
from snncompile.ir.text import to_text
from snncompile.learning.attach import LearnOptions, Plastic, make_plastic
from snncompile.learning.float_rule import float_stages
from snncompile.learning.stream import Learned, learn
from snncompile.learning.widths import Widths
from snncompile.online.chain import Stage, learn_chain, run_chain
from snncompile.pipeline import Compiled
from snncompile.verify.dynamics import input_values
from snncompile.verify.learning import BitRecord, checkpoints, chip_accuracy, compare_lava, compare_updates
from snncompile.verify.readout import accuracy, decide

BATCH = 200
Set = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Chip:
    """A compiled network and how its readout learns."""

    compiled: Compiled
    options: LearnOptions
    steps: int

    @classmethod
    def load(cls, model: Path, task: Task, options: LearnOptions) -> Chip:
        net = make(**task.shape)
        net.load_state_dict(torch.load(model, weights_only=True))
        calibration = task.stream[0][:32].astype(np.float64)
        shape = calibration.shape[-3:]
        return cls(snncompile.compile(
            net.eval(), input_shape=shape, steps=task.steps, input_range=(0, task.top, 1), calibration=calibration
        ), options, task.steps)  # fmt: skip

    def plastic(self, **changed: object) -> Plastic:
        c = self.compiled
        return make_plastic(c.result, c.float_graph, c.source_graph, c.target, replace(self.options, **changed))

    def payloads(self, plastic: Plastic, x: np.ndarray) -> dict[str, np.ndarray]:
        (source,) = (n.name for n in plastic.result.graph.nodes if n.kind == "int_input")
        return input_values(plastic.result.graph, {source: x if x.ndim == 5 else x[:, None]})

    def seen(self, x: np.ndarray, cache: Path | None = None) -> np.ndarray:
        """Spikes [N,T,n] of the population before the readout, by the integer reference; kept in the folder ``cache``."""
        plastic, parts = self.plastic(), []
        text, tensors = to_text(self.compiled.result.graph)
        key = hashlib.sha256(b"".join([text.encode(), *(a.tobytes() for a in tensors.values()), x.tobytes()])).hexdigest()
        if cache is not None and (file := cache / f"{key[:24]}.npy").is_file():
            return np.unpackbits(np.load(file), axis=-1)[..., : plastic.result.graph.shape(plastic.program.source)[0]]
        for k in range(0, len(x), BATCH):
            name, graph = plastic.program.source, plastic.result.graph
            sent = reference.run(graph, self.payloads(plastic, x[k : k + BATCH]), record=[name], batch=BATCH)[name]
            parts.append(sent.reshape(len(sent), self.steps, -1).astype(np.uint8))
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
            np.save(cache / f"{key[:24]}.npy", np.packbits(np.concatenate(parts), axis=-1))
        return np.concatenate(parts)


@dataclass(frozen=True)
class Comparison:
    """PyTorch's rule and the chip on the same stream; weights after ``at`` samples (0 first)."""

    plastic: Plastic
    ours: Learned
    at: tuple[int, ...]
    chip: np.ndarray
    floated: np.ndarray

    def update(self) -> dict[str, object]:
        """Correlation and slope of the accumulated update, and how both drift."""
        (layer,) = self.plastic.program.layers
        found = compare_updates(layer, self.at[1:], self.chip, self.floated)
        drift = [{k: round(float(v), 4) for k, v in row.items()} for row in found.drift]
        return {"correlation": round(found.correlation, 4), "slope": round(found.slope, 4), "drift": drift}

    def accuracies(self, test: Set, k: int) -> tuple[float, float]:
        """On the chip, with PyTorch, after ``at[k]`` samples."""
        program, graph = self.plastic.program, self.plastic.result.graph
        return chip_accuracy(program, graph, *test, [self.chip[k]], "sum"), float_accuracy(self.plastic, *test, self.floated[k])


def float_accuracy(plastic: Plastic, spikes: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    stages = [Stage(**given) for given in float_stages(plastic.program, plastic.result.graph)]
    return float(accuracy(decide(run_chain(stages, spikes, [weight]), "sum"), y) or 0.0)


def learn_pytorch(chip: Chip, taught: np.ndarray, y: np.ndarray, at: Sequence[int]) -> np.ndarray:
    """PyTorch's online rule from the trained weights on: weights after ``at`` samples."""
    plastic = chip.plastic()
    stages = [Stage(**given) for given in float_stages(plastic.program, plastic.result.graph)]
    (weights,) = learn_chain(stages, taught, y, loss=plastic.program.error.loss, keep=at)
    return weights


def compare(chip: Chip, taught: np.ndarray, y: np.ndarray) -> Comparison:
    """Both rules on the same stream. What the chip learns gets the range that PyTorch's changes need."""
    at = (0, *checkpoints(len(y)))
    floated = learn_pytorch(chip, taught, y, at)
    (name,) = (x.population for x in chip.plastic().program.layers)
    plastic = chip.plastic(moved={name: floated[-1].astype(np.float64) - floated[0]})
    ours = learn(plastic.program, plastic.result.graph, plastic.schedule, Widths.of(chip.compiled.target), taught, y)
    weights = ours.layers[0].weights[[ours.at.index(n) for n in at]]
    return Comparison(plastic, ours, at, weights, floated)


def on_lava(chip: Chip, found: Comparison, x: np.ndarray, y: np.ndarray, samples: int) -> BitRecord:
    """The first samples of the very same run on Lava: weights, errors and logits, bit for bit."""
    graph, schedule, program = found.plastic.result.graph, found.plastic.schedule, found.plastic.program
    with tempfile.TemporaryDirectory() as folder:
        write_plan(Path(folder), graph, schedule)
        add_learning(Path(folder), program)
        payloads = chip.payloads(found.plastic, x[:samples])
        return compare_lava(program, graph, schedule, Path(folder), payloads, y[:samples], found.ours, timeout_s=3600)

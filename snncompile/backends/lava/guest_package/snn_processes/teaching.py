"""Connect what learns: error population, feedback synapses, modulators, targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .board import Board
from .plan import Plan, Population
from .plastic import Layer, Learning
from .plastic_processes import ErrorModel, ErrorProcess, ModulatorModel, ModulatorProcess
from .population import slot
from .processes import SourceModel, SourceProcess

Add = Callable[[Any, type], Any]


def slot_behind(depth: int, plan: Plan, samples: int, rest: int, h: int) -> tuple[int, int] | None:
    """(sample, model step) of hardware step ``h`` for what works ``depth`` steps behind the input."""
    return slot(h - depth, plan, samples, rest)


def no_slot(_h: int) -> None:
    """Never."""


@dataclass(frozen=True)
class Teaching:
    """What a stream teaches from: class numbers, and a teacher's activities by population."""

    plan: Plan
    learning: Learning
    samples: int
    targets: np.ndarray
    activity: dict[str, np.ndarray]
    out: Path
    board: Board

    def connect(self, processes: dict[str, Any], synapses: dict[str, Any], add: Add, dense: Callable[[str, np.ndarray], Any]) -> None:
        """Make the populations that send third factors; ``processes`` and plastic ``synapses`` by population."""
        error = self.error(processes, add) if self.learning.error_needed else None
        for layer in self.learning.layers:
            sender = error
            if layer.modulator is not None:
                sender = self.modulator(layer, processes[layer.population], add)
                if layer.modulator["kind"] == "feedback":
                    assert error is not None
                    back = dense(f"{layer.population}.feedback", np.array(layer.modulator["feedback"]))
                    error.graded.connect(back.s_in)
                    back.a_out.connect(sender.feedback)
            assert sender is not None
            sender.positive.connect(synapses[layer.population].s_in_y1)
            sender.negative.connect(synapses[layer.population].s_in_y2)

    def error(self, processes: dict[str, Any], add: Add) -> Any:
        """The error population on the readout."""
        readout = self.population(self.learning.readout)
        plastic = self.learning.layer(readout.name)
        process = ErrorProcess(
            size=readout.size, error=self.learning.error, slot=self.at(readout.depth), board=self.board,
            index=self.board.names.index("error population"), record=None if plastic is None else self.sent(readout.name),
        )  # fmt: skip
        onehot = (np.arange(readout.size) == self.targets[:, None]).astype(np.int32)
        processes[readout.name].out.connect(process.logits)
        self.source("target", onehot, readout.depth, add).s_out.connect(process.target)
        return add(process, ErrorModel)

    def modulator(self, layer: Layer, process: Any, add: Add) -> Any:
        """The modulator population of a hidden layer, hearing it."""
        population, readout = self.population(layer.population), self.population(self.learning.readout)
        assert layer.modulator is not None
        local = layer.modulator["kind"] == "local"
        made = ModulatorProcess(
            name=f"{layer.population}.modulator", size=population.size, modulator=layer.modulator, slot=self.at(population.depth),
            back=no_slot if local else self.at(readout.depth + 2), board=self.board,
            index=self.board.names.index(f"modulators of {layer.population}"), record=self.sent(layer.population),
        )  # fmt: skip
        process.distance.connect(made.distance)
        process.out.connect(made.spikes)
        if local:
            given = np.where(self.targets[:, None] >= 0, self.activity[layer.population] + 1, 0).astype(np.int32)
            self.source(f"{layer.population}.activity", given, population.depth, add).s_out.connect(made.activity)
        return add(made, ModulatorModel)

    def source(self, name: str, data: np.ndarray, late: int, add: Add) -> Any:
        """Values per sample, sent at every model step, ``late`` hardware steps behind the input."""
        return add(SourceProcess(name=name, data=data[:, None], plan=self.plan, rest=self.learning.rest, late=late), SourceModel)

    def population(self, name: str) -> Population:
        """The population called ``name``."""
        return next(p for p in self.plan.populations if p.name == name)

    def at(self, depth: int) -> Callable[[int], tuple[int, int] | None]:
        """When something works that is ``depth`` steps behind the input."""
        return partial(slot_behind, depth, self.plan, self.samples, self.learning.rest)

    def sent(self, name: str) -> Path:
        """The file of the third factors sent to a layer."""
        return self.out / f"learning.{name}.sent.npy"

"""The two sides of ``diff``: what ``FILE[@DIALECT][:STAGE]`` names, opened and, where an executor is meant, run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from snncompile import files, pipeline
from snncompile.backends.bundle import is_bundle, read_bundle
from snncompile.cli.data import Data, load_data
from snncompile.cli.progress import Progress
from snncompile.cli.side_name import EXECUTORS, SideName
from snncompile.cli.work import netx
from snncompile.cli.work.request import ModelOptions, sample_shapes
from snncompile.errors import fail
from snncompile.ir.graph import Array, Graph
from snncompile.ir.integer import IntInput
from snncompile.ir.linear_ops import Input
from snncompile.mapping.schedule import Schedule
from snncompile.verify.backends import run_lava, run_onnxruntime, run_scheduled
from snncompile.verify.dynamics import input_values
from snncompile.verify.judge import TORCH
from snncompile.verify.rerun import Side, only_input

if TYPE_CHECKING:
    from snncompile.capture.capture import Captured
    from snncompile.capture.load import LoadedGraph, LoadedModel
    from snncompile.pipeline import Compiled


class Wanted(Protocol):
    """What the command line says that concerns both sides."""

    @property
    def target(self) -> str:
        """The chip that integer stages of a model are for."""

    @property
    def input_range(self) -> tuple[float, float, float] | None:
        """Lowest and highest input value, and their grid."""

    @property
    def timeout(self) -> float:
        """Limit of a Lava run in seconds."""

    def model(self, side: SideName) -> ModelOptions:
        """How to load the model of a side."""


@dataclass(frozen=True)
class Program:
    """Integers and when they happen; ``plan_folder`` is that of a bundle."""

    graph: Graph
    schedule: Schedule
    plan_folder: Path | None = None


class Source:
    """A file, opened as far as its stages need it; two sides of one file share it."""

    def __init__(self, name: SideName, wanted: Wanted, data: Path, progress: Progress) -> None:
        self.name, self.wanted, self.path, self.progress = name, wanted, data, progress
        if name.path is not None and not name.path.is_dir():
            files.check_file(name.path)
        folder = name.path is not None and name.path.is_dir()
        self.is_bundle = name.path is not None and (folder or is_bundle(name.path))
        self.is_net = name.path is not None and not folder and netx.is_net(name.path)

    @property
    def options(self) -> ModelOptions:
        """What the command line says about this file."""
        return self.wanted.model(self.name)

    @cached_property
    def loaded(self) -> LoadedModel | LoadedGraph:
        """The model."""
        self.progress.phase(f"loading {self.name.file}")
        options = self.options
        return replace(options, nir_dialect=self.name.dialect or options.nir_dialect).load(self.name.path)

    @cached_property
    def program(self) -> Program:
        """The integers."""
        if self.is_bundle and self.name.path is not None:
            bundle = read_bundle(self.name.path)
            return Program(bundle.graph, bundle.schedule, bundle.plan_folder)
        if self.is_net and self.name.path is not None:
            found = netx.load(self.name.path, self.options, target=self.wanted.target, input_range=self.wanted.input_range)
            return Program(found.result.graph, found.schedule)
        return Program(self.compiled.result.graph, self.compiled.schedule)

    @cached_property
    def compiled(self) -> Compiled:
        """The model, compiled; raises what ``export`` raises."""
        from snncompile.cli.work import model as models  # noqa: PLC0415 - torch

        known, _ = models.choose_range(self.loaded, self.wanted.input_range, self.data, None)
        samples = self.data.first(models.CALIBRATION_SAMPLES).samples
        return models.compile_loaded(
            self.loaded, target=self.wanted.target, calibration=samples, input_range=known, readout=self.loaded.readout,
            progress=self.progress.phase,
        )  # fmt: skip

    @cached_property
    def captured(self) -> Captured | Graph:
        """The network as it was read off PyTorch, or as the file holds it."""
        from snncompile.capture.capture import capture  # noqa: PLC0415 - torch
        from snncompile.capture.load import LoadedGraph  # noqa: PLC0415

        loaded = self.loaded
        if isinstance(loaded, LoadedGraph):
            return loaded.imported.graph
        self.progress.phase(f"capturing {self.name.file} by running it")
        return capture(loaded.model, input_shape=loaded.input_shape, steps=loaded.steps, layout=loaded.layout, name=loaded.name)

    @cached_property
    def source_graph(self) -> Graph:
        """The captured graph, with what the data say about its input."""
        graph = self.captured if isinstance(self.captured, Graph) else self.captured.graph
        known = self.wanted.input_range or self.loaded.input_range or self.data.grid
        return pipeline.describe_input(graph, self.data.first(1).samples, known)[0]

    @cached_property
    def signature(self) -> tuple[tuple[int, ...] | dict[str, tuple[int, ...]], int]:
        """Shape of one sample at one step, and T."""
        if self.is_bundle or self.is_net:
            graph = self.program.graph
            return sample_shapes(graph), graph.steps
        from snncompile.cli.work import model as models  # noqa: PLC0415 - torch

        return models.shapes_of(self.loaded), self.loaded.steps

    @cached_property
    def data(self) -> Data:
        """The samples."""
        return load_data(self.path, *self.signature)

    def by_input(self, graph: Graph, count: int | None = None) -> dict[str, Array]:
        """The first samples for a graph of this file, by the name of its input."""
        data = self.data if count is None else self.data.first(count)
        names = [n.name for n in graph.of(Input, IntInput)]
        return {name: data.by_name[name] for name in names} if data.by_name else {only_input(graph): data.x}

    def default_stage(self) -> str:
        """What is meant where no stage was named: the nearest to what the user wrote."""
        if self.is_bundle or self.is_net:
            return "integer"
        from snncompile.capture.load import LoadedGraph  # noqa: PLC0415 - torch

        return "captured" if isinstance(self.loaded, LoadedGraph) else "pytorch"


@dataclass
class Sides:
    """Both sides of the command line."""

    wanted: Wanted
    data_file: Path
    samples: int
    progress: Progress
    sources: dict[tuple[Path | None, str | None, ModelOptions], Source] = field(default_factory=dict)

    def open(self, name: SideName) -> Source:
        """The file behind a name, opened once; raises CompileError."""
        key = (name.path, name.dialect, self.wanted.model(name))
        if key not in self.sources:
            self.sources[key] = Source(name, self.wanted, self.data_file, self.progress)
        return self.sources[key]

    def run(self, name: SideName) -> Side:
        """The side, executed if an executor was named; raises CompileError SNN044 for a stage that the file does not have."""
        source = self.open(name)
        stage = name.stage or source.default_stage()
        label = f"{name.file if name.path is not None else source.options.arch}:{stage}"
        if stage not in ("integer", *EXECUTORS) and (source.is_bundle or source.is_net):
            raise fail(
                "SNN044", f"{name.file} holds integers only, it has no stage '{stage}'",
                help=f"choose from integer, {', '.join(EXECUTORS)}; the stages before are those of the model",
            )  # fmt: skip
        if stage in ("captured", "folded"):
            graph = source.source_graph
            if stage == "folded":
                self.progress.phase("folding")
                graph = pipeline.fold(graph, source.by_input(graph))[0]
            return Side(label=label, graph=graph)
        if stage == "pytorch":
            return self._pytorch(source, label)
        program = source.program
        if stage == "integer":
            return Side(label=label, graph=program.graph)
        return Side(label=label, graph=program.graph, recorded=self._execute(stage, program, source.by_input(program.graph, self.samples)))

    def _pytorch(self, source: Source, label: str) -> Side:
        captured = source.captured
        if isinstance(captured, Graph):
            message = f"{source.name.file} is no PyTorch model, it has no stage 'pytorch'"
            raise fail("SNN044", message, help="choose captured, folded or integer")
        from snncompile.capture.observe import observe  # noqa: PLC0415 - torch

        self.progress.phase("running PyTorch")
        recorded = observe(captured, source.by_input(captured.graph, self.samples), with_outputs=True)
        real = {ref: np.asarray(value, dtype=np.float64) for ref, value in recorded.items()}
        return Side(label=label, graph=captured.graph, recorded=real, tolerance=TORCH)

    def _execute(self, stage: str, program: Program, x: Mapping[str, Array]) -> Mapping[str, Array]:
        payloads = input_values(program.graph, x)
        if stage == "hops":
            self.progress.phase("running the reference hop by hop")
            return run_scheduled(program.graph, program.schedule, payloads)
        if stage == "onnx":
            self.progress.phase("running ONNX Runtime")
            return run_onnxruntime(program.graph, payloads, progress=self.progress.count)[0]
        from snncompile.backends.lava.interpreter import find_interpreter  # noqa: PLC0415

        find_interpreter(self.progress.phase)
        self.progress.phase("running Lava's simulator")
        return run_lava(
            program.graph, program.schedule, payloads, timeout_s=self.wanted.timeout, progress=self.progress.count,
            preparing=self.progress.phase, plan_folder=program.plan_folder,
        )[0]  # fmt: skip


__all__ = ["Program", "Sides", "Source", "Wanted"]

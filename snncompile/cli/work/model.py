"""Model and data as several commands need them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from snncompile import pipeline
from snncompile.capture.attention import Gates
from snncompile.capture.capture import named_inputs
from snncompile.capture.circumstances import LENGTH, MODE, STATISTICS
from snncompile.capture.load import LoadedGraph, LoadedModel
from snncompile.cli import show
from snncompile.cli.data import Data, check_range, load_data
from snncompile.cli.progress import Progress as Steps
from snncompile.cli.work.request import sample_shapes
from snncompile.ir.graph import Array, Graph, Readout
from snncompile.ir.linear_ops import Input
from snncompile.ledger import Decision
from snncompile.pipeline import Compiled, Progress, random_input
from snncompile.quantize import Options
from snncompile.verify import Original

CALIBRATION_SAMPLES = 64
RANDOM_SAMPLES = 32
DEFAULT_RANGE = (0.0, 1.0, 0.0)
SIBLINGS = ("images.npz", "data.npz")
Loaded = LoadedModel | LoadedGraph
NO_DATA = Data(np.empty((0, 1)), None, "no data")


@contextlib.contextmanager
def users_output_to_stderr() -> Iterator[None]:
    """What a user's code prints must not mix with results on standard output."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def sibling_data(path: Path | None) -> Path | None:
    """Data that lies beside an example's model."""
    if path is None:
        return None
    return next((path.parent / name for name in SIBLINGS if (path.parent / name).is_file()), None)


def choose_range(
    loaded: Loaded, chosen: tuple[float, float, float] | None, data: Data | None, calibration: Data | None
) -> tuple[tuple[float, float, float] | None, str | None]:
    """The input range and, where nobody knows it, a sentence about what is assumed."""
    known = chosen or loaded.input_range
    for samples in (calibration, data):
        if known is None and samples is not None:
            if samples.grid is not None:
                return samples.grid, None
            return None, None  # the calibration tells
    if known is None:
        return DEFAULT_RANGE, "the input range is assumed to be 0..1; give --data, --calibration or --input-range"
    for samples in (calibration, data):
        if samples is not None:
            check_range(samples, known)
    return known, None


def shapes_of(loaded: Loaded) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
    """The shape of one sample at one step; by input where there are several, or one was named."""
    if isinstance(loaded, LoadedGraph):
        return sample_shapes(loaded.imported.graph)
    shapes = named_inputs(loaded.model, loaded.input_shape)
    return shapes if len(shapes) > 1 or isinstance(loaded.input_shape, dict) else next(iter(shapes.values()))


def usable_data(path: Path | None, loaded: Loaded, *, strict: bool = True) -> Data | None:
    """Samples for a network; with ``strict`` off (data found, not named) unfit data is no error but None."""
    if path is None:
        return None
    if strict:
        return load_data(path, shapes_of(loaded), loaded.steps)
    from snncompile.errors import CompileError  # noqa: PLC0415

    try:
        data = load_data(path, shapes_of(loaded), loaded.steps)
        if loaded.input_range is not None:
            check_range(data, loaded.input_range)
        return data
    except CompileError as e:
        show.warn(f"{path} lies beside the model but is not used: {e.diagnostics[0].message}")
        return None


def compile_loaded(
    loaded: Loaded, *, target: str, calibration: Array | Mapping[str, Array] | None, input_range: tuple[float, float, float] | None,
    readout: Readout, options: Options | None = None, progress: Progress | None = None, effects: bool = False,
    readout_of: str | None = None, seca: Gates = "calibrated",
) -> Compiled:  # fmt: skip
    """Compile what a file holds: a PyTorch model by running it, a graph as it is; ``effects`` measures what its reading decided."""
    if isinstance(loaded, LoadedGraph):
        imported, given = loaded.imported, None if isinstance(calibration, Mapping) else calibration
        decisions = imported.measured(given) if effects else imported.decisions
        return pipeline.compile_graph(
            loaded.imported.graph, target=target, calibration=calibration, input_range=input_range, options=options, readout=readout,
            name=loaded.name, decisions=decisions, progress=progress, readout_of=readout_of,
        )  # fmt: skip
    return pipeline.compile(
        loaded.model, target=target, input_shape=loaded.input_shape, steps=loaded.steps, layout=loaded.layout, calibration=calibration,
        input_range=input_range, readout=readout, name=loaded.name, options=options, progress=progress,
        readout_of=readout_of, seca=seca,
    )  # fmt: skip


def warn_of_circumstances(decisions: Iterable[Decision]) -> None:
    """Say what the network was handed over with that a user may not have meant; the ledger has it too."""
    for d in decisions:
        if d.what in (MODE, LENGTH, STATISTICS):
            show.warn(f"{d.what}: {d.value}; {d.why}")


def original(compiled: Compiled, loaded: Loaded, x: Array | Mapping[str, Array], progress: Steps) -> Original:
    """Run the network that the program is judged against."""
    imported = isinstance(loaded, LoadedGraph)
    progress.phase("running the imported network" if imported else "running the network in PyTorch")
    return pipeline.original(compiled, None if isinstance(loaded, LoadedGraph) else loaded.model, x)


def random_data(graph: Graph) -> Data:
    """Seeded random samples in the input's range; they say nothing about accuracy."""
    sources = [n for n in graph.of(Input) if isinstance(n, Input)]
    found = {n.name: np.asarray(random_input(n, graph.steps, RANDOM_SAMPLES, seed=k)) for k, n in enumerate(sources)}
    source = f"{RANDOM_SAMPLES} seeded random samples"
    return Data(found[sources[0].name], None, source, by_name=found if len(found) > 1 else {})


def facts(loaded: Loaded) -> dict[str, Any]:
    """What the manifest says about the source."""
    return {**loaded.facts, "sha256": loaded.source_sha256}


__all__ = [
    "CALIBRATION_SAMPLES", "NO_DATA", "choose_range", "compile_loaded", "facts", "original", "random_data", "shapes_of", "sibling_data",
    "usable_data", "users_output_to_stderr", "warn_of_circumstances",
]  # fmt: skip

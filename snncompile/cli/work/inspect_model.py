"""``inspect`` of a model: capture and fold it as far as the stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from snncompile import pipeline
from snncompile.backends.bundle.ledger import ledger
from snncompile.backends.bundle.manifest import pass_to_json
from snncompile.capture.capture import capture
from snncompile.capture.load import LoadedGraph
from snncompile.cli.progress import Progress
from snncompile.cli.work import model as models
from snncompile.cli.work.inspect import Inspected
from snncompile.ir.graph import Graph
from snncompile.ledger import Decision

if TYPE_CHECKING:
    from snncompile.cli.work.inspect import Request


def stages(request: Request, progress: Progress) -> Inspected:
    """The stage, and how the network came to it."""
    with models.users_output_to_stderr():
        return _stages(request, progress)


def _stages(request: Request, progress: Progress) -> Inspected:
    progress.phase("loading the model")
    loaded = request.load(request.path)
    stage = request.stage or "folded"
    data = models.usable_data(request.data, loaded)
    known, _ = models.choose_range(loaded, request.input_range, data, None)
    samples = None if data is None else data.first(models.CALIBRATION_SAMPLES).samples
    if stage == "integer":
        compiled = models.compile_loaded(
            loaded, target=request.target, calibration=samples, input_range=known, readout=loaded.readout, progress=progress.phase,
            effects=request.ledger,
        )  # fmt: skip
        lines = ledger(compiled.decisions, compiled.passes, compiled.result)
        return Inspected(stage, compiled.result.graph, tuple(lines), [pass_to_json(r) for r in compiled.passes])
    before, decisions = captured(loaded, progress)
    if request.ledger and isinstance(loaded, LoadedGraph):
        progress.phase("measuring what the file's reading decides")
        decisions = loaded.imported.measured(None if isinstance(samples, Mapping) else samples)
    graph, given = pipeline.describe_input(before, samples, known)
    if stage == "captured" and not request.ledger:
        return Inspected(stage, graph, decisions, [])
    progress.phase("folding")
    folded, records = pipeline.fold(graph, given)
    lines = ledger(decisions, records, None)
    return Inspected(stage, graph if stage == "captured" else folded, tuple(lines), [pass_to_json(r) for r in records])


def captured(loaded: models.Loaded, progress: Progress) -> tuple[Graph, tuple[Decision, ...]]:
    """The network before any pass, and what importing it decided."""
    if isinstance(loaded, LoadedGraph):
        return loaded.imported.graph, loaded.imported.decisions
    progress.phase("capturing the network by running it")
    found = capture(loaded.model, input_shape=loaded.input_shape, steps=loaded.steps, layout=loaded.layout, name=loaded.name)
    return found.graph, ()


__all__ = ["captured", "stages"]

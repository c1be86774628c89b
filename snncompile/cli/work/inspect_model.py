"""``inspect`` of a model: capture and fold it as far as the stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from snncompile import pipeline
from snncompile.backends.bundle.manifest import pass_to_json
from snncompile.capture.capture import capture
from snncompile.cli.progress import Progress
from snncompile.cli.work import model as models
from snncompile.ir.graph import Graph

if TYPE_CHECKING:
    from snncompile.cli.work.inspect import Request


def stages(request: Request, progress: Progress) -> tuple[str, Graph, list[Mapping[str, Any]]]:
    """The stage's name, its graph, and what each pass did on the way there."""
    with models.users_output_to_stderr():
        return _stages(request, progress)


def _stages(request: Request, progress: Progress) -> tuple[str, Graph, list[Mapping[str, Any]]]:
    progress.phase("loading the model")
    loaded = request.load(request.path)
    stage = request.stage or "folded"
    data = models.usable_data(request.data, loaded)
    known, _ = models.choose_range(loaded, request.input_range, data, None)
    samples = None if data is None else data.x[: models.CALIBRATION_SAMPLES]
    if stage == "integer":
        compiled = pipeline.compile(
            loaded.model, target=request.target, input_shape=loaded.input_shape, steps=loaded.steps, layout=loaded.layout,
            calibration=samples, input_range=known, readout=loaded.readout, name=loaded.name, progress=progress.phase,
        )  # fmt: skip
        return stage, compiled.result.graph, [pass_to_json(r) for r in compiled.passes]
    progress.phase("capturing the network by running it")
    captured = capture(loaded.model, input_shape=loaded.input_shape, steps=loaded.steps, layout=loaded.layout, name=loaded.name)
    graph, given = pipeline.describe_input(captured.graph, samples, known)
    if stage == "captured" and not request.ledger:
        return stage, graph, []
    progress.phase("folding")
    folded, records = pipeline.fold(graph, given)
    return stage, graph if stage == "captured" else folded, [pass_to_json(r) for r in records]


__all__ = ["stages"]

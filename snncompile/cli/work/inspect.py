"""``inspect``: a network as text at any stage, or the ledger of the passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from snncompile import files
from snncompile.backends.bundle import is_bundle, read_bundle
from snncompile.cli import show
from snncompile.cli.progress import Progress
from snncompile.cli.work import netx
from snncompile.cli.work.request import ModelOptions
from snncompile.errors import fail
from snncompile.ir.graph import Graph
from snncompile.ir.text import to_text
from snncompile.report.summary import put
from snncompile.report.tables import passes, refusals


@dataclass(frozen=True, kw_only=True)
class Request(ModelOptions):
    """The command line of ``inspect``."""

    path: Path | None
    stage: str | None
    ledger: bool
    target: str
    data: Path | None
    input_range: tuple[float, float, float] | None
    as_json: bool
    quiet: bool


def inspect(request: Request) -> int:
    """Run the command; the exit status."""
    with Progress(quiet=request.quiet) as progress:
        if request.path is not None and (request.path.is_dir() or is_bundle(request.path)):
            stage, graph, ledger = _bundle(request.path, request.stage)
        elif request.path is not None and netx.is_net(request.path):
            program = netx.load(request.path, request, target=request.target, input_range=request.input_range)
            stage, graph, ledger = "integer", netx.integers(program, request.stage), []
        else:
            if request.path is not None:
                files.check_file(request.path)
            from snncompile.cli.work.inspect_model import stages  # noqa: PLC0415 - torch, which bundles do without

            stage, graph, ledger = stages(request, progress)
    if request.ledger:
        if request.as_json:
            show.json_line({"passes": ledger})
        else:
            put(passes(ledger))
            for line in refusals(ledger):
                click.echo(line)
        return 0
    text, tensors = to_text(graph)
    if request.as_json:
        rows = {k: {"dtype": v.dtype.name, "shape": list(v.shape)} for k, v in tensors.items()}
        show.json_line({"stage": stage, "text": text, "tensors": rows})
    else:
        click.echo(text, nl=False)
    return 0


def _bundle(path: Path, stage: str | None) -> tuple[str, Graph, list[Mapping[str, Any]]]:
    if stage not in (None, "integer"):
        message = f"{path} is a bundle, which holds the integer program only, not the stage '{stage}'"
        raise fail("SNN037", message, help=f"inspect the model: snncompile inspect MODEL --stage {stage}")
    bundle = read_bundle(path)
    return "integer", bundle.graph, bundle.manifest["passes"]


__all__ = ["Request", "inspect"]

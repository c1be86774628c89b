"""``inspect``: a network as text at any stage, or its ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from snncompile import files
from snncompile.backends.bundle import is_bundle, read_bundle
from snncompile.backends.bundle.ledger import ledger
from snncompile.cli import show
from snncompile.cli.progress import Progress
from snncompile.cli.work import netx
from snncompile.cli.work.request import ModelOptions
from snncompile.errors import fail
from snncompile.ir.graph import Graph
from snncompile.ir.text import to_text
from snncompile.ledger import Decision
from snncompile.report.summary import put
from snncompile.report.tables import ledger_lines, passes, refusals


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


@dataclass(frozen=True)
class Inspected:
    """A stage, its graph, the ledger up to it, and what each pass did."""

    stage: str
    graph: Graph
    ledger: tuple[Decision, ...]
    passes: list[Mapping[str, Any]]


def inspect(request: Request) -> int:
    """Run the command; the exit status."""
    with Progress(quiet=request.quiet) as progress:
        if request.path is not None and (request.path.is_dir() or is_bundle(request.path)):
            found = _bundle(request, request.path)
        elif request.path is not None and netx.is_net(request.path):
            program = netx.load(request.path, request, target=request.target, input_range=request.input_range)
            lines = ledger(program.decisions, program.passes, program.result)
            found = Inspected("integer", netx.integers(program, request.stage), tuple(lines), [])
        else:
            if request.path is not None:
                files.check_file(request.path)
            from snncompile.cli.work.inspect_model import stages  # noqa: PLC0415 - torch, which bundles do without

            found = stages(request, progress)
    if request.ledger:
        if request.as_json:
            show.json_line({"ledger": [d.to_json() for d in found.ledger], "passes": found.passes})
        else:
            for line in ledger_lines(found.ledger):
                click.echo(line)
            click.echo()
            put(passes(found.passes))
            for line in refusals(found.passes):
                click.echo(line)
        return 0
    text, tensors = to_text(found.graph)
    if request.as_json:
        rows = {k: {"dtype": v.dtype.name, "shape": list(v.shape)} for k, v in tensors.items()}
        show.json_line({"stage": found.stage, "text": text, "tensors": rows})
    else:
        click.echo(text, nl=False)
    return 0


def _bundle(request: Request, path: Path) -> Inspected:
    stage = request.stage
    reading = request.reading()
    if reading:
        message = f"{path} is a bundle, which needs no word on how a model is read: {', '.join(reading)}"
        raise fail("SNN037", message, help="leave that out, or give the model that the bundle was made of")
    if stage not in (None, "integer"):
        message = f"{path} is a bundle, which holds the integer program only, not the stage '{stage}'"
        raise fail("SNN037", message, help=f"inspect the model: snncompile inspect MODEL --stage {stage}")
    bundle = read_bundle(path)
    lines = tuple(Decision.from_json(row) for row in bundle.manifest.get("ledger", []))
    return Inspected("integer", bundle.graph, lines, bundle.manifest["passes"])


__all__ = ["Inspected", "Request", "inspect"]

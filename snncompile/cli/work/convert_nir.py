"""``convert`` to NIR: the network as it was captured or imported, as a file for other tools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from snncompile import files
from snncompile.backends.bundle import is_bundle
from snncompile.cli import show
from snncompile.cli.progress import Progress
from snncompile.cli.work.request import ModelOptions
from snncompile.errors import fail
from snncompile.report.summary import facts, put
from snncompile.report.words import count, size

if TYPE_CHECKING:
    from snncompile.backends.nir import Misreading
    from snncompile.ir.graph import Graph


@dataclass(frozen=True, kw_only=True)
class Request(ModelOptions):
    """The command line of ``convert MODEL -o OUT.nir``."""

    model: Path
    output: Path
    as_json: bool
    quiet: bool


def convert_nir(request: Request) -> int:
    """Run the command; the exit status."""
    path = request.model
    files.check_file(path)
    if path.is_dir() or is_bundle(path):
        message = f"{path} is a bundle, whose integers NIR has no form for"
        raise fail("SNN042", message, help="name the model: snncompile convert MODEL -o OUT.nir")
    with Progress(quiet=request.quiet) as progress:
        graph, found = _written(request, progress)
    if found:
        show.diagnostics([m.diagnostic() for m in found])
    rows = [{"reader": m.reader, "refused": m.refused, "differing": m.differing, "compared": m.compared} for m in found]
    output = request.output
    if request.as_json:
        show.json_line({"ok": True, "output": str(output), "bytes": output.stat().st_size, "nodes": len(graph.nodes), "misread_by": rows})
        return 0
    put(facts([
        ("network", f"{output}, {size(output.stat().st_size)}"), ("nodes", count(len(graph.nodes))),
        ("misread by", ", ".join(m.reader for m in found) or "no tool that is known"),
    ]))  # fmt: skip
    return 0


def _written(request: Request, progress: Progress) -> tuple[Graph, list[Misreading]]:
    from snncompile.backends.nir import misreadings, to_nir, write_nir  # noqa: PLC0415 - torch, which other targets do without
    from snncompile.cli.work import model as models  # noqa: PLC0415
    from snncompile.cli.work.inspect_model import captured  # noqa: PLC0415

    with models.users_output_to_stderr():
        progress.phase("loading the model")
        graph, _ = captured(request.load(request.model), progress)
        progress.phase("writing the NIR file")
        write_nir(graph, request.output)
        progress.phase("reading it as other tools do")
        return graph, misreadings(graph, to_nir(graph))


__all__ = ["Request", "convert_nir"]

"""``check``: the table of operations, then all blockers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
from rich.table import Table

from snncompile.capture.load import LoadedGraph
from snncompile.capture.survey import Survey, Verdict
from snncompile.checking import Checked, Operation, judge
from snncompile.checking import check as check_model
from snncompile.cli import show
from snncompile.cli.progress import Progress
from snncompile.cli.work import model as models
from snncompile.cli.work import netx
from snncompile.cli.work.request import ModelOptions
from snncompile.errors import CompileError
from snncompile.ir.integer import IntNeuron
from snncompile.report.summary import put


@dataclass(frozen=True, kw_only=True)
class Request(ModelOptions):
    """The command line of ``check``."""

    path: Path | None
    target: str
    data: Path | None
    input_range: tuple[float, float, float] | None
    as_json: bool
    quiet: bool


def check(request: Request) -> int:
    """Run the command; the exit status is 1 if anything is in the way."""
    with Progress(quiet=request.quiet) as progress, models.users_output_to_stderr():
        found = _check(request, progress)
    if request.as_json:
        rows = [o.to_json() for o in found.operations]
        show.json_line({"ok": found.ok, "operations": rows, "diagnostics": [show.diagnostic_json(d) for d in found.blockers]})
        return 0 if found.ok else 1
    put(_table(found.operations))
    if found.ok:
        click.echo(f"\nnothing is in the way: the network compiles for {request.target}")
        return 0
    click.echo()
    show.diagnostics(found.blockers)
    click.echo(f"\n{len(found.blockers)} {'things are' if len(found.blockers) > 1 else 'thing is'} in the way", err=True)
    return 1


def _check(request: Request, progress: Progress) -> Checked:
    progress.phase("loading the model")
    if request.path is not None and netx.is_net(request.path):
        return _integers(request, request.path)
    loaded = request.load(request.path)
    data = models.usable_data(request.data, loaded)
    known, _ = models.choose_range(loaded, request.input_range, data, None)
    samples = None if data is None else data.first(models.CALIBRATION_SAMPLES).samples
    progress.phase("reading the network")
    if isinstance(loaded, LoadedGraph):
        return judge(Survey(graph=loaded.imported.graph), target=request.target, calibration=samples, input_range=known)
    return check_model(
        loaded.model, target=request.target, input_shape=loaded.input_shape, steps=loaded.steps, layout=loaded.layout, calibration=samples,
        input_range=known, name=loaded.name,
    )  # fmt: skip


def _integers(request: Request, path: Path) -> Checked:
    """A file of integers: it is taken whole, or everything that is wrong with its layers is in the way."""
    try:
        program = netx.load(path, request, target=request.target, input_range=request.input_range)
    except CompileError as e:
        if e.code not in netx.BLOCKERS:
            raise
        return Checked(operations=(), blockers=e.diagnostics)
    operations = (
        Operation(name=n.name, operation=n.origin[0], verdict=Verdict.NATIVE, note="its integers as they are")
        for n in program.result.graph.of(IntNeuron)
    )
    return Checked(operations=tuple(operations), blockers=())


def _table(operations: tuple[Operation, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("line", "name", "operation", "verdict", "note"):
        table.add_column(heading, overflow="fold")
    for o in operations:
        table.add_row("" if o.loc is None else f"{o.loc.file}:{o.loc.line}", o.name, o.operation, o.verdict.value, o.note)
    return table


__all__ = ["Request", "check"]

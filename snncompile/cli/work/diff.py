"""``diff``: two runs of one network, side by side."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from snncompile import files
from snncompile.cli import show
from snncompile.cli.progress import Progress
from snncompile.cli.side_name import SideName
from snncompile.cli.work import model as models
from snncompile.cli.work.request import ModelOptions
from snncompile.cli.work.sides import Sides, Source
from snncompile.errors import fail
from snncompile.report.diff import print_diff
from snncompile.verify.localise import Localised, localise
from snncompile.verify.reproduction import check_folder, write_reproduction
from snncompile.verify.rerun import only_input


@dataclass(frozen=True, kw_only=True)
class Request(ModelOptions):
    """The command line of ``diff``."""

    a: SideName
    b: SideName
    data: Path
    samples: int
    output: Path
    target: str
    input_range: tuple[float, float, float] | None
    timeout: float
    as_json: bool
    quiet: bool

    @property
    def model(self) -> ModelOptions:
        """How to load a model."""
        return ModelOptions(**{f.name: getattr(self, f.name) for f in fields(ModelOptions)})


def diff(request: Request) -> int:
    """Run the command; the exit status: 0 if nothing differs."""
    files.check_file(request.data)
    check_folder(request.output)
    with Progress(quiet=request.quiet) as progress, models.users_output_to_stderr():
        found = _compare(request, progress)
        written = write_reproduction(found, request.output)
    answer = {**found.to_json(), "reproduction": None if written is None else str(written)}
    if request.as_json:
        show.json_line(answer)
    else:
        print_diff(answer)
    return 0 if found.equal else 1


def _compare(request: Request, progress: Progress) -> Localised:
    sides = Sides(request, request.data, request.samples, progress)
    first, second = sides.open(request.a), sides.open(request.b)
    _same_kind(first, second)
    count = min(request.samples, len(first.data))
    a, b = sides.run(request.a), sides.run(request.b)
    progress.phase("comparing population by population")
    return localise(a, b, {only_input(a.graph): first.data.x[:count]}, progress=progress.count)


def _same_kind(a: Source, b: Source) -> None:
    """Both must take the same samples for the same number of steps (SNN045)."""
    (shape, steps), (other, others) = a.signature, b.signature
    if shape != other:
        raise fail("SNN045", f"{a.name.file} takes samples of shape {list(shape)}, {b.name.file} of shape {list(other)}")
    if steps != others:
        raise fail("SNN045", f"{a.name.file} runs {steps} steps, {b.name.file} {others}", help="give both the same --steps")


__all__ = ["Request", "diff"]

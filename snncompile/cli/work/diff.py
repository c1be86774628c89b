"""``diff``: two runs of one network, side by side."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

from snncompile import files
from snncompile.cli import show
from snncompile.cli.progress import Progress
from snncompile.cli.side_name import SideName
from snncompile.cli.work import model as models
from snncompile.cli.work.request import ModelOptions, meant_for
from snncompile.cli.work.sides import Sides, Source
from snncompile.errors import fail
from snncompile.pipeline import plain_shape
from snncompile.report.diff import print_diff
from snncompile.verify.localise import Localised, localise
from snncompile.verify.reproduction import check_folder, write_reproduction

Layout = Literal["step", "TB", "BT"]


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
    arch_b: str | None
    arch_args_b: str | None
    layout_b: Layout | None
    as_json: bool
    quiet: bool

    def model(self, side: SideName) -> ModelOptions:
        """How to load the model of a side: an option that the other side alone has a use for is not for this one."""
        options = ModelOptions(**{f.name: getattr(self, f.name) for f in fields(ModelOptions)})
        own = frozenset[str]()
        if side is self.b:
            own = frozenset(name for name in ("arch", "arch_args", "layout") if getattr(self, f"{name}_b"))
            options = replace(
                options, arch=self.arch_b or self.arch, layout=self.layout_b or self.layout,
                arch_args=self.arch_args_b or (None if self.arch_b else self.arch_args),
            )  # fmt: skip
        mine, other = meant_for(side.path), meant_for(self.a.path if side is self.b else self.b.path)
        return options.without((options.given() & other) - mine - own)


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
    if a.label == b.label:
        b = replace(b, label=f"{b.label} (B)")
    progress.phase("comparing population by population")
    return localise(a, b, first.by_input(a.graph, count), progress=progress.count)


def _same_kind(a: Source, b: Source) -> None:
    """Both must take the same samples for the same number of steps (SNN045)."""
    (shape, steps), (other, others) = a.signature, b.signature
    if shape != other:
        raise fail("SNN045", f"{a.name.file} takes samples of shape {plain_shape(shape)}, {b.name.file} of shape {plain_shape(other)}")
    if steps != others:
        raise fail("SNN045", f"{a.name.file} runs {steps} steps, {b.name.file} {others}", help="give both the same --steps")


__all__ = ["Request", "diff"]

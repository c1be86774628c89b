"""What a person sees of a training run: one line per epoch, and a bar where standard error is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor


def log(line: str) -> None:
    """One line on standard error, at once."""
    print(line, file=sys.stderr, flush=True)


def progress(batches: tuple[Tensor, ...], title: str) -> Iterator[Tensor]:
    """Iterate with a bar where a person watches, silently otherwise."""
    if not sys.stderr.isatty():
        yield from batches
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield from bar.track(batches, description=title)

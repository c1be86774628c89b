"""Progress on standard error: a live line on a terminal, plain lines elsewhere, nothing if quiet."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress as Live
    from rich.progress import TaskID

EVERY_SECONDS = 5.0


class Progress:
    """Phases one after another, each with an optional count. ``phase`` starts one, ``count`` moves it."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.tty = sys.stderr.isatty() and not quiet
        self.current = ""
        self.started = self.spoken = time.monotonic()
        self.live: Live | None = None
        self.task: TaskID | None = None

    def __enter__(self) -> Progress:
        if self.tty:
            from rich.console import Console  # noqa: PLC0415
            from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
            from rich.progress import Progress as Live  # noqa: PLC0415

            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
            self.live = Live(*columns, console=Console(stderr=True), transient=True)
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._finish(done=kind is None)
        if self.live is not None:
            self.live.stop()

    def phase(self, message: str) -> None:
        """Begin something; what went before is done."""
        if message == self.current:
            return
        self._finish()
        self.current, self.started = message, time.monotonic()
        self.spoken = self.started
        if self.live is not None:
            self.task = self.live.add_task(message, total=None)
        elif not self.quiet:
            click.echo(f"{message} ...", err=True)

    def count(self, done: int, total: int) -> None:
        """How far the phase is."""
        if self.live is not None and self.task is not None:
            self.live.update(self.task, completed=done, total=total)
        elif not self.quiet and time.monotonic() - self.spoken > EVERY_SECONDS:
            self.spoken = time.monotonic()
            click.echo(f"  {done} of {total}", err=True)

    def _finish(self, *, done: bool = True) -> None:
        if self.live is not None and self.task is not None:
            seconds = time.monotonic() - self.started
            self.live.remove_task(self.task)
            if done:
                self.live.console.print(f"[green]✓[/green] {self.current} [dim]{seconds:.1f} s[/dim]", highlight=False)
        self.current, self.task = "", None


__all__ = ["Progress"]

"""Diagnostics: what went wrong, where in the user's code, which limit, and what to do.

Every message a user can cause carries a stable code ``SNNxyz``, the hundreds naming the room that found it:

    0xx command line and files    1xx capture          2xx passes and graph     3xx quantisation
    4xx mapping and targets       5xx Lava guest       6xx verification         7xx training kit
    8xx on-chip learning
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Severity(str, Enum):
    """How bad a diagnostic is; only an error stops the compiler."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Location:
    """A line of the user's source, the innermost frame outside installed libraries."""

    file: str
    line: int
    function: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}"
        return f"{where} in {self.function}" if self.function else where


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding: a code, a sentence, and optionally a source location, notes, and a way out."""

    code: str
    message: str
    loc: Location | None = None
    notes: tuple[str, ...] = ()
    help: str | None = None
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        lines = [f"{self.severity.value}[{self.code}]: {self.message}"]
        if self.loc is not None:
            lines.append(f"  --> {self.loc}")
        lines += [f"  note: {note}" for note in self.notes]
        if self.help is not None:
            lines.append(f"  help: {self.help}")
        return "\n".join(lines)


class CompileError(Exception):
    """The user's input cannot be compiled faithfully; carries every diagnostic of the stage that failed."""

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic]) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        super().__init__("\n\n".join(str(d) for d in self.diagnostics))

    @property
    def code(self) -> str:
        """The code of the first diagnostic."""
        return self.diagnostics[0].code


class InternalError(Exception):
    """A broken invariant of the compiler itself: never the user's fault, always worth a report."""


def fail(
    code: str,
    message: str,
    *,
    loc: Location | None = None,
    notes: Iterable[str] = (),
    help: str | None = None,  # noqa: A002 - the word users see
) -> CompileError:
    """Build the error to raise: ``raise fail("SNN001", "...", help="...")``."""
    return CompileError(Diagnostic(code, message, loc, tuple(notes), help))

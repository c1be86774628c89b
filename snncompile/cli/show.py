"""What the command line says: diagnostics in colour where there is a terminal, JSON where a program reads."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

import click

from snncompile.errors import Diagnostic, InternalError, Severity

COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}


def diagnostic(d: Diagnostic) -> str:
    """The text of ``str(d)``, coloured."""
    head = click.style(f"{d.severity.value}[{d.code}]", fg=COLOURS[d.severity], bold=True)
    lines = [f"{head}{click.style(f': {d.message}', bold=True)}"]
    if d.loc is not None:
        lines.append(f"  {click.style('-->', fg='blue', bold=True)} {d.loc}")
    lines += [f"  {click.style('note', bold=True)}: {note}" for note in d.notes]
    if d.help is not None:
        lines.append(f"  {click.style('help', fg='cyan', bold=True)}: {d.help}")
    return "\n".join(lines)


def diagnostics(found: Iterable[Diagnostic], *, as_json: bool = False) -> None:
    """Everything that was found on standard error; as JSON on standard output too where that was asked for."""
    rows = list(found)
    click.echo("\n\n".join(map(diagnostic, rows)), err=True)
    if as_json:
        json_line({"ok": False, "diagnostics": [diagnostic_json(d) for d in rows]})


def diagnostic_json(d: Diagnostic) -> dict[str, Any]:
    """A diagnostic as plain data."""
    where = None if d.loc is None else {"file": d.loc.file, "line": d.loc.line, "function": d.loc.function}
    return {
        "code": d.code, "severity": d.severity.value, "message": d.message, "location": where, "notes": list(d.notes), "help": d.help,
    }  # fmt: skip


def json_line(value: Mapping[str, Any]) -> None:
    """One JSON object on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def say(message: str) -> None:
    """A line on standard error."""
    click.echo(message, err=True)


def warn(message: str) -> None:
    """A warning on standard error."""
    click.echo(f"{click.style('warning', fg='yellow', bold=True)}: {message}", err=True)


def interrupted(number: int, *, as_json: bool) -> int:
    """The exit status after a signal, by the shell's rule, and a line that says so."""
    word = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    click.echo(word, err=True)
    if as_json:
        json_line({"ok": False, "interrupted": signal.Signals(number).name})
    return 128 + number


def usage_error(e: click.ClickException, *, as_json: bool) -> None:
    """A wrong command line: what is wrong first, then how to see what is right."""
    click.echo(f"{click.style('error', fg='red', bold=True)}: {e.format_message()}", err=True)
    ctx = e.ctx if isinstance(e, click.UsageError) else None
    if ctx is not None:
        click.echo(f"\n{ctx.get_usage()}\nFor more, try '{ctx.command_path} --help'.", err=True)
    if as_json:
        usage = None if ctx is None else {"usage": ctx.get_usage(), "help": f"{ctx.command_path} --help"}
        json_line({"ok": False, "usage_error": e.format_message(), **(usage or {})})


def internal_error(e: Exception, log: Path | None, issues: str, *, as_json: bool) -> None:
    """Our own fault: short, with where the details are."""
    what = str(e).splitlines()[0] if str(e) else ""
    message = what if isinstance(e, InternalError) else f"{type(e).__name__}: {what}"
    lines = [f"{click.style('internal error', fg='red', bold=True)}: {message}"]
    lines.append("  this is a bug in snncompile, not a mistake of yours; please report it")
    lines.append(f"  {click.style('note', bold=True)}: details are in {log}" if log else "  the details could not be written")
    lines.append(f"  {click.style('help', fg='cyan', bold=True)}: {issues}")
    click.echo("\n".join(lines), err=True)
    if as_json:
        json_line({"ok": False, "internal_error": message, "log": None if log is None else str(log)})


def python_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None
) -> None:
    """Python's warnings in our form: those that the user's own code raises, not those of installed libraries."""
    if "site-packages" in filename or filename.startswith((sys.prefix, sys.base_prefix, str(Path(__file__).parents[1]))):
        return
    warn(f"{str(message).splitlines()[0] if str(message) else category.__name__}\n  --> {filename}:{lineno}")


__all__ = [
    "diagnostic", "diagnostic_json", "diagnostics", "internal_error", "interrupted", "json_line", "python_warning", "say", "usage_error",
    "warn",
]  # fmt: skip

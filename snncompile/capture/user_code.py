"""The user's own code: importing it, and naming its lines when it fails."""

from __future__ import annotations

import contextlib
import inspect
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from snncompile.errors import Location


@contextlib.contextmanager
def importable(*folders: Path | None) -> Iterator[None]:
    """Folders at the front of the import path while the user's code is imported and called."""
    before = list(sys.path)
    sys.path[:0] = [str(f) for f in folders if f is not None]
    try:
        yield
    finally:
        sys.path[:] = before


def blame(error: BaseException) -> Location | None:
    """The innermost line of the user's own code that an exception passed through."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return Location(shown(error.filename), error.lineno)
    ours = (str(Path(__file__).parents[1]), "<", sys.prefix, sys.base_prefix)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(ours) and "site-packages" not in f.filename]
    if not frames:
        return None
    last = frames[-1]
    return Location(shown(last.filename), last.lineno or 0, "" if last.name == "<module>" else last.name)


def defined(thing: object) -> Location | None:
    """Where a function or class is defined."""
    with contextlib.suppress(TypeError, OSError):
        file, (_, line) = inspect.getsourcefile(cast("Any", thing)), inspect.getsourcelines(cast("Any", thing))
        return Location(shown(file), max(line, 1)) if file else None
    return None


def shown(file: str) -> str:
    """A path relative to the working folder where it lies inside."""
    with contextlib.suppress(ValueError, OSError):
        return str(Path(file).resolve().relative_to(Path.cwd()))
    return file


def kind_of(value: object) -> str:
    """``a dict``, ``an int``, ``None``."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its kind."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


__all__ = ["blame", "defined", "first_line", "importable", "kind_of", "shown"]

"""Choose the interpreter that runs Lava: the user's choice, this one, or an environment provisioned with uv."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from snncompile.backends.lava.provision import LAVA, guest_folder, provision, provisioned, unavailable, uv_binary
from snncompile.backends.lava.pythons import PYTHON, About, ask, pythons
from snncompile.errors import fail

VARIABLE = "SNNCOMPILE_LAVA_PYTHON"


@dataclass(frozen=True, slots=True)
class LavaInterpreter:
    """A Python that imports lava-nc 0.10.0; versions as ``3.10.13``, ``found`` says in words how it was chosen."""

    path: Path
    python: str
    lava: str
    numpy: str
    found: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """One place where an interpreter was looked for; ``status`` is usable, base (a Python 3.10 to build on), broken or absent."""

    source: str
    path: Path | None
    status: str
    detail: str


def find_interpreter(progress: Callable[[str], None] | None = None) -> LavaInterpreter:
    """Return the guest interpreter, provisioning it with uv on first use (3 to 5 s with network).

    Order   SNNCOMPILE_LAVA_PYTHON; the current interpreter if it has lava; an environment of our own, built once
    Errors  SNN501 SNNCOMPILE_LAVA_PYTHON does not work; SNN502 nothing found and nothing could be provisioned;
            SNN509 this operating system cannot run Lava
    """
    if os.name != "posix":
        raise fail("SNN509", "Lava's simulator runs on Linux and macOS only", help="run in WSL or a container")
    if os.environ.get(VARIABLE):
        about = _check_chosen()
        return _interpreter(about, VARIABLE)
    if importlib.util.find_spec("lava") is not None:
        own = ask(Path(sys.executable), lava=True)
        if isinstance(own, About) and not _trouble(own):
            return _interpreter(own, "the current interpreter")
    return _interpreter(provision(progress or (lambda _: None)), f"environment prepared by uv in {guest_folder()}")


def probe() -> list[Candidate]:
    """Return every place that would be tried, in order, with its state; changes and downloads nothing."""
    found = [_probe_chosen(), _probe_current(), _probe_provisioned()]
    found += [Candidate(where, about.executable, "base", f"Python {about.python}") for about, where in pythons()]
    uv = uv_binary()
    found.append(Candidate("uv", uv, "base" if uv else "absent", f"can download Python {PYTHON}" if uv else "pip install uv"))
    return found


def _interpreter(about: About, found: str) -> LavaInterpreter:
    return LavaInterpreter(about.executable, about.python, about.lava, about.numpy, found)


def _trouble(about: About | str) -> str:
    """Say why this interpreter cannot be the guest, or return an empty string."""
    if isinstance(about, str):
        return about
    if about.error and not about.lava:
        return f"Python {about.python} has no lava-nc"
    if about.error:
        return f"lava-nc {about.lava} does not import on Python {about.python}: {about.error}"
    return "" if about.lava == LAVA else f"has lava-nc {about.lava}, the runner is verified with {LAVA} only"


def _check_chosen() -> About:
    path = Path(os.environ[VARIABLE]).expanduser().absolute()
    about = ask(path, lava=True)
    if trouble := _trouble(about):
        raise fail(
            "SNN501",
            f"{VARIABLE} cannot run Lava: {trouble}",
            notes=[f"{VARIABLE} is {path}"],
            help=f"unset {VARIABLE} to let uv prepare an environment, or point it at a Python {PYTHON} with lava-nc=={LAVA} and 'numpy<2'",
        )
    assert isinstance(about, About)
    return about


def _probe_chosen() -> Candidate:
    chosen = os.environ.get(VARIABLE)
    if not chosen:
        return Candidate(VARIABLE, None, "absent", "not set")
    return _candidate(VARIABLE, Path(chosen).expanduser().absolute())


def _probe_current() -> Candidate:
    source = "the current interpreter"
    if importlib.util.find_spec("lava") is None:
        return Candidate(source, Path(sys.executable), "absent", f"Python {sys.version.split()[0]} has no lava-nc")
    return _candidate(source, Path(sys.executable))


def _probe_provisioned() -> Candidate:
    source, done = "environment prepared by uv", provisioned()
    if done is None:
        return Candidate(source, guest_folder(), "absent", "not built yet; built on first use")
    return _candidate(source, done.executable)


def _candidate(source: str, path: Path) -> Candidate:
    about = ask(path, lava=True)
    trouble = _trouble(about)
    if trouble or isinstance(about, str):
        return Candidate(source, path, "broken", trouble)
    return Candidate(source, path, "usable", f"Python {about.python}, lava-nc {about.lava}, numpy {about.numpy}")


__all__ = ["Candidate", "LavaInterpreter", "find_interpreter", "probe", "unavailable"]

"""``doctor``: what works on this machine, and what to do about what does not."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

import snncompile
from snncompile.backends.lava.interpreter import Candidate, probe
from snncompile.backends.lava.provision import LAVA, cache_folder, uv_binary
from snncompile.backends.lava.pythons import PYTHON
from snncompile.cli import show
from snncompile.report.summary import put, table

STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: state is ok, note or problem."""

    name: str
    state: str
    detail: str
    advice: str = ""


def doctor(*, as_json: bool) -> int:
    """Run the command; the exit status: 1 if something that a compile needs is broken."""
    candidates = probe()
    found = [_python(), *_packages(), _uv(), _cache(), _lava(candidates)]
    ok = all(f.state != "problem" for f in found)
    if as_json:
        rows = [
            {"source": c.source, "path": None if c.path is None else str(c.path), "status": c.status, "detail": c.detail}
            for c in candidates
        ]
        show.json_line({"ok": ok, "version": snncompile.__version__, "findings": [vars(f) for f in found], "lava_interpreters": rows})
        return 0 if ok else 1
    made = table(("", "left"), ("what", "left"))
    made.add_column("found", overflow="fold")
    for f in found:
        made.add_row(Text(f.state, style=STYLES[f.state]), f.name, Text(f.detail))
    put(made)
    put("\nLava interpreters, in the order in which they are tried:")
    places = table(("state", "left"), ("where", "left"))
    places.add_column("what", overflow="fold")
    for c in candidates:
        places.add_row(c.status, c.source, Text(f"{c.detail}{f'  {c.path}' if c.path else ''}"))
    put(places)
    for f in found:
        if f.advice:
            put(f"\n{f.name}: {f.advice}")
    return 0 if ok else 1


def _python() -> Finding:
    fits = (3, 10) <= sys.version_info[:2] <= (3, 13)
    advice = "" if fits else "use Python 3.10 to 3.13, for example: uv run --python 3.12 snncompile doctor"
    return Finding(
        "python", "ok" if fits else "problem", f"{platform.python_version()} on {platform.platform(terse=True)}, {sys.executable}", advice
    )


def _packages() -> list[Finding]:
    rows = []
    for name in ("torch", "numpy"):
        try:
            rows.append(Finding(name, "ok", importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            rows.append(Finding(name, "problem", "not installed", f"install it: uv pip install {name}"))
    return rows


def _uv() -> Finding:
    uv = uv_binary()
    if uv is None:
        return Finding("uv", "note", "not found", "python3 -m pip install uv; it prepares Lava's environment")
    return Finding("uv", "ok", str(uv))


def _cache() -> Finding:
    folder = cache_folder()
    nearest: Path = next(p for p in (folder, *folder.parents) if p.exists())
    if os.access(nearest, os.W_OK):
        return Finding("cache folder", "ok", f"{folder}{'' if folder.exists() else ' (made on first use)'}")
    return Finding("cache folder", "problem", f"{folder} cannot be written", "set SNNCOMPILE_CACHE to a folder that can")


def _lava(candidates: list[Candidate]) -> Finding:
    if os.name != "posix":
        return Finding(
            "lava", "problem", "Lava's simulator runs on Linux and macOS only", "run in WSL or a container, or export with --no-lava"
        )
    chosen = candidates[0]
    if chosen.status == "broken":
        return Finding(
            "lava",
            "problem",
            f"{chosen.source} does not work: {chosen.detail}",
            f"unset {chosen.source}, or point it at another Python {PYTHON}",
        )
    usable = next((c for c in candidates if c.status == "usable"), None)
    if usable is not None:
        return Finding("lava", "ok", f"{usable.detail} ({usable.source})")
    if uv_binary() is not None:
        return Finding("lava", "note", f"prepared by uv on first use (seconds; needs the network once): lava-nc {LAVA} on Python {PYTHON}")
    advice = f"python3 -m pip install uv, or set SNNCOMPILE_LAVA_PYTHON to a Python {PYTHON} with lava-nc=={LAVA} and 'numpy<2'"
    return Finding("lava", "problem", "no interpreter that runs Lava, and no uv to prepare one", advice)


__all__ = ["doctor"]

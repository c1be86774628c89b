"""Targets by name, from the wheel's data folder or a checkout's ``targets/``."""

from __future__ import annotations

import difflib
from pathlib import Path

from snncompile.errors import fail
from snncompile.target.description import Quantity, Target, read_target

_PACKAGED = Path(__file__).parent / "data"
_CHECKOUT = Path(__file__).parents[2] / "targets"


def _files() -> dict[str, Path]:
    folder = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def list_targets() -> tuple[str, ...]:
    """Names of the targets that come with the compiler."""
    return tuple(_files())


def load_target(name: str) -> Target:
    """A target by name, or by the path of a ``.toml`` file of your own; raises CompileError SNN401 or SNN402."""
    files = _files()
    if name in files:
        return read_target(files[name], f"targets/{name}.toml")
    if name.endswith(".toml") and Path(name).is_file():
        return read_target(Path(name), name)
    near = difflib.get_close_matches(name, files, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else "name one of them, or the path of a target file"
    raise fail("SNN401", f"there is no target '{name}'", notes=[f"targets are: {', '.join(files)}"], help=hint)


__all__ = ["Quantity", "Target", "list_targets", "load_target", "read_target"]

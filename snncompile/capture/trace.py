"""The flat record of a run: every ATen operation with its arguments, the user's line and the module that ran it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from snncompile.errors import Location

OWN = str(Path(__file__).parents[1])
TORCH = str(Path(torch.__file__).parent) + "/"


@dataclass(frozen=True)
class Ref:
    """A reference to another node's value."""

    name: str


@dataclass(eq=False)
class Raw:
    """One executed operation. ``args`` hold ``Ref``, tensors (constants) and plain values; ``step`` is the model step."""

    name: str
    op: str
    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    loc: Location | None = None
    module: str = ""
    shape: tuple[int, ...] = ()

    @property
    def refs(self) -> list[str]:
        """Names of the nodes that this one reads."""
        return [r.name for r in walk((self.args, tuple(self.kwargs.values()))) if isinstance(r, Ref)]


@dataclass
class Trace:
    """The flat record of a run: nodes by name in execution order, names of the inputs and of the outputs of every call.

    ``per_step`` says whether the model was called once per step, so that ``Raw.step`` is known; else there is one call, with a
    time axis in its inputs and outputs. ``reduced`` says for each output whether the network returns its ``mean`` or ``sum`` over time.
    ``answers`` are the outputs of every call in the run that was recorded.
    """

    nodes: dict[str, Raw]
    inputs: list[tuple[str, ...]]
    outputs: list[list[str]]
    per_step: bool
    reduced: tuple[str, ...] = ()
    answers: list[list[torch.Tensor]] = field(default_factory=list)


def walk(value: object) -> Iterator[object]:
    """All leaves of nested tuples, lists and dicts."""
    if isinstance(value, (tuple, list)):
        for v in value:
            yield from walk(v)
    elif isinstance(value, dict):
        yield from walk(list(value.values()))
    else:
        yield value


def replace_leaves(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply ``function`` to all leaves of nested tuples and lists."""
    if isinstance(value, (tuple, list)):
        return (
            type(value)(replace_leaves(v, function) for v in value)
            if type(value) in (tuple, list)
            else [replace_leaves(v, function) for v in value]
        )
    return function(value)


def innermost(frames: list[tuple[str, int, str]]) -> Location | None:
    """The innermost frame of the user's own code; else of a library other than torch."""
    foreign = [f for f in frames if not f[0].startswith(OWN + "/") or f"{OWN}/online/" in f[0]]
    foreign = [f for f in foreign if not f[0].startswith(TORCH) and not f[0].startswith("<") and "/numpy/" not in f[0]]
    own = [f for f in foreign if "site-packages" not in f[0] and "/lib/python3" not in f[0]]
    chosen = own or [f for f in foreign if "site-packages" in f[0]]
    if not chosen:
        return None
    file, line, function = chosen[-1]
    return Location(_short(file), line, function)


def _short(file: str) -> str:
    """A path relative to the working folder where it lies inside; a library's path from its package on."""
    return _relative(file, Path.cwd())


@lru_cache(maxsize=4096)
def _relative(file: str, folder: Path) -> str:
    path = Path(file)
    if "site-packages" in path.parts:
        return str(Path(*path.parts[path.parts.index("site-packages") + 1 :]))
    try:
        return str(path.resolve().relative_to(folder))
    except ValueError:
        return path.name if OWN not in file else str(Path("snncompile") / path.relative_to(OWN))

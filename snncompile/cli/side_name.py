"""How a side of ``diff`` is written: ``FILE[@DIALECT][:STAGE]``."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

EXECUTORS = ("hops", "lava", "onnx")
STAGES = ("pytorch", "captured", "folded", "integer", *EXECUTORS)


@dataclass(frozen=True)
class SideName:
    """A file (None: what --arch makes), the dialect of a NIR file, the stage; the last two only if they were written."""

    path: Path | None
    dialect: str | None
    stage: str | None

    @property
    def file(self) -> str:
        """The file in words."""
        return f"{'model' if self.path is None else self.path}{f'@{self.dialect}' if self.dialect else ''}"


if TYPE_CHECKING:  # generic for the type checker alone: click before 8.4 has no parameters there
    SideType = click.ParamType[SideName]
else:
    SideType = click.ParamType


class SideParameter(SideType):
    """``model.pt:folded``, ``net.snn:lava``, ``net.nir@sinabs``, ``:captured``."""

    name = "FILE[@DIALECT][:STAGE]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> SideName:
        """Taken apart from the right, so that a file's name may hold a colon."""
        if isinstance(value, SideName):
            return value
        text, stage = str(value), None
        if not Path(text).exists():
            head, colon, tail = text.rpartition(":")
            if colon and tail in STAGES:
                text, stage = head, tail
            elif colon and "/" not in tail and "." not in tail:
                near = difflib.get_close_matches(tail, STAGES, n=1)
                hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(STAGES)}"
                self.fail(f"'{value}' names no stage: there is no '{tail}'; {hint}", param, ctx)
        dialect = None
        file, at, tool = text.rpartition("@")
        if at and file.endswith(".nir"):
            text, dialect = file, tool
        return SideName(Path(text) if text else None, dialect, stage)


__all__ = ["EXECUTORS", "STAGES", "SideName", "SideParameter"]

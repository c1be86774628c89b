"""What the operating system processes of one run tell each other: steps done, first failure."""

from __future__ import annotations

import json
import mmap
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from .plan import InputError, PlanError, RangeViolation
from .reporter import error_event

KINDS = {PlanError: "plan", InputError: "input", RangeViolation: "range"}


class Board:
    """Shared memory of the runner and its forked children: one counter per population, and a flag raised by the first failure."""

    def __init__(self, names: list[str], scratch: Path) -> None:
        self.names, self.scratch = names, scratch
        self._memory = mmap.mmap(-1, 8 * (len(names) + 1))  # anonymous and shared: forked children see it, nothing to clean up
        self._cells = np.frombuffer(self._memory, np.int64)

    def advance(self, k: int) -> None:
        """Population ``k`` has finished one more hardware step."""
        self._cells[k] += 1

    @property
    def done(self) -> int:
        """Hardware steps that every population has finished."""
        return int(self._cells[:-1].min())

    @property
    def failed(self) -> bool:
        """True once any population has failed."""
        return bool(self._cells[-1])

    def fail(self, k: int, error: Exception, where: str) -> None:
        """Store the traceback of the exception being handled and raise the flag."""
        kind = KINDS.get(type(error), "exception")
        message = f"{where}: {error}" if type(error) in KINDS else f"{where}: {type(error).__name__}: {error}"
        report = error_event(kind, message, population=self.names[k], traceback=traceback.format_exc())
        path = self.scratch / f"error-{k}.json"
        path.with_suffix(".tmp").write_text(json.dumps(report), encoding="utf-8")
        path.with_suffix(".tmp").replace(path)  # atomic: the runner reads it at any time
        self._cells[-1] = 1

    def errors(self) -> list[dict[str, Any]]:
        """All stored failures."""
        return [json.loads(p.read_text(encoding="utf-8")) for p in sorted(self.scratch.glob("error-*.json"))]

"""The learning part of a plan: added to ``plan.json``, read back from what the guest wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snncompile.errors import fail
from snncompile.learning.program import LearningProgram


@dataclass(frozen=True, eq=False)
class LavaLearned:
    """What a stream taught on Lava: weights (N + 1, post, pre), a CRC-32 of them per hardware step, errors sent (N, T, post)."""

    weights: npt.NDArray[np.int16]
    checks: npt.NDArray[np.uint32]
    errors: npt.NDArray[np.int16]


def add_learning(folder: Path, program: LearningProgram) -> None:
    """Write ``program`` into the plan in ``folder``; the runner reads rule, error population, rest and the plastic port's names."""
    path = folder / "plan.json"
    plan = json.loads(path.read_text(encoding="utf-8"))
    row: dict[str, Any] = program.to_json()
    plan["learning"] = {k: row[k] for k in ("population", "source", "rest", "rule", "error")}
    path.write_text(json.dumps(plan, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_learned(out: Path) -> LavaLearned:
    """The files of a run with targets; SNN507 where they cannot be read."""
    try:
        found = {k: np.load(out / f"learning.{k}.npy", allow_pickle=False) for k in ("weights", "checks", "errors")}
    except (OSError, ValueError) as error:
        raise fail("SNN507", f"the Lava guest left no readable record of what it learned: {error}", help="run again") from error
    return LavaLearned(**found)


__all__ = ["LavaLearned", "add_learning", "read_learned"]

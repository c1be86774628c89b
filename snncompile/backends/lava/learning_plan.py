"""The learning part of a plan: added to ``plan.json``, read back from what the guest wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snncompile.errors import fail
from snncompile.learning.program import LearningProgram

CHANGE = 1
"""The port of a population at which the synapse that learns arrives, behind the one with the trained weights."""


@dataclass(frozen=True, eq=False)
class LavaLayer:
    """What one layer learned on Lava: weights (K, post, pre), a CRC-32 of them per hardware step, third factors sent (N, T, post)."""

    weights: npt.NDArray[np.int16]
    checks: npt.NDArray[np.uint32]
    sent: npt.NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class LavaLearned:
    """What a stream taught on Lava: after how many samples weights were kept (K,), and the layers by population."""

    at: tuple[int, ...]
    layers: Mapping[str, LavaLayer]


def add_learning(folder: Path, program: LearningProgram) -> None:
    """Write ``program`` into the plan in ``folder``: rules, populations that send third factors, rest, and the plastic ports' names."""
    path = folder / "plan.json"
    plan = json.loads(path.read_text(encoding="utf-8"))
    row: dict[str, Any] = program.to_json()
    layers = [{k: x[k] for k in ("population", "source", "rule", "lag", "modulator")} | {"port": CHANGE} for x in row["layers"]]
    plan["learning"] = {k: row[k] for k in ("readout", "rest", "error")} | {"layers": layers}
    path.write_text(json.dumps(plan, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def plastic_populations(folder: Path) -> tuple[str, ...]:
    """The populations of a plan whose synapses learn; none for one that is damaged, which the guest will say."""
    try:
        plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        return tuple(str(x["population"]) for x in plan["learning"]["layers"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def read_learned(out: Path, populations: Iterable[str]) -> LavaLearned:
    """The files of a run with targets; SNN507 where they cannot be read."""

    def read(name: str) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = np.load(out / f"learning.{name}.npy", allow_pickle=False)
        return found

    try:
        layers = {p: LavaLayer(**{k: read(f"{p}.{k}") for k in ("weights", "checks", "sent")}) for p in populations}
        return LavaLearned(tuple(int(n) for n in read("at")), layers)
    except (OSError, ValueError) as error:
        raise fail("SNN507", f"the Lava guest left no readable record of what it learned: {error}", help="run again") from error


__all__ = ["LavaLayer", "LavaLearned", "add_learning", "plastic_populations", "read_learned"]

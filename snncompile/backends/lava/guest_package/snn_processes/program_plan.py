"""The part of a plan that describes a neuron program; what its instructions mean is written down in ``program.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

KINDS = {
    "add": 2, "sub": 2, "mul": 2, "neg": 1, "abs": 1, "min": 2, "max": 2, "ge": 2, "gt": 2, "select": 3, "copy": 1, "table": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One instruction."""

    target: str
    op: str
    args: tuple[str, ...]
    lefts: tuple[int, ...]
    right: int
    saturates: bool
    table: int


@dataclass(frozen=True)
class Table:
    """A function on ``low .. low + ((values.size - 1) << shift)``."""

    values: np.ndarray
    low: int
    shift: int


@dataclass(frozen=True)
class Program:
    """The program of a population; gains, biases and constants have a leading axis of T or 1."""

    gains: tuple[np.ndarray, ...]
    shifts: tuple[int, ...]
    biases: tuple[np.ndarray, ...]
    constants: tuple[np.ndarray, ...]
    initial: tuple[np.ndarray, ...]
    tables: tuple[Table, ...]
    steps: tuple[Step, ...]
    payload: str
    payload_shift: int
    payload_min: int
    payload_max: int
    membrane: str
    following: tuple[str, ...]


def read_program(row: dict[str, Any], tensor: Any, require: Any) -> Program:
    """The program of a plan's row; ``tensor`` reads an array by its file name, ``require`` refuses with a message."""
    steps = tuple(
        Step(str(s["target"]), str(s["op"]), tuple(s["args"]), tuple(map(int, s["lefts"])), int(s["right"]), bool(s["saturates"]),
             int(s["table"])) for s in row["code"]
    )  # fmt: skip
    tables = tuple(Table(tensor(t["values"]).astype(np.int64), int(t["low"]), int(t["shift"])) for t in row["tables"])
    arrays = {key: tuple(tensor(name).astype(np.int64) for name in row[key]) for key in ("gains", "biases", "constants", "initial")}
    known = {f"{letter}{k}" for letter, key in (("i", "gains"), ("z", "initial"), ("c", "constants")) for k in range(len(arrays[key]))}
    for made in steps:
        require(KINDS.get(made.op) == len(made.args) == len(made.lefts), f"'{made.op}' with {len(made.args)} arguments is no instruction")
        require(known.issuperset(made.args), f"'{made.target} = {made.op}' reads a register that nothing has written")
        require(made.op != "table" or 0 <= made.table < len(tables), f"'{made.target}' reads a table that is not there")
        require(all(0 <= k <= 62 for k in (*made.lefts, made.right)), f"'{made.target}' shifts by more than 62 bits")
        known.add(made.target)
    following = tuple(map(str, row["following"]))
    require(known.issuperset((*following, row["payload"], row["membrane"])), "a program's payload, membrane or state is no register")
    require(len(following) == len(arrays["initial"]), "a program has as many new states as initial ones")
    require(
        len(arrays["gains"]) == len(arrays["biases"]) == len(row["shifts"]), "a program has a gain, a shift and a bias for each current"
    )
    require(all(t.values.ndim == 1 and t.values.size >= 2 and 0 <= t.shift <= 40 for t in tables), "a table has at least two values")
    return Program(
        gains=arrays["gains"], shifts=tuple(map(int, row["shifts"])), biases=arrays["biases"], constants=arrays["constants"],
        initial=arrays["initial"], tables=tables, steps=steps, payload=str(row["payload"]), payload_shift=int(row["payload_shift"]),
        payload_min=int(row["payload_min"]), payload_max=int(row["payload_max"]), membrane=str(row["membrane"]), following=following,
    )  # fmt: skip

"""Synapses that learn: their part of the plan, their data, and what is written down about them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .plan import InputError, Plan, PlanError


@dataclass(frozen=True)
class Layer:
    """A plastic port of a population: the rule in Lava's words, and the modulator population that feeds it (None: the error population)."""

    population: str
    port: int
    source: str
    dw: str
    x1_impulse: float
    x1_tau: float
    epoch: int
    seed: int
    lag: int
    modulator: dict[str, Any] | None


@dataclass(frozen=True)
class Learning:
    """The learning part of a plan: plastic layers, the readout with its error population, idle model steps between samples."""

    layers: tuple[Layer, ...]
    readout: str
    rest: int
    error: dict[str, Any]

    def taught(self, plan: Plan, sample: int) -> int:
        """Hardware step from which on everything that ``sample`` teaches is in force."""
        depths = dict.fromkeys(plan.inputs, 0) | {p.name: p.depth for p in plan.populations}
        last = max(depths[x.source] + x.lag for x in self.layers)
        return int(plan.interval * (sample * (plan.steps + self.rest) + plan.steps - 1) + last + 1)

    @property
    def feedback(self) -> bool:
        """Whether a hidden layer hears the readout's error."""
        return any(x.modulator is not None and x.modulator["kind"] == "feedback" for x in self.layers)

    @property
    def error_needed(self) -> bool:
        """Whether anything hears the error population."""
        return self.feedback or any(x.modulator is None for x in self.layers)

    @property
    def workers(self) -> list[str]:
        """Names of all processes that learning adds to the board."""
        names = [f"plastic synapse of {x.population}" for x in self.layers]
        names += [f"modulators of {x.population}" for x in self.layers if x.modulator is not None]
        return names + (["error population"] if self.error_needed else [])

    def layer(self, population: str) -> Layer | None:
        """The plastic layer that feeds ``population``."""
        return next((x for x in self.layers if x.population == population), None)


def load_learning(raw: dict[str, Any], plan: Plan) -> Learning:
    """Read ``plan["learning"]``; raise PlanError where the plan has none or it does not fit."""
    try:
        row = raw["learning"]
        error = {k: v if k == "loss" else int(v) for k, v in row["error"].items()}
        if error["loss"] not in ("softmax", "mse", "mean") or error["delay"] < 1:
            raise ValueError("loss or delay")
        readout = next(p.name for p in plan.populations if p.name == row["readout"])
        return Learning(tuple(_layer(x, plan) for x in row["layers"]), readout, int(row["rest"]), error)
    except (KeyError, TypeError, ValueError, StopIteration) as problem:
        raise PlanError(f"the plan's 'learning' is not understood: {type(problem).__name__}: {problem}") from problem


def _layer(row: dict[str, Any], plan: Plan) -> Layer:
    rule = row["rule"]
    population = next(p for p in plan.populations if p.name == row["population"])
    port = int(row["port"])
    if population.ports[port].source != row["source"] or population.ports[port].exponent < 1:
        raise ValueError("port or exponent")
    if (row["modulator"] or {"kind": "local"})["kind"] not in ("feedback", "local"):
        raise ValueError("modulator")
    return Layer(
        population=population.name, port=port, source=row["source"], dw=str(rule["dw_lava"]), x1_impulse=float(rule["x1"]["impulse"]),
        x1_tau=float(rule["x1"]["tau"]), epoch=int(rule["epoch"]), seed=int(rule["seed"]), lag=int(row["lag"]), modulator=row["modulator"],
    )  # fmt: skip


def load_activity(folder: Path, learning: Learning, plan: Plan, samples: int) -> dict[str, np.ndarray]:
    """``activity.<population>.npy`` (samples, neurons), 0..255, for every layer that learns from a teacher."""
    found = {}
    for layer in learning.layers:
        if layer.modulator is None or layer.modulator["kind"] != "local":
            continue
        size = next(p.size for p in plan.populations if p.name == layer.population)
        path = folder / f"activity.{layer.population}.npy"
        try:
            values: np.ndarray = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"cannot read {path.name}: {error}") from error
        if values.dtype.kind not in "iu" or values.shape != (samples, size) or int(values.min()) < 0 or int(values.max()) > 255:
            raise InputError(f"{path.name} must hold {samples} x {size} integers in 0..255")
        found[layer.population] = values.astype(np.int32)
    return found


def load_targets(path: Path, samples: int, classes: int) -> np.ndarray:
    """Class of every sample, negative for none."""
    try:
        targets: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read targets {path.name}: {error}") from error
    if targets.dtype.kind not in "iu" or targets.shape != (samples,) or int(targets.max()) >= classes:
        raise InputError(f"targets must be {samples} integers below {classes}, negative for none")
    return targets.astype(np.int64)


KEEP_BYTES = 2**28


def kept(plan: Plan, learning: Learning, samples: int) -> list[int]:
    """After how many samples weights are written down: after each, or 8 times where that would be too much."""
    size = 0
    for x in learning.layers:
        population = next(p for p in plan.populations if p.name == x.population)
        size += population.ports[x.port].weight.size
    if 2 * size * (samples + 1) <= KEEP_BYTES:
        return list(range(samples + 1))
    return sorted({0, *(max(1, round(samples * k / 8)) for k in range(1, 9))})


class Recorder:
    """Writes what a stream teaches one layer: weights after samples, a check sum of the weights in every hardware step."""

    def __init__(self, out: Path, name: str, rows: dict[int, int]) -> None:
        self.out, self.name, self.rows = out, name, rows
        self.weights: np.ndarray | None = None
        self.last: tuple[bytes, int] = (b"", 0)

    def record(self, h: int, weights: np.ndarray) -> None:
        """Note the weights in force in hardware step ``h``; ``rows`` says in which rows they are kept."""
        if self.weights is None:
            self.weights = np.load(self.out / f"learning.{self.name}.weights.npy", mmap_mode="r+", allow_pickle=False)
            self.checks = np.load(self.out / f"learning.{self.name}.checks.npy", mmap_mode="r+", allow_pickle=False)
            self.weights[0] = weights
        if h >= len(self.checks):
            return
        raw = weights.astype("<i2").tobytes()
        if raw != self.last[0]:
            self.last = (raw, zlib.crc32(raw))
        self.checks[h] = self.last[1]
        if h in self.rows:
            self.weights[self.rows[h]] = weights


def prepare(out: Path, plan: Plan, learning: Learning, samples: int) -> None:
    """Create the files of all recorders, and say after how many samples weights are kept."""
    at, hardware_steps = kept(plan, learning, samples), learning.taught(plan, samples - 1) + 1
    np.save(out / "learning.at.npy", np.array(at))
    for x in learning.layers:
        population = next(p for p in plan.populations if p.name == x.population)
        shape = population.ports[x.port].weight.shape
        files = {
            "weights": (np.int16, (len(at), *shape)),
            "checks": (np.uint32, (hardware_steps,)),
            "sent": (np.int16, (samples, plan.steps, shape[0])),
        }
        for kind, (dtype, size) in files.items():
            np.lib.format.open_memmap(out / f"learning.{x.population}.{kind}.npy", mode="w+", dtype=dtype, shape=size).flush()


def recorder(out: Path, plan: Plan, learning: Learning, layer: Layer, samples: int) -> Recorder:
    """The recorder of one layer."""
    rows = {learning.taught(plan, n - 1): row for row, n in enumerate(kept(plan, learning, samples)) if n}
    return Recorder(out, layer.population, rows)

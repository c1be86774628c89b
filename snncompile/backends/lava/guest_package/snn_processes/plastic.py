"""A synapse that learns: its part of the plan, and the error population's arithmetic.

softmax   o = ((max(z) - z) * multiplier) >> shift;   e = table[o & 63] >> (o >> 6), 0 from 15 octaves on
          k = floor(((e - onehot * sum(e)) * levels + r / 2**16 * sum(e)) / sum(e))
mse       k = floor((z * multiplier - onehot * one + r / 2**16 * 2**shift) / 2**shift)
clipped to -levels..levels;  r is 16 bits of a xorshift generator per neuron, advanced at every model step
sent      2 * max(k, 0) on one port, 2 * max(-k, 0) on the other
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .plan import InputError, Plan, PlanError

TABLE = [round(32768 * 2 ** (-k / 64)) for k in range(64)]
WORD = 0xFFFFFFFF


@dataclass(frozen=True)
class Learning:
    """The learning part of a plan: which port of which population is plastic, the rule in Lava's words, the error population."""

    population: str
    port: int
    source: str
    dw: str
    x1_impulse: float
    x1_tau: float
    epoch: int
    seed: int
    rest: int
    error: dict[str, Any]

    def taught(self, plan: Plan, sample: int) -> int:
        """Hardware step from which on everything that ``sample`` teaches is in force."""
        depth = next(p.depth for p in plan.populations if p.name == self.population)
        return int(plan.interval * (sample * (plan.steps + self.rest) + plan.steps - 1) + depth + self.error["delay"] + 1)


def load_learning(raw: dict[str, Any], plan: Plan) -> Learning:
    """Read ``plan["learning"]``; raise PlanError where the plan has none or it does not fit."""
    row = raw.get("learning")
    if row is None:
        raise PlanError("this program does not learn: the plan has no 'learning'")
    try:
        rule, error = row["rule"], {k: v if k == "loss" else int(v) for k, v in row["error"].items()}
        population = next(p for p in plan.populations if p.name == row["population"])
        port = next(k for k, p in enumerate(population.ports) if p.source == row["source"])
        if error["loss"] not in ("softmax", "mse") or error["delay"] < 1 or population.ports[port].exponent < 1:
            raise ValueError("loss, delay or exponent")
        return Learning(
            population=population.name, port=port, source=row["source"], dw=str(rule["dw_lava"]), x1_impulse=float(rule["x1"]["impulse"]),
            x1_tau=float(rule["x1"]["tau"]), epoch=int(rule["epoch"]), seed=int(rule["seed"]), rest=int(row["rest"]), error=error,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, StopIteration) as problem:
        raise PlanError(f"the plan's 'learning' is not understood: {type(problem).__name__}: {problem}") from problem


def load_targets(path: Path, samples: int, classes: int) -> np.ndarray:
    """Class of every sample, negative for none."""
    try:
        targets: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read targets {path.name}: {error}") from error
    if targets.dtype.kind not in "iu" or targets.shape != (samples,) or int(targets.max()) >= classes:
        raise InputError(f"targets must be {samples} integers below {classes}, negative for none")
    return targets.astype(np.int64)


class ErrorRule:
    """State of the error population: one generator a neuron."""

    def __init__(self, error: dict[str, Any], neurons: int) -> None:
        self.error, self.words = error, [self.first(error["seed"], i) for i in range(neurons)]

    @staticmethod
    def first(seed: int, index: int) -> int:
        """Start value of the generator of neuron ``index``."""
        word = ((index + 1) * 0x9E3779B1 + seed * 0x85EBCA6B) & WORD
        return ((word ^ (word >> 15)) * 0x2C1B3C6D & WORD) | 1

    def step(self, z: np.ndarray, label: int) -> np.ndarray:
        """Signed payloads for the readout's payloads ``z``; ``label`` below 0 is no target."""
        p = self.error
        randoms = [self.draw(i) for i in range(len(self.words))]
        if label < 0:
            return np.zeros(len(self.words), np.int32)
        values, top = [int(v) for v in z], max(int(v) for v in z)
        found = []
        if p["loss"] == "softmax":
            parts = []
            for v in values:
                octave = ((top - v) * p["multiplier"]) >> p["shift"]
                parts.append(0 if octave >= 15 * 64 else TABLE[octave % 64] >> (octave // 64))
            total = sum(parts)
            for i, (part, r) in enumerate(zip(parts, randoms)):  # noqa: B905 - Python's own lists of one length
                found.append((((part - (total if i == label else 0)) * p["levels"] << 16) + r * total) // (total << 16))
        else:
            for i, (v, r) in enumerate(zip(values, randoms)):  # noqa: B905
                dither = (r << p["shift"]) >> 16
                found.append((v * p["multiplier"] - (p["one"] if i == label else 0) + dither) >> p["shift"])
        return np.array([min(max(k, -p["levels"]), p["levels"]) for k in found], np.int32)

    def draw(self, i: int) -> int:
        """Next 16 bits of neuron ``i``."""
        x = self.words[i]
        x = (x ^ (x << 13)) & WORD
        x ^= x >> 17
        x = (x ^ (x << 5)) & WORD
        self.words[i] = x
        return x >> 16


class Recorder:
    """Writes what a stream teaches: weights after every sample, a check sum of the weights in every hardware step, errors sent."""

    def __init__(self, out: Path, taught: list[int]) -> None:
        self.out, self.taught = out, {h: n + 1 for n, h in enumerate(taught)}
        self.weights: np.ndarray | None = None
        self.last: tuple[bytes, int] = (b"", 0)

    @staticmethod
    def prepare(out: Path, *, shape: tuple[int, int], samples: int, steps: int, hardware_steps: int) -> None:
        """Create the files."""
        files = {
            "weights": (np.int16, (samples + 1, *shape)),
            "checks": (np.uint32, (hardware_steps,)),
            "errors": (np.int16, (samples, steps, shape[0])),
        }
        for name, (dtype, size) in files.items():
            np.lib.format.open_memmap(out / f"learning.{name}.npy", mode="w+", dtype=dtype, shape=size).flush()

    def record(self, h: int, weights: np.ndarray) -> None:
        """Note the weights in force in hardware step ``h``."""
        if self.weights is None:
            self.weights = np.load(self.out / "learning.weights.npy", mmap_mode="r+", allow_pickle=False)
            self.checks = np.load(self.out / "learning.checks.npy", mmap_mode="r+", allow_pickle=False)
            self.weights[0] = weights
        if h >= len(self.checks):
            return
        raw = weights.astype("<i2").tobytes()
        if raw != self.last[0]:
            self.last = (raw, zlib.crc32(raw))
        self.checks[h] = self.last[1]
        if h in self.taught:
            self.weights[self.taught[h]] = weights

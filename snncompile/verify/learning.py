"""The learning claims: Lava's weights against the integer engine bit for bit, and the engine against the float rule by size and sense."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snncompile.backends.lava.backend import run_plan
from snncompile.backends.lava.learning_plan import LavaLearned
from snncompile.errors import Diagnostic
from snncompile.ir.graph import Array, Graph
from snncompile.learning.program import LearningProgram
from snncompile.learning.stream import Learned, readout
from snncompile.mapping.schedule import Schedule
from snncompile.verify.readout import Readout, accuracy, decide

CHECKPOINTS = 8
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BitRecord:
    """Lava against the engine: differing bits of weights after every sample, errors and logits; ``first`` says where."""

    samples: int
    steps: int
    differing_bits: int
    compared_bits: int
    seconds: float
    first: str | None

    @property
    def failure(self) -> Diagnostic | None:
        """The failed claim, if it failed."""
        if not self.differing_bits and self.first is None:
            return None
        notes = () if self.first is None else (self.first,)
        return Diagnostic("SNN606", f"Lava learned other weights than the integer engine: {self.differing_bits} bits differ", None, notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRecord:
    """The accumulated update of the chip against the float rule's: correlation, slope of the regression on the float update, over time.

    drift  after each of some numbers of samples: correlation, slope, and the root mean square difference of the weights in chip LSBs
    """

    correlation: float
    slope: float
    drift: tuple[Mapping[str, float], ...]


def compare_lava(
    program: LearningProgram, graph: Graph, schedule: Schedule, plan_folder: Path, payloads: Mapping[str, Array], labels: Array,
    ours: Learned, *, timeout_s: float, progress: Progress | None = None, preparing: Callable[[str], None] | None = None,
) -> BitRecord:  # fmt: skip
    """Run the first ``len(labels)`` samples of a stream on Lava and compare with what the engine learned from them."""
    traces = run_plan(plan_folder, payloads, timeout_s=timeout_s, progress=progress, preparing=preparing, targets=labels)
    lava = traces.learned
    assert lava is not None
    count = len(labels)
    pairs: list[tuple[Array, Array]] = [
        (lava.weights, ours.weights[: count + 1]), (lava.errors, ours.errors[:count]),
        (np.asarray(traces[program.population].payload), ours.logits[:count]),
    ]  # fmt: skip
    differing = sum(_differing(a, b) for a, b in pairs)
    compared = sum(a.size * (16 if a.dtype.itemsize == 2 else 32) for a, _ in pairs)
    return BitRecord(
        samples=count, steps=len(lava.checks), differing_bits=differing, compared_bits=compared, seconds=traces.seconds,
        first=_first(lava, ours, program, schedule),
    )  # fmt: skip


def _differing(a: Array, b: Array) -> int:
    flipped = a.astype(np.int32) ^ b.astype(np.int32)
    return int(np.unpackbits(flipped[flipped != 0].view(np.uint8)).sum())


def _first(lava: LavaLearned, ours: Learned, program: LearningProgram, schedule: Schedule) -> str | None:
    """The first hardware step whose weights differ, and a synapse that does."""
    apart = np.flatnonzero(lava.checks != ours.checks[: len(lava.checks)])
    if not apart.size:
        return None
    h = int(apart[0])
    clock = program.time(schedule)
    sample = next((n for n in range(len(lava.weights) - 1) if clock.done(n) >= h), len(lava.weights) - 2)
    text = f"first difference in hardware step {h}, during sample {sample}"
    at = np.argwhere(lava.weights[sample + 1] != ours.weights[sample + 1])
    if at.size:
        i, j = (int(k) for k in at[0])
        text += (
            f"; after it synapse {j} -> {i} holds {lava.weights[sample + 1, i, j]} on Lava, {ours.weights[sample + 1, i, j]} in the engine"
        )
    return text


def compare_updates(program: LearningProgram, ours: Learned, floated: Array) -> UpdateRecord:
    """``floated`` are the float rule's weights (N + 1, post, pre) of the unfolded layer; compared in the chip's weight LSBs."""
    count = len(floated) - 1
    rows = []
    for n in sorted({max(1, round(count * (k + 1) / CHECKPOINTS)) for k in range(CHECKPOINTS)}):
        chip = (ours.weights[n].astype(np.float64) - ours.weights[0]).ravel()
        wanted = ((floated[n].astype(np.float64) - floated[0]) * (program.gain / program.lsb)).ravel()
        correlation, slope = _regression(wanted, chip)
        rows.append({
            "samples": n, "correlation": correlation, "slope": slope, "rms_update_lsb": float(np.sqrt(np.mean(wanted**2))),
            "rms_difference_lsb": float(np.sqrt(np.mean((chip - wanted) ** 2))),
        })  # fmt: skip
    return UpdateRecord(correlation=rows[-1]["correlation"], slope=rows[-1]["slope"], drift=tuple(rows))


def _regression(x: Array, y: Array) -> tuple[float, float]:
    """Correlation, and the slope of y on x through the origin; 0 where nothing moved."""
    power = float((x**2).sum())
    if power == 0 or not np.any(y) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0, 0.0
    return float(np.corrcoef(x, y)[0, 1]), float((x * y).sum() / power)


def chip_accuracy(program: LearningProgram, graph: Graph, spikes: Array, y: Array, weights: Array, how: Readout) -> float:
    """Accuracy of frozen chip weights on presynaptic spikes (N, T, pre)."""
    return float(accuracy(decide(readout(program, graph, spikes, weights.astype(np.int64)), how), y) or 0.0)


def float_accuracy(spikes: Array, y: Array, weight: Array, bias: Array, gain: float, how: Readout) -> float:
    """Accuracy of the float readout on the same spikes."""
    logits = np.matmul(gain * spikes.astype(np.float32), weight.astype(np.float32).T) + bias.astype(np.float32)
    return float(accuracy(decide(logits, how), y) or 0.0)


def to_json(bits: BitRecord | None, update: UpdateRecord, accuracies: Mapping[str, float], samples: int) -> dict[str, Any]:
    """The object under ``learning`` of ``verify --learning --json``."""
    lava = None if bits is None else {
        "differing_bits": bits.differing_bits, "compared_bits": bits.compared_bits, "samples": bits.samples, "steps": bits.steps,
        "seconds": bits.seconds, "first_divergence": bits.first,
    }  # fmt: skip
    return {
        "differing_bits": None if bits is None else bits.differing_bits, "steps": None if bits is None else bits.steps, "samples": samples,
        "update_correlation": update.correlation, "update_slope": update.slope, **accuracies, "drift": [dict(row) for row in update.drift],
        "lava": lava,
    }  # fmt: skip


__all__ = ["BitRecord", "UpdateRecord", "chip_accuracy", "compare_lava", "compare_updates", "float_accuracy", "to_json"]

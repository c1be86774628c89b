"""The learning claims: Lava's weights against the integer engine bit for bit, and the engine against the float rule by size and sense."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snncompile.backends.lava.backend import run_plan
from snncompile.backends.lava.learning_plan import LavaLayer, LavaLearned
from snncompile.errors import Diagnostic
from snncompile.ir.graph import Array, Graph, Readout
from snncompile.learning.program import LearningProgram, PlasticLayer
from snncompile.learning.stream import CHECKPOINTS, LayerLearned, Learned, run_frozen
from snncompile.mapping.schedule import Schedule
from snncompile.verify.readout import accuracy, decide

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BitRecord:
    """Lava against the engine: differing bits of weights, third factors and logits, by layer and of all; ``first`` says where."""

    samples: int
    steps: int
    differing_bits: int
    compared_bits: int
    seconds: float
    first: str | None
    layers: tuple[int, ...] = ()

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
    ours: Learned, *, timeout_s: float, activity: Mapping[str, Array] | None = None, progress: Progress | None = None,
    preparing: Callable[[str], None] | None = None,
) -> BitRecord:  # fmt: skip
    """Run the first ``len(labels)`` samples of a stream on Lava and compare with what the engine learned from them.

    The check sums cover every weight in every hardware step; bits are counted where both kept weights.
    """
    traces = run_plan(plan_folder, payloads, timeout_s=timeout_s, progress=progress, preparing=preparing, targets=labels, activity=activity)
    lava = traces.learned
    assert lava is not None
    count = len(labels)
    common = [n for n in lava.at if n in ours.at]
    rows = [lava.at.index(n) for n in common], [ours.at.index(n) for n in common]
    logits = np.asarray(traces[program.readout].payload).reshape(count, -1), ours.logits[:count].reshape(count, -1)
    differing, compared, steps = [], logits[0].size * 32, 0
    for x, mine in zip(program.layers, ours.layers, strict=True):
        theirs = lava.layers[x.population]
        pairs = [(theirs.weights[rows[0]], mine.weights[rows[1]]), (theirs.sent, mine.sent[:count])]
        differing.append(sum(_differing(a, b) for a, b in pairs))
        compared += sum(a.size * 16 for a, _ in pairs)
        steps = len(theirs.checks)
    return BitRecord(
        samples=count, steps=steps, differing_bits=sum(differing) + _differing(*logits), compared_bits=compared, seconds=traces.seconds,
        first=_first(lava, ours, program, schedule), layers=tuple(differing),
    )  # fmt: skip


def _differing(a: Array, b: Array) -> int:
    flipped = a.astype(np.int32) ^ b.astype(np.int32)
    return int(np.unpackbits(flipped[flipped != 0].view(np.uint8)).sum())


def _first(lava: LavaLearned, ours: Learned, program: LearningProgram, schedule: Schedule) -> str | None:
    """The first hardware step whose weights differ, and a synapse that does."""
    found: list[tuple[int, PlasticLayer, LavaLayer, LayerLearned]] = []
    for x, mine in zip(program.layers, ours.layers, strict=True):
        theirs = lava.layers[x.population]
        apart = np.flatnonzero(theirs.checks != mine.checks[: len(theirs.checks)])
        if apart.size:
            found.append((int(apart[0]), x, theirs, mine))
    if not found:
        return None
    h, x, theirs, mine = min(found, key=lambda f: f[0])
    clock = program.time(schedule)
    sample = next((n for n in range(lava.at[-1]) if clock.done(n) >= h), lava.at[-1] - 1)
    text = f"first difference in '{x.synapse}', hardware step {h}, during sample {sample}"
    for n in (n for n in lava.at if n > sample and n in ours.at):
        a, b = theirs.weights[lava.at.index(n)], mine.weights[ours.at.index(n)]
        at = np.argwhere(a != b)
        if at.size:
            i, j = (int(k) for k in at[0])
            after = "after it" if n == sample + 1 else f"after sample {n - 1}"
            return f"{text}; {after} synapse {j} -> {i} holds {a[i, j]} on Lava, {b[i, j]} in the engine"
    return text


def checkpoints(samples: int) -> tuple[int, ...]:
    """After how many samples updates are compared."""
    return tuple(sorted({max(1, round(samples * k / CHECKPOINTS)) for k in range(1, CHECKPOINTS + 1)}))


def compare_updates(layer: PlasticLayer, at: Sequence[int], chip: Array, floated: Array) -> UpdateRecord:
    """Chip weights that learn and the float rule's (folded layer), (1 + K, post, pre) each: at first, and after ``at`` samples; in LSBs.

    Correlation and slope are those of the changes in units of the folded layer, of which an LSB is worth the same for all neurons or not.
    """
    rows, worth = [], np.array(layer.lsb)[:, None]
    for n, now, wanted_now in zip(at, chip[1:], floated[1:], strict=True):
        moved = now.astype(np.float64) - chip[0]
        wanted = (wanted_now.astype(np.float64) - floated[0]) / worth
        correlation, slope = _regression((worth * wanted).ravel(), (worth * moved).ravel())
        rows.append({
            "samples": n, "correlation": correlation, "slope": slope, "rms_update_lsb": float(np.sqrt(np.mean(wanted**2))),
            "rms_difference_lsb": float(np.sqrt(np.mean((moved - wanted) ** 2))),
        })  # fmt: skip
    return UpdateRecord(correlation=rows[-1]["correlation"], slope=rows[-1]["slope"], drift=tuple(rows))


def _regression(x: Array, y: Array) -> tuple[float, float]:
    """Correlation, and the slope of y on x through the origin; 0 where nothing moved."""
    power = float((x**2).sum())
    if power == 0 or not np.any(y) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0, 0.0
    return float(np.corrcoef(x, y)[0, 1]), float((x * y).sum() / power)


def chip_accuracy(program: LearningProgram, graph: Graph, spikes: Array, y: Array, weights: Sequence[Array], how: Readout) -> float:
    """Accuracy of frozen chip weights, by layer, on the spikes (N, T, pre) of the program's source."""
    logits = run_frozen(program, graph, spikes, [w.astype(np.int64) for w in weights])
    return float(accuracy(decide(logits, how), y) or 0.0)


def to_json(
    program: LearningProgram, bits: BitRecord | None, updates: Sequence[UpdateRecord], truths: Sequence[UpdateRecord],
    accuracies: Mapping[str, float], samples: int,
) -> dict[str, Any]:  # fmt: skip
    """The object under ``learning`` of ``verify --learning --json``: the layer with the lowest correlation at the top, all in ``layers``.

    ``truths`` are the updates against back-propagation, for programs with feedback.
    """
    lava = None if bits is None else {
        "differing_bits": bits.differing_bits, "compared_bits": bits.compared_bits, "samples": bits.samples, "steps": bits.steps,
        "seconds": bits.seconds, "first_divergence": bits.first,
    }  # fmt: skip
    layers = []
    for k, (x, u) in enumerate(zip(program.layers, updates, strict=True)):
        row = {"layer": x.synapse, "population": x.population, "update_correlation": u.correlation, "update_slope": u.slope}
        row |= {"differing_bits": None if bits is None else bits.layers[k], "drift": [dict(r) for r in u.drift]}
        true = truths[k] if truths else None
        row["backpropagation"] = None if true is None else {"update_correlation": true.correlation, "update_slope": true.slope}
        layers.append(row)
    worst = min(updates, key=lambda u: u.correlation)
    return {
        "differing_bits": None if bits is None else bits.differing_bits, "steps": None if bits is None else bits.steps, "samples": samples,
        "update_correlation": worst.correlation, "update_slope": worst.slope, **accuracies, "drift": [dict(row) for row in worst.drift],
        "layers": layers, "lava": lava,
    }  # fmt: skip


__all__ = ["BitRecord", "UpdateRecord", "checkpoints", "chip_accuracy", "compare_lava", "compare_updates", "to_json"]

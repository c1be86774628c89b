"""docs/results.md from what was measured; needs nothing but the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from method_rows import Row

Measured = Mapping[str, Any]

HEAD = """# Every training method on the chip

One row per method and variant: a small network trained by the method (`examples/NAME/README.md` says with which command), compiled for
`loihi2-sim` and measured. The table is written by

    uv run python benchmarks/methods.py --data FOLDER

from the committed checkpoints, without training; `--only NAME` measures one row, and nothing is measured twice for the same checkpoint and
program. What was measured lies in `benchmarks/results/`, with the hash of the program that it was measured on; where a row has fewer
samples than its test set, the same command goes on from there.
"""

NOTES = """
**Accuracy**: PyTorch's and the integer program's, on the samples of the fourth column; "points" is the difference in percentage points.
**Weights** have 8 bits with sign, unless the third column says more: then those that need it take two synapses (`--weight-bits`). GLIF's
network with 8 bits decides 0.16 points worse than in PyTorch on the same 10,000 images (95.86 %).
**Differing**: events (spikes or payloads) that differ from the network with the program's own weights and biases, each population fed with
the program's own inputs, over all populations, steps and samples; ties, whose membrane equals the threshold up to float32 rounding, are
counted apart. The claims are 0 in exact populations and at most 1 in 10,000 elsewhere.
**Lava**: bits of all payloads and membranes that differ between the integer reference and Lava's simulator.
**Bytes**: of the whole bundle (program, evidence, report, runner) and of its tensors alone, against the float parameters at 4 bytes each.
"""

MEMORY_NOTES = """
## Training memory

Bytes that training holds for a batch of 4 images: tensors saved by autograd at their peak, and the state carried from step to step;
measured, not computed. "Through time" keeps the graphs of all steps of the same network until one backward pass; the online methods'
networks cut their states from the graph, so for them that is a lower bound of back-propagation through time. The claim is a ratio of at
most 1.05 for every online method.
"""

EFFECT_NOTES = """
## What calibration changes

Thresholds that follow the batch (OTS) and gates that follow the sample (SECA) cannot be static; they are fixed by calibration on training
images. This is what that changes, in PyTorch. Online thresholds depend on the batch that a sample happens to be in. The networks with
SECA learn with fixed gates at last (`settled` in their recipes): they are made for these, and no longer for those that follow.
"""


def document(rows: Sequence[tuple[Row, Measured]]) -> str:
    """The whole file."""
    parts = [HEAD, *main_table(rows), NOTES, *refusals(rows), *inexact(rows), MEMORY_NOTES, *memory_table(rows), EFFECT_NOTES]
    return "\n".join([*parts, *effect_table(rows)]) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def main_table(rows: Sequence[tuple[Row, Measured]]) -> list[str]:
    head = (
        "method", "data, T", "network", "samples", "float", "integer", "points", "populations exact", "differing: exact", "elsewhere",
        "ties", "Lava: bits (samples)", "bundle (tensors)", "float weights",
    )  # fmt: skip
    return table(head, [[row.method, *cells(row, found)] for row, found in rows])


def cells(row: Row, found: Measured) -> list[str]:
    if not found:
        return ["not trained yet" if not row.model.is_file() else "not measured yet", "", row.network, *[""] * 10]
    data = f"{found['dataset']}, {found['steps']}"
    wide = f", weights of {row.weight_bits} bits" if row.weight_bits > 8 else ""
    out = [data, f"{row.network}, {found['parameters']:,} parameters{wide}"]
    if "refused" in found:
        return [*out, f"refused: {found['refused']['code']}", *[""] * 10]
    whole, sent = found.get("whole_set"), found.get("export", {})
    if whole is None:
        out += [""] * 8
    else:
        n, populations = max(whole["samples"], 1), whole["populations"].values()
        accuracies = [100 * whole[k] / n for k in ("right_float", "right_integer")]
        exact, others = ([p for p in populations if p["exact"] is kind] for kind in (True, False))
        out += [f"{whole['samples']:,}", *(f"{a:.2f} %" for a in accuracies), f"{accuracies[1] - accuracies[0]:+.2f}"]
        out += [f"{len(exact)} of {len(populations)}", f"{sum(p['differing'] for p in exact):,} of {sum(p['compared'] for p in exact):,}"]
        apart, compared = (sum(p[k] for p in others) for k in ("differing", "compared"))
        out += [f"{apart:,} of {compared:,} ({apart / compared:.1e})" if others else "", f"{sum(p['ties'] for p in populations):,}"]
    if "lava" in sent:
        sizes = sent["bytes"]
        out += [f"{sent['lava']['differing_bits']:,} of {sent['lava']['compared_bits']:,} ({sent['lava']['samples']})"]
        out += [f"{sizes['bundle']:,} ({sizes['tensors']:,})"]
    else:
        out += ["a claim failed" if sent else "", ""]
    return [*out, f"{4 * found['parameters']:,}"]


def refusals(rows: Sequence[tuple[Row, Measured]]) -> list[str]:
    return [
        f"\n**{row.method}** is refused: {found['refused']['message']} ({found['refused']['code']})."
        for row, found in rows
        if "refused" in found
    ] + [
        f"\n**{row.method}** is not exported, because a claim fails: {message}."
        for row, found in rows
        for message in found.get("export", {}).get("failures", [])
    ]


def inexact(rows: Sequence[tuple[Row, Measured]]) -> list[str]:
    lines = [
        [row.method, f"`{name}`", p["reason"], f"{p['differing']:,} of {p['compared']:,}"]
        for row, found in rows
        for name, p in found.get("whole_set", {}).get("populations", {}).items()
        if not p["exact"]
    ]
    return (
        ["\n## Populations that are not exact, and why\n", *table(("method", "population", "reason", "differing"), lines)] if lines else []
    )


def memory_table(rows: Sequence[tuple[Row, Measured]]) -> list[str]:
    lines = []
    for row, found in rows:
        if "memory" in found:
            m = found["memory"]
            numbers = [f"{m[k]:,}" for k in ("T4", "T64")]
            through = [f"{m[k]:,}" for k in ("through_time_T4", "through_time_T64")]
            lines.append([row.method, found["method"], "yes" if row.online else "no", *numbers, f"{m['ratio']:.3f}", *through])
    return table(("method", "rule", "online", "T = 4", "T = 64", "ratio", "through time, T = 4", "T = 64"), lines)


def effect_table(rows: Sequence[tuple[Row, Measured]]) -> list[str]:
    lines = []
    for row, found in rows:
        for e in found.get("calibration", []):
            accuracies = [f"{100 * e[k]:.2f} %" for k in ("accuracy_live", "accuracy_fixed")]
            changed = [f"{100 * e[k]:.2f} %" if k in e else "" for k in ("logit_error", "other_decisions")]
            lines.append([row.method, e["against"], f"{e['samples']:,}", *accuracies, *changed])
    return table(("method", "against", "samples", "accuracy, following", "accuracy, fixed", "logits move by", "other decisions"), lines)

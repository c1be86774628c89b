"""What is measured for one row: the export with Lava, the whole test set, training memory, and the effect of what was calibrated."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from method_memory import training_memory
from method_rows import Row

import snncompile
from snncompile.backends.bundle import SCHEMA
from snncompile.capture.load import load_model
from snncompile.cli.app import cli
from snncompile.errors import CompileError
from snncompile.ir import reference
from snncompile.ir.integer import IntNeuron
from snncompile.ir.text import to_text
from snncompile.online import OTSLIF, SECA, Checkpoint, live_gates, load_checkpoint, online_thresholds
from snncompile.online.recipe import DATASETS
from snncompile.online.rule import summed_logits, time_steps
from snncompile.pipeline import Compiled
from snncompile.quantize import Options
from snncompile.quantize.dequantise import dequantise
from snncompile.verify import default_input
from snncompile.verify.dynamics import Dynamics, compare, input_values
from snncompile.verify.readout import decide

Say = Callable[[str], None]
CALIBRATION, BATCH = 64, 16
GAP_BATCHES = (1, 10, 100, 1000)


@dataclass(frozen=True, kw_only=True)
class Work:
    """One row's inputs: the checkpoint, its test set and the first training samples, for calibration."""

    row: Row
    checkpoint: Checkpoint
    x: np.ndarray
    y: np.ndarray
    calibration: np.ndarray
    lava_samples: int

    @classmethod
    def of(cls, row: Row, data: Path, samples: int | None, lava_samples: int) -> Work:
        """Read the files of a row."""
        checkpoint = load_checkpoint(row.model)
        source = DATASETS[checkpoint.training["dataset"]]
        x, y = source.load(data / row.data, "test")
        train = source.load(data / row.data, "train")[0][:CALIBRATION]
        return cls(
            row=row,
            checkpoint=checkpoint,
            x=x[:samples].numpy(),
            y=y[:samples].numpy(),
            calibration=train.numpy(),
            lava_samples=lava_samples,
        )

    def compile(self) -> Compiled:
        """The row's network as ``export`` compiles it."""
        loaded = load_model(self.row.model)
        return snncompile.compile(
            loaded.model, input_shape=loaded.input_shape, steps=loaded.steps, layout=loaded.layout, calibration=self.calibration,
            input_range=loaded.input_range, readout=loaded.readout, name=loaded.name,
            options=Options(weight_bits=self.row.weight_bits),
        )  # fmt: skip


def program_hash(compiled: Compiled) -> str:
    """Of the integer program: its text, without the source lines that its nodes came from, and its tensors."""
    text, tensors = to_text(compiled.result.graph.map_nodes(lambda op: replace(op, loc=None)))
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()


def export(work: Work) -> dict[str, Any]:
    """``snncompile export`` of the checkpoint, on the samples that Lava runs: bundle bytes, differing bits, what is approximated."""
    with tempfile.TemporaryDirectory() as scratch:
        data, calibration = Path(scratch) / "data.npz", Path(scratch) / "calibration.npz"
        np.savez(data, x=work.x[: work.lava_samples], y=work.y[: work.lava_samples])
        np.savez(calibration, x=work.calibration)
        options = ["--data", data, "--calibration", calibration, "--lava-samples", work.lava_samples, "-o", Path(scratch) / "model.snn"]
        options += ["--weight-bits", work.row.weight_bits]
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            cli.main(["export", str(work.row.model), *map(str, options), "--timeout", "1200", "--json"])
    found = json.loads(out.getvalue())
    if "verification" not in found:
        return {"failures": [f"{d['message']} ({d['code']})" for d in found.get("failures") or found.get("diagnostics") or []]}
    lava = found["verification"]["backend"]["lava"]
    return {
        "lava": {k: lava[k] for k in ("samples", "differing_bits", "compared_bits")},
        "schema": SCHEMA,
        "bytes": found["bytes"],
        "approximations": [a for a in found["manifest"]["approximations"] if a.get("declared")],
    }


def whole_set(work: Work, compiled: Compiled, found: dict[str, Any], save: Callable[[], None], say: Say) -> None:
    """Accuracy of the network in PyTorch and of the integer program, and the dynamics error, on every test sample.

    ``found`` holds the counts over the first samples and is advanced from there; ``save`` is called every few hundred samples.
    """
    graph, net = compiled.result.graph, work.checkpoint.build()
    names = [n.name for n in graph.of(IntNeuron)]
    dequantised = dequantise(compiled.float_graph, compiled.result)
    label = next(iter(graph.outputs))
    scale = getattr(graph.node(graph.outputs[label]), "v_scale" if "." in graph.outputs[label] else "out_scale")
    x = work.x if work.x.ndim == 5 else work.x[:, None]
    while found["samples"] < len(x):
        start = found["samples"]
        part = slice(start, min(start + BATCH, len(x)))
        given = input_values(graph, default_input(graph, x[part].astype(np.float64)))
        traces = reference.run(graph, given, record=names, batch=BATCH)
        dynamics = Dynamics()
        compare(compiled.result, dequantised, given, {n: traces[n] for n in names}, dynamics, start)
        y = work.y[part]
        found["right_float"] += int((decide_in_torch(net, work, part) == y).sum())
        found["right_integer"] += int((decide(np.asarray(traces[label] * scale), compiled.readout) == y).sum())
        for p in dynamics.to_json()["populations"]:
            entry = found["populations"].setdefault(p["name"], {"exact": p["exact"], "reason": p["reason"]})
            for count in ("compared", "differing", "ties"):
                entry[count] = entry.get(count, 0) + p[count]
        found["samples"] = part.stop
        if start // BATCH % 40 == 39 or part.stop == len(x):
            say(f"  {part.stop} of {len(x)}")
            save()


def decide_in_torch(net: torch.nn.Module, work: Work, part: slice) -> np.ndarray:
    """The network's decisions in PyTorch on some samples, as one batch."""
    return logits_of(net, work, part).argmax(1)


def logits_of(net: torch.nn.Module, work: Work, part: slice) -> np.ndarray:
    """The network's summed logits in PyTorch on some samples, as one batch."""
    return summed_logits(net, time_steps(torch.from_numpy(work.x[part]).float(), work.checkpoint.steps)).numpy()


def in_batches(net: torch.nn.Module, work: Work, batch: int, samples: int) -> np.ndarray:
    """The same, in batches of this size."""
    return np.concatenate([logits_of(net, work, slice(k, min(k + batch, samples))) for k in range(0, samples, batch)])


def calibration_effect(work: Work) -> list[dict[str, Any]]:
    """What fixed thresholds and gates change: accuracy and share of other decisions, against the values that follow the data."""
    net = work.checkpoint.build()
    kinds = {type(module) for module in net.modules()}
    rows: list[dict[str, Any]] = []
    gaps: Iterable[tuple[str, Any, int]] = []
    if OTSLIF in kinds:
        gaps = [(f"online thresholds, batches of {min(b, len(work.x))}", online_thresholds, b) for b in GAP_BATCHES]
    if SECA in kinds:
        gaps = [("gates of each sample", live_gates, 500)]
    for name, live, batch in gaps:
        count = min(len(work.x), 200) if batch == 1 else len(work.x)
        fixed = in_batches(net, work, 500, count)
        with live(net):
            other = in_batches(net, work, batch, count)
        y = work.y[:count]
        rows.append({
            "against": name, "samples": count, "accuracy_live": float(np.mean(other.argmax(1) == y)),
            "accuracy_fixed": float(np.mean(fixed.argmax(1) == y)),
            "other_decisions": float(np.mean(other.argmax(1) != fixed.argmax(1))),
            "logit_error": float(np.sqrt(np.mean((fixed - other) ** 2) / np.mean(other**2))),
        })  # fmt: skip
    return rows


def measure(work: Work, known: dict[str, Any], save: Callable[[dict[str, Any]], None], say: Say) -> None:
    """Every stage that is not known for this checkpoint and program yet; each is saved as soon as it is done."""
    checkpoint = work.checkpoint
    model = hashlib.sha256(work.row.model.read_bytes()).hexdigest()
    found = known if known.get("model_sha256") == model else {"model_sha256": model, "model_bytes": work.row.model.stat().st_size}
    found |= {"method": checkpoint.method, "steps": checkpoint.steps, "dataset": checkpoint.training["dataset"]}
    found["parameters"] = sum(p.numel() for p in checkpoint.build().parameters())
    if "memory" not in found:
        say("training memory")
        found["memory"] = training_memory(checkpoint)
        save(found)
    if "calibration" not in found or any("logit_error" not in r for r in found["calibration"]):
        say("effect of calibration")
        found["calibration"] = calibration_effect(work)
        save(found)
    say("compiling")
    try:
        compiled = work.compile()
    except CompileError as error:
        first = error.diagnostics[0]
        found = {k: v for k, v in found.items() if k not in ("program_sha256", "export", "whole_set")}
        save(found | {"refused": {"code": first.code, "message": first.message}})
        return
    found.pop("refused", None)
    program = program_hash(compiled)
    if found.get("program_sha256") != program:
        found = {k: v for k, v in found.items() if k not in ("export", "whole_set")} | {"program_sha256": program}
    known_export = found.get("export", {})
    if known_export.get("lava", {}).get("samples") != work.lava_samples or known_export.get("schema") != SCHEMA:
        say("exporting, and running on Lava")
        found["export"] = export(work)
        save(found)
    counted = found.setdefault("whole_set", {"samples": 0, "right_float": 0, "right_integer": 0, "populations": {}})
    say("the whole test set")
    whole_set(work, compiled, counted, lambda: save(found), say)

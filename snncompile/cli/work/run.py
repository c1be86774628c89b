"""``run``: predictions and logits of a bundle on data."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np

from snncompile import files
from snncompile.backends.bundle import Bundle, read_bundle
from snncompile.backends.lava.backend import run_plan
from snncompile.cli import show
from snncompile.cli.progress import Progress
from snncompile.cli.work.request import bundle_data
from snncompile.cli.work.verifying import warn_clipped
from snncompile.errors import InternalError, fail
from snncompile.ir import reference
from snncompile.ir.graph import Array
from snncompile.ir.population import INTEGER_POPULATIONS
from snncompile.report.summary import facts, put
from snncompile.report.words import count, percent
from snncompile.verify import default_input
from snncompile.verify.dynamics import input_values
from snncompile.verify.readout import accuracy, logits
from snncompile.verify.saturation import clipped_inputs

BATCH = 32
SHOWN = 10


def run(*, bundle: Path, data: Path, backend: str, output: Path | None, timeout: float, as_json: bool, quiet: bool) -> int:
    """Run the command; the exit status."""
    files.check_file(data)
    started = time.monotonic()
    with Progress(quiet=quiet) as progress:
        progress.phase("reading the bundle")
        program = read_bundle(bundle)
        samples = bundle_data(program, data)
        x = default_input(program.graph, samples.samples)
        cut = clipped_inputs(program.graph, x)
        warn_clipped(cut)
        payloads = input_values(program.graph, x)
        outputs = _execute(program, payloads, backend, timeout, progress)
    ref = program.output
    node = program.graph.node(ref)
    if not isinstance(node, INTEGER_POPULATIONS):
        raise InternalError(f"output '{ref}' is no population")
    scale = np.asarray(node.v_scale if "." in ref else node.out_scale)
    decided = logits(outputs * scale, program.manifest["readout"])
    predictions = decided.argmax(axis=1)
    if output is not None:
        _save(output, predictions=predictions, logits=decided, outputs=outputs, output_scale=scale)
    share = accuracy(predictions, samples.y)
    seconds = time.monotonic() - started
    if as_json:
        show.json_line({
            "samples": len(samples), "steps": program.graph.steps, "backend": backend, "readout": program.manifest["readout"],
            "clipped_inputs": [dict(vars(c)) for c in cut],
            "accuracy": share, "predictions": predictions.tolist(), "logits": decided.tolist(),
            "output": None if output is None else str(output), "seconds": round(seconds, 2),
        })  # fmt: skip
        return 0
    rows = [("samples", f"{count(len(samples))}, T = {program.graph.steps}, on {backend}")]
    shown = " ".join(map(str, predictions[:SHOWN].tolist()))
    rows.append(("predictions", f"{shown}{' ...' if len(predictions) > SHOWN else ''}"))
    if share is not None:
        rows.append(("accuracy", f"{percent(share)} ({count(round(share * len(samples)))} of {count(len(samples))})"))
    rows += [("written", str(output))] if output is not None else []
    put(facts([*rows, ("time", f"{seconds:.1f} s")]))
    return 0


def _execute(program: Bundle, payloads: dict[str, Array], backend: str, timeout: float, progress: Progress) -> Array:
    """The first output over time, (N, T, *shape)."""
    if backend == "lava":
        return _lava(program, payloads, timeout, progress)
    return _onnx(program, payloads, progress) if backend == "onnx" else _reference(program, payloads, progress)


def _reference(program: Bundle, payloads: dict[str, Array], progress: Progress) -> Array:
    progress.phase("running the integer reference")
    total, parts = len(next(iter(payloads.values()))), []
    label = next(iter(program.graph.outputs))
    for start in range(0, total, BATCH):
        chunk = {k: v[start : start + BATCH] for k, v in payloads.items()}
        parts.append(reference.run(program.graph, chunk, batch=BATCH)[label])
        progress.count(min(start + BATCH, total), total)
    return np.concatenate(parts)


def _lava(program: Bundle, payloads: dict[str, Array], timeout: float, progress: Progress) -> Array:
    ref = program.output
    name, _, port = ref.partition(".")
    if port == "m":
        raise fail(
            "SNN041", f"the output is '{ref}', and Lava records payloads and membranes after reset only", help="use --backend reference"
        )
    progress.phase("running Lava's simulator")
    traces = run_plan(program.plan_folder, payloads, timeout_s=timeout, progress=progress.count, preparing=progress.phase)
    return np.asarray(traces[name].membrane if port == "v" else traces[name].payload)


def _onnx(program: Bundle, payloads: dict[str, Array], progress: Progress) -> Array:
    from snncompile.backends.onnx.runtime import run_onnx  # noqa: PLC0415 - an extra

    progress.phase("running ONNX Runtime")
    found, _ = run_onnx(program.graph, payloads, progress=progress.count, traces=False)
    return found[next(iter(program.graph.outputs))]


def _save(path: Path, **arrays: Any) -> None:
    if path.is_dir():
        raise fail("SNN030", f"cannot write {path}: it is a folder", help="name a file that ends in .npz with -o")
    target = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
    content = io.BytesIO()
    np.savez(content, **arrays)
    try:
        files.write(target, content.getvalue())
    except OSError as e:
        raise fail("SNN030", f"cannot write {target}: {e.strerror or e}", help="choose another place with -o") from e


__all__ = ["run"]

"""``export``: load, compile, write the bundle, run it, say what came out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from snncompile.backends.bundle import check_destination, open_draft
from snncompile.cli import paths, show
from snncompile.cli.data import check_labels
from snncompile.cli.progress import Progress
from snncompile.cli.work import model as models
from snncompile.cli.work.verifying import check, report_failures
from snncompile.errors import fail
from snncompile.pipeline import compile, original
from snncompile.quantize import Options
from snncompile.report.html import render
from snncompile.report.summary import print_export
from snncompile.target import load_target
from snncompile.verify.readout import Readout

LAVA_SAMPLES = 256


@dataclass(frozen=True, kw_only=True)
class Request(models.ModelOptions):
    """The command line of ``export``."""

    model: Path | None
    output: Path | None
    target: str
    data: Path | None
    calibration: Path | None
    input_range: tuple[float, float, float] | None
    readout: Readout | None
    weight_bits: int
    input_bits: int
    exact: Literal["auto", "always"]
    no_lava: bool
    lava_samples: int | None
    timeout: float
    as_json: bool
    quiet: bool

    @property
    def destination(self) -> Path:
        """Where the bundle goes."""
        if self.output is not None:
            return self.output
        if self.model is None and self.arch is None:
            raise fail("SNN139", "there is nothing to compile", help="name a checkpoint, or a factory: --arch package.module:factory")
        stem = self.model.stem if self.model is not None else str(self.arch).rpartition(":")[2].rpartition(".")[2]
        return Path(f"{stem}.snn")


def export(request: Request) -> int:
    """Run the command; the exit status."""
    started = time.monotonic()
    destination = request.destination
    for path in (request.model, request.data, request.calibration):
        if path is not None:
            paths.check_file(path)
    check_destination(destination)
    target = load_target(request.target)
    with Progress(quiet=request.quiet) as progress:
        with models.users_output_to_stderr():
            manifest, data, found = _work(request, destination, target.executor, progress)
    if found is None:
        return 1
    outcome = {
        "ok": True,
        "bundle": str(destination),
        "bytes": {"bundle": _size(destination), "checkpoint": manifest["source"].get("bytes")},
        "data": data,
        "seconds": round(time.monotonic() - started, 2),
    }
    if request.as_json:
        show.json_line({**outcome, "verification": found, "manifest": {k: v for k, v in manifest.items() if k not in ("files", "tensors", "verification")}})
    else:
        print_export(manifest, found, outcome)
    return 0


def _work(request: Request, destination: Path, executor: str, progress: Progress) -> tuple[Any, Any, Any]:
    progress.phase("loading the model")
    loaded = request.load(request.model)
    sibling = models.sibling_data(request.model) if request.data is None else None
    data = models.usable_data(request.data or sibling, loaded, strict=request.data is not None)
    calibration = models.usable_data(request.calibration, loaded)
    known, assumed = models.choose_range(loaded, request.input_range, data, calibration)
    samples = calibration or data
    readout: Readout = request.readout or loaded.readout
    compiled = compile(
        loaded.model, target=request.target, input_shape=loaded.input_shape, steps=loaded.steps, layout=loaded.layout,
        calibration=None if samples is None else samples.x[: models.CALIBRATION_SAMPLES], input_range=known, readout=readout, name=loaded.name,
        options=Options(weight_bits=request.weight_bits, input_bits=request.input_bits, pursue_exact=request.exact), progress=progress.phase,
    )  # fmt: skip
    measured = data or models.random_data(compiled.captured.graph)
    check_labels(measured, _outputs(compiled.float_graph))
    with open_draft(destination) as draft:
        progress.phase("writing the program")
        bundle = draft.fill(compiled, models.facts(loaded))
        progress.phase("running the network in PyTorch")
        judged = original(compiled, loaded.model, measured.x)
        backends = [] if request.no_lava or executor != "lava" else ["lava"]
        count = request.lava_samples or min(len(measured), LAVA_SAMPLES)
        found = check(
            bundle, measured, original=judged, backends=backends, samples=count, timeout=request.timeout, readout=readout, progress=progress
        )
        if not found.ok:
            report_failures(found, destination)
            if request.as_json:
                show.json_line({**found.to_json(), "bundle": None})
            return None, None, None
        progress.phase("writing the bundle")
        evidence = {**found.to_json(), "data": _described(measured)}
        draft.note(calibration=None if samples is None else {"sha256": samples.sha256, "samples": min(len(samples), models.CALIBRATION_SAMPLES)}, assumed=assumed)
        manifest = draft.seal(evidence)
        draft.seal(evidence, {"report.html": render(manifest)})
        draft.publish()
    if assumed:
        show.warn(assumed)
    return manifest, {**_described(measured), "source": measured.source, "found": sibling is not None and data is not None}, found.to_json()


def _described(data: Any) -> dict[str, Any]:
    return {"samples": len(data), "labelled": data.y is not None, "sha256": data.sha256, "random": data.sha256 is None}


def _outputs(graph: Any) -> int:
    size = 1
    for n in graph.shape(next(iter(graph.outputs.values()))):
        size *= n
    return size


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


__all__ = ["Request", "export"]

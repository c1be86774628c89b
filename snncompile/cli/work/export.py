"""``export``: load, compile, write the bundle, run it, say what came out."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from snncompile import files
from snncompile.backends.bundle import Bundle, check_destination, is_bundle, open_draft
from snncompile.backends.lava.interpreter import find_interpreter
from snncompile.cli import show
from snncompile.cli.data import check_labels
from snncompile.cli.progress import Progress
from snncompile.cli.work import model as models
from snncompile.cli.work import netx
from snncompile.cli.work.plastic import make_plastic
from snncompile.cli.work.request import ModelOptions
from snncompile.cli.work.verifying import check, report_failures
from snncompile.errors import CompileError, fail
from snncompile.ir.graph import Graph, Readout
from snncompile.learning.attach import LearnOptions
from snncompile.learning.method import find_method
from snncompile.quantize import Options
from snncompile.report.html import render
from snncompile.report.summary import print_export
from snncompile.target import load_target
from snncompile.verify import Verification

LAVA_SAMPLES = 256
LEARNING = (
    "learning_rate", "loss", "trace_leak", "headroom", "surrogate", "feedback", "feedback_scale", "warm_up", "local_weight",
    "learning_seed",
)  # fmt: skip
SECONDS_PER_SYNAPSE, SECONDS_PER_POPULATION = 2e-9, 1e-3


@dataclass(frozen=True, kw_only=True)
class Request(ModelOptions):
    """The command line of ``export``."""

    model: Path | None
    output: Path | None
    target: str
    data: Path | None
    calibration: Path | None
    input_range: tuple[float, float, float] | None
    readout: Readout | None
    readout_of: str | None
    weight_bits: int
    input_bits: int
    exact: Literal["auto", "always"]
    seca: Literal["calibrated", "exact", "host"]
    no_lava: bool
    lava_samples: int | None
    timeout: float
    as_json: bool
    quiet: bool
    learn: tuple[str, ...] = ()
    rule: str | None = None
    learning_rate: float = 0.01
    loss: str = "softmax"
    trace_leak: float | None = None
    headroom: str | None = None
    surrogate: str | None = None
    feedback: str = "random"
    feedback_scale: float | None = None
    warm_up: int | None = None
    local_weight: float = 1.0
    learning_seed: int = 1

    def learning(self, trained_with: str | None) -> LearnOptions:
        """What learns on the chip, and how: by default by the rule that the network was trained with, or by OTTT."""
        rule = (trained_with or "ottt") if self.rule is None else self.rule
        method = find_method(rule)
        others = ("feedback", "feedback_scale") if method.local else ("warm_up", "local_weight")
        unread = self._given(*others, *(() if method.trace else ("trace_leak",)))
        if unread:
            raise fail("SNN810", f"the rule '{method.name}' does not read {unread[0]}", help="leave it out, or choose another rule: --rule")
        return LearnOptions(
            layer=self.plastic, rule=rule, rate=self.learning_rate, loss=self.loss, leak=self.trace_leak,
            surrogate=self.surrogate, feedback=self.feedback, feedback_scale=self.feedback_scale, warm=self.warm_up,
            weight=self.local_weight, seed=self.learning_seed,
        )  # fmt: skip

    def check_learning(self) -> None:
        """Refuse options of learning that nothing reads (SNN810)."""
        unread = [] if self.learn else self._given("rule", *LEARNING)
        if unread:
            raise fail("SNN810", f"{unread[0]} says how a layer learns, and none does", help="say which one learns: --learn LAYER")
        if self.learn and not self.plastic:
            raise fail("SNN810", "--learn names no layer", help="name one or more layers, with commas between")
        if self.learn and self.model is not None and netx.is_net(self.model):
            raise fail(
                "SNN810", f"{self.model} holds integers, and learning begins with a trained network of floats",
                help="export the network that the file came from",
            )  # fmt: skip

    def _given(self, *names: str) -> list[str]:
        """Those of some options that differ from their defaults, as they are written."""
        defaults = {f.name: f.default for f in fields(Request)}
        return [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) != defaults[name]]

    @property
    def plastic(self) -> tuple[str, ...]:
        """Names of the layers that learn: --learn once each, or with commas."""
        return tuple(name.strip() for given in self.learn for name in given.split(",") if name.strip())

    @property
    def quantiser(self) -> Options:
        """Widths and priorities."""
        return Options(weight_bits=self.weight_bits, input_bits=self.input_bits, pursue_exact=self.exact)

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
    request.check_learning()
    if request.model is not None and is_bundle(request.model):
        raise fail(
            "SNN002", f"{request.model} is a bundle, which is compiled already, expected a network",
            help="name the network that it came from; a bundle that learns goes on learning with snncompile learn",
        )  # fmt: skip
    for path in (request.model, request.data, request.calibration):
        if path is not None:
            files.check_file(path)
    check_destination(destination)
    target = load_target(request.target)
    backends = [] if request.no_lava or target.executor != "lava" else ["lava"]
    with Progress(quiet=request.quiet) as progress, models.users_output_to_stderr():
        result = _work(request, destination, backends, progress)
    found = result.found.to_json()
    if not result.found.ok:
        report_failures(result.found, destination)
        if request.as_json:
            show.json_line({**found, "bundle": None})
        return 1
    if result.assumed:
        show.warn(result.assumed)
    outcome = {
        "ok": True,
        "bundle": str(destination),
        "bytes": {
            "bundle": _size(destination),
            "tensors": sum(row["bytes"] for name, row in result.manifest["files"].items() if name.startswith("tensors/")),
            "checkpoint": result.manifest["source"].get("bytes"),
        },
        "data": result.data,
        "seconds": round(time.monotonic() - started, 2),
    }
    if request.as_json:
        manifest = {k: v for k, v in result.manifest.items() if k not in ("files", "tensors", "verification")}
        show.json_line({**outcome, "verification": found, "manifest": manifest})
    else:
        print_export(result.manifest, found, outcome)
    return 0


@dataclass(frozen=True, kw_only=True)
class _Result:
    """What came out; the bundle is published if every claim holds."""

    manifest: Mapping[str, Any]
    found: Verification
    data: Mapping[str, Any]
    assumed: str | None


def _work(request: Request, destination: Path, backends: Sequence[str], progress: Progress) -> _Result:
    if backends:
        _find_lava(progress)  # what may be missing on this machine is said first
    progress.phase("loading the model")
    if request.model is not None and netx.is_net(request.model):
        return _integers(request, request.model, destination, backends, progress)
    loaded = request.load(request.model)
    sibling = models.sibling_data(request.model) if request.data is None else None
    data = models.usable_data(request.data or sibling, loaded, strict=request.data is not None)
    calibration = models.usable_data(request.calibration, loaded)
    known, assumed = models.choose_range(loaded, request.input_range, data, calibration)
    readout: Readout = request.readout or loaded.readout
    samples = (calibration or data or models.NO_DATA).first(models.CALIBRATION_SAMPLES)
    compiled = models.compile_loaded(
        loaded, target=request.target, calibration=samples.samples if len(samples) else None, input_range=known, readout=readout,
        options=request.quantiser, seca=request.seca, progress=progress.phase, readout_of=request.readout_of, effects=True,
    )  # fmt: skip
    models.warn_of_circumstances(compiled.decisions)
    readout = compiled.readout
    measured = data or models.random_data(compiled.source_graph)
    check_labels(measured, _outputs(compiled.float_graph))
    learning = None
    if request.learn:
        progress.phase(f"making {', '.join(request.plastic)} plastic")
        compiled, learning = make_plastic(compiled, request.learning(loaded.facts.get("method")), request.headroom, data, progress)
    with open_draft(destination) as draft:
        progress.phase("writing the program")
        bundle = draft.fill(compiled, models.facts(loaded), learning)
        judged = models.original(compiled, loaded, measured.samples, progress)
        count = request.lava_samples or min(len(measured), LAVA_SAMPLES, affordable(bundle, request.timeout))
        found = check(
            bundle, measured, original=judged, backends=backends, samples=count, timeout=request.timeout, readout=readout, progress=progress
        )
        about = {"samples": len(measured), "labelled": measured.y is not None, "sha256": measured.sha256}
        about["random"] = measured.sha256 is None
        if found.ok:
            progress.phase("writing the bundle")
            draft.note(calibration={"sha256": samples.sha256, "samples": len(samples)} if len(samples) else None, assumed=assumed)
            evidence = {**found.to_json(), "data": about}
            draft.seal(evidence, {"report.html": render(draft.seal(evidence))})
            draft.publish()
        manifest = draft.manifest
    shown = {**about, "source": measured.source, "found": sibling is not None and data is not None}
    return _Result(manifest=manifest, found=found, data=shown, assumed=assumed)


def _integers(request: Request, path: Path, destination: Path, backends: Sequence[str], progress: Progress) -> _Result:
    """A file that holds integers already: nothing to capture or quantise, the same proofs, runs and bundle."""
    program = netx.load(
        path, request, target=request.target, input_range=request.input_range, readout=request.readout, quantiser=request.quantiser,
        calibration=request.calibration,
    )  # fmt: skip
    measured = netx.samples(program, request.data)
    graph = program.result.graph
    check_labels(measured, math.prod(graph.shape(next(iter(graph.outputs.values())))))
    about = {"samples": len(measured), "labelled": measured.y is not None, "sha256": measured.sha256, "random": measured.sha256 is None}
    with open_draft(destination) as draft:
        progress.phase("writing the program")
        bundle = draft.fill(program, program.facts)
        count = request.lava_samples or min(len(measured), LAVA_SAMPLES, affordable(bundle, request.timeout))
        found = check(
            bundle, measured, original=None, backends=backends, samples=count, timeout=request.timeout, readout=program.readout,
            progress=progress,
        )  # fmt: skip
        if found.ok:
            progress.phase("writing the bundle")
            evidence = {**found.to_json(), "data": about}
            draft.seal(evidence, {"report.html": render(draft.seal(evidence))})
            draft.publish()
        manifest = draft.manifest
    return _Result(manifest=manifest, found=found, data={**about, "source": measured.source, "found": False}, assumed=None)


def _find_lava(progress: Progress) -> None:
    try:
        find_interpreter(progress.phase)
    except CompileError as e:
        hint = "--no-lava writes the bundle without running it on Lava"
        raise CompileError(replace(d, notes=(*d.notes, hint)) for d in e.diagnostics) from e


def affordable(bundle: Bundle, timeout: float) -> int:
    """How many samples Lava runs in a quarter of the time limit, by what a hardware step was measured to cost on one core."""
    synapses = sum(p.synapses for p in bundle.populations)
    step = SECONDS_PER_SYNAPSE * synapses + SECONDS_PER_POPULATION * len(bundle.populations)
    per_sample = step * bundle.schedule.steps * bundle.schedule.initiation_interval
    return max(1, int(timeout / 4 / per_sample))


def _outputs(graph: Graph) -> int:
    return math.prod(graph.shape(next(iter(graph.outputs.values()))))


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


__all__ = ["Request", "export"]

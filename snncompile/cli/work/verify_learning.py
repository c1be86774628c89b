"""``verify --learning``: the plastic layers on a stream, in three ways: Lava, the integer engine, and PyTorch's online rule."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snncompile import files
from snncompile.backends.bundle import Bundle, read_bundle
from snncompile.cli import show
from snncompile.cli.progress import Progress
from snncompile.cli.work.plastic import Features, check_stream, features, float_weights, learning_of, split, torch_stages
from snncompile.cli.work.request import bundle_data
from snncompile.errors import Diagnostic
from snncompile.ir.graph import Array, Readout
from snncompile.learning.program import LearningProgram, no_labels
from snncompile.learning.stream import Learned, kept, learn
from snncompile.learning.widths import Widths
from snncompile.report.learning import print_learning
from snncompile.target import load_target
from snncompile.verify import learning as claims
from snncompile.verify.readout import accuracy, decide

PROCESS_SECONDS = 1e-3
"""Of a Lava process and hardware step."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """The command line of ``verify --learning``."""

    bundle: Path
    data: Path
    test: Path | None
    samples: int | None
    lava: bool
    timeout: float
    as_json: bool
    quiet: bool


def verify_learning(request: Request) -> int:
    """Run the command; the exit status."""
    for path in (request.data, request.test):
        if path is not None:
            files.check_file(path)
    with Progress(quiet=request.quiet) as progress:
        progress.phase("reading the bundle")
        bundle = read_bundle(request.bundle)
        program = learning_of(bundle)
        given = bundle_data(bundle, request.data)
        check_stream(bundle.graph, program, given)
        stream, held = split(given) if request.test is None else (given, bundle_data(bundle, request.test))
        taught = features(bundle, stream, progress)
        if request.test is not None:
            check_stream(bundle.graph, program, held, teaching=False)
        test = features(bundle, held, progress, teaching=False)
        if not np.any(test.labels >= 0):
            raise no_labels(held.source)
        count = request.samples or min(len(taught.labels), affordable(bundle, program, request.timeout))
        at = claims.checkpoints(len(taught.labels))
        ours = _learn(bundle, program, taught, {*at, *kept(program, bundle.graph, count)}, progress)
        bits = _lava(request, bundle, program, taught.first(count), ours, progress) if request.lava else None
        progress.phase("learning with PyTorch's online rule")
        floated = float_weights(program, bundle.graph, taught, keep=(0, *at), progress=progress.count)
        truths = []
        if any(x.modulator is not None and x.modulator.kind == "feedback" for x in program.layers):
            progress.phase("learning with back-propagation")
            exact = float_weights(program, bundle.graph, taught, keep=(0, *at), transport=True, progress=progress.count)
            truths = _updates(program, ours, at, exact)
    how = bundle.manifest["readout"]
    finals = [[x.weights[row] for x in ours.layers] for row in (-1, 0)]
    accuracies = {
        "accuracy_on_chip": claims.chip_accuracy(program, bundle.graph, test.spikes, test.labels, finals[0], how),
        "accuracy_pytorch": _float_accuracy(bundle, program, test, [w[-1] for w in floated], how),
        "accuracy_no_learning": claims.chip_accuracy(program, bundle.graph, test.spikes, test.labels, finals[1], how),
    }
    found = claims.to_json(program, bits, _updates(program, ours, at, floated), truths, accuracies, len(taught.labels))
    failures: list[Diagnostic] = [] if bits is None or bits.failure is None else [bits.failure]
    if request.as_json:
        show.json_line({"ok": not failures, "learning": found, "failures": [{"code": d.code, "message": d.message} for d in failures]})
    else:
        print_learning(bundle.manifest["learning"], found, given.source, held_out=len(test.labels))
    if failures:
        show.diagnostics(failures)
    return 1 if failures else 0


def _learn(bundle: Bundle, program: LearningProgram, taught: Features, keep: Collection[int], progress: Progress) -> Learned:
    progress.phase("learning with the integer engine")
    widths = Widths.of(load_target(bundle.manifest["target"]["name"]))
    return learn(
        program, bundle.graph, bundle.schedule, widths, taught.spikes, taught.labels, activity=taught.activity, keep=keep,
        progress=progress.count,
    )  # fmt: skip


def _updates(program: LearningProgram, ours: Learned, at: Sequence[int], floated: Sequence[Array]) -> list[claims.UpdateRecord]:
    rows = [ours.at.index(n) for n in (0, *at)]
    layers = zip(program.layers, ours.layers, floated, strict=True)
    return [claims.compare_updates(x, at, mine.weights[rows], w) for x, mine, w in layers]


def _float_accuracy(bundle: Bundle, program: LearningProgram, test: Features, weights: Sequence[Array], how: Readout) -> float:
    from snncompile.online.chain import run_chain  # noqa: PLC0415 - torch

    return float(accuracy(decide(run_chain(torch_stages(program, bundle.graph), test.spikes, weights), how), test.labels) or 0.0)


def _lava(
    request: Request, bundle: Bundle, program: LearningProgram, taught: Features, ours: Learned, progress: Progress
) -> claims.BitRecord:
    from snncompile.backends.lava.interpreter import find_interpreter  # noqa: PLC0415

    find_interpreter(progress.phase)
    progress.phase("learning on Lava's simulator")
    return claims.compare_lava(
        program, bundle.graph, bundle.schedule, bundle.plan_folder, taught.payloads, taught.labels, ours, timeout_s=request.timeout,
        activity=taught.activity, progress=progress.count, preparing=progress.phase,
    )  # fmt: skip


def affordable(bundle: Bundle, program: LearningProgram, timeout: float) -> int:
    """How many samples Lava learns in half the time limit, by what a hardware step was measured to cost on one busy core."""
    processes = len(bundle.populations) + 3 + 3 * len(program.layers)
    return max(1, int(timeout / 2 / (PROCESS_SECONDS * processes * program.time(bundle.schedule).hardware_steps(1))))


__all__ = ["Request", "verify_learning"]

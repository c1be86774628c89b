"""``verify --learning``: the plastic layer on a stream, in three ways: Lava, the integer engine, and PyTorch's online rule."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snncompile import files
from snncompile.backends.bundle import Bundle, read_bundle
from snncompile.cli import show
from snncompile.cli.progress import Progress
from snncompile.cli.work.plastic import Features, features, learning_of, split
from snncompile.cli.work.request import bundle_data
from snncompile.errors import Diagnostic
from snncompile.ir.graph import Array
from snncompile.ir.integer import IntNeuron
from snncompile.learning.program import LearningProgram
from snncompile.learning.stream import Learned, learn
from snncompile.learning.widths import Widths
from snncompile.report.learning import print_learning
from snncompile.target import load_target
from snncompile.verify import learning as claims

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
        stream, held = split(given) if request.test is None else (given, bundle_data(bundle, request.test))
        taught, test = features(bundle, stream, progress), features(bundle, held, progress)
        ours = _learn(bundle, program, taught, progress)
        bits = _lava(request, bundle, program, taught, ours, progress) if request.lava else None
        floated, bias = _pytorch(bundle, program, taught, ours, progress)
    how = bundle.manifest["readout"]
    update = claims.compare_updates(program, ours, floated)
    accuracies = {
        "accuracy_on_chip": claims.chip_accuracy(program, bundle.graph, test.spikes, test.labels, ours.weights[-1], how),
        "accuracy_pytorch": claims.float_accuracy(test.spikes, test.labels, floated[-1], bias, program.gain, how),
        "accuracy_no_learning": claims.chip_accuracy(program, bundle.graph, test.spikes, test.labels, ours.weights[0], how),
    }
    found = claims.to_json(bits, update, accuracies, len(taught.labels))
    failures: list[Diagnostic] = [] if bits is None or bits.failure is None else [bits.failure]
    if request.as_json:
        show.json_line({"ok": not failures, "learning": found, "failures": [{"code": d.code, "message": d.message} for d in failures]})
    else:
        print_learning(bundle.manifest["learning"], found, given.source, held_out=len(test.labels))
    if failures:
        show.diagnostics(failures)
    return 1 if failures else 0


def _learn(bundle: Bundle, program: LearningProgram, taught: Features, progress: Progress) -> Learned:
    progress.phase("learning with the integer engine")
    widths = Widths.of(load_target(bundle.manifest["target"]["name"]))
    return learn(program, bundle.graph, bundle.schedule, widths, taught.spikes, taught.labels, progress=progress.count)


def _lava(
    request: Request, bundle: Bundle, program: LearningProgram, taught: Features, ours: Learned, progress: Progress
) -> claims.BitRecord:
    from snncompile.backends.lava.interpreter import find_interpreter  # noqa: PLC0415

    find_interpreter(progress.phase)
    progress.phase("learning on Lava's simulator")
    part = taught.first(request.samples or min(len(taught.labels), affordable(bundle, program, request.timeout)))
    return claims.compare_lava(
        program, bundle.graph, bundle.schedule, bundle.plan_folder, part.payloads, part.labels, ours, timeout_s=request.timeout,
        progress=progress.count, preparing=progress.phase,
    )  # fmt: skip


def affordable(bundle: Bundle, program: LearningProgram, timeout: float) -> int:
    """How many samples Lava learns in half the time limit, by what a hardware step was measured to cost on one busy core."""
    processes = len(bundle.populations) + 4
    return max(1, int(timeout / 2 / (PROCESS_SECONDS * processes * program.time(bundle.schedule).hardware_steps(1))))


def _pytorch(bundle: Bundle, program: LearningProgram, taught: Features, ours: Learned, progress: Progress) -> tuple[Array, Array]:
    """Weights of the unfolded layer by PyTorch's online rule on the same spikes, (N + 1, post, pre), and the bias."""
    from snncompile.online.stream import learn_stream  # noqa: PLC0415 - torch

    progress.phase("learning with PyTorch's online rule")
    neuron = bundle.graph.by_name[program.population]
    assert isinstance(neuron, IntNeuron)
    bias = np.broadcast_to(neuron.bias[0] * neuron.v_scale, ours.weights.shape[1:2])
    start = ours.weights[0].astype(np.float64) * program.lsb / program.gain
    floated = learn_stream(
        taught.spikes, taught.labels, start, bias, gain=program.gain, leak=program.leak, rate=program.rate, loss=program.error.loss,
        progress=progress.count,
    )  # fmt: skip
    return floated, bias


__all__ = ["Request", "verify_learning"]

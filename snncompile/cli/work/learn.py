"""``learn``: a stream through the plastic layers, and what they learned as a bundle."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snncompile import files
from snncompile.backends.bundle import Bundle, check_destination, read_bundle
from snncompile.backends.lava.backend import run_plan
from snncompile.cli import show
from snncompile.cli.data import Data
from snncompile.cli.progress import Progress
from snncompile.cli.work.learned import Saver, seen_before
from snncompile.cli.work.plastic import check_stream, features, heard, learning_of
from snncompile.cli.work.request import bundle_data
from snncompile.ir.graph import Array
from snncompile.learning.state import LearningState, no_middle, nothing_left
from snncompile.learning.stream import learn
from snncompile.learning.widths import Widths
from snncompile.report.summary import facts, put
from snncompile.report.words import count, percent
from snncompile.signals import Heard
from snncompile.target import Target, load_target
from snncompile.verify.readout import accuracy, decide

CLIPPED = 0.01
"""Share of weights at the limit of their range from which on it is said."""
CHUNK = 256
"""Samples that pass the frozen layers together."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """The command line of ``learn``."""

    bundle: Path
    data: Path
    output: Path
    backend: str
    go_on: bool
    reload: bool
    save_every: float
    timeout: float
    as_json: bool
    quiet: bool


@dataclass(frozen=True, eq=False)
class _Taught:
    """Chip weights by layer before and after, the readout's payloads (N, T, classes), the state at the end (not on Lava), and the signal
    that ended the stream early, if one did."""

    before: Sequence[Array]
    after: Sequence[Array]
    logits: Array
    state: LearningState | None
    ended_by: int | None = None


def learn_bundle(request: Request) -> int:
    """Run the command; the exit status."""
    started = time.monotonic()
    files.check_file(request.data)
    check_destination(request.output)
    with Progress(quiet=request.quiet) as progress:
        progress.phase("reading the bundle")
        source = read_bundle(request.bundle)
        learning_of(source)
        samples = bundle_data(source, request.data)
        state, first = _begin(request, source, samples)
        saver = Saver(source, request.output, samples, backend=request.backend, first=first)
        stream = samples.since(first)
        check_stream(source.graph, learning_of(source), stream)
        target = load_target(source.manifest["target"]["name"])
        if request.backend == "lava":
            taught = _on_lava(source, stream, request.timeout, progress)
        else:
            taught = _on_reference(source, stream, target, state, saver, request.save_every, progress)
        if taught.ended_by is None:
            progress.phase("writing the learned bundle")
            saver.finish(taught.after, taught.state)
        else:
            progress.phase("saving what was learned")
            assert taught.state is not None
            saver.keep(taught.after, taught.state, len(taught.logits))
    if taught.ended_by is not None:
        return _interrupted(request, saver, taught)
    moved = sum(int(np.count_nonzero(b != a)) for a, b in zip(taught.before, taught.after, strict=True))
    synapses, odd = sum(int(w.size) for w in taught.after), sum(int(np.count_nonzero(w % 2)) for w in taught.after)
    top = 2 ** Widths.of(target).weight - 1
    stuck = sum(int(np.count_nonzero(np.abs(w.astype(np.int64)) >= top)) for w in taught.after)
    right = accuracy(decide(taught.logits, source.manifest["readout"]), stream.y)
    outcome = {
        "ok": True, "bundle": str(request.output), "samples": len(stream), "samples_in_all": saver.total, "backend": request.backend,
        "synapses": synapses, "synapses_changed": moved, "odd_weights_rounded": odd, "weights_at_their_limit": stuck,
        "accuracy_while_learning": right, "seconds": round(time.monotonic() - started, 2),
    }  # fmt: skip
    if request.as_json:
        show.json_line(outcome)
    else:
        before = f", the {count(first)} before them were left out" if first else ""
        put(facts([
            ("learned", f"{count(moved)} of {count(synapses)} synapses changed over {count(len(stream))} samples{before}, "
                        f"on {request.backend}"),
            ("accuracy", "no sample has a label" if right is None else f"{percent(right)} of the samples were right when they came"),
            ("saved", f"{request.output}; {count(odd)} weights were odd and lost their lowest bit, which only learning sets"),
        ]))  # fmt: skip
    if stuck > CLIPPED * synapses:
        show.warn(f"{count(stuck)} of {count(synapses)} weights ended at the limit of their range: export with a larger --headroom")
    return 0


def _begin(request: Request, source: Bundle, samples: Data) -> tuple[LearningState | None, int]:
    """Where learning goes on, and how many samples of the file are left out."""
    state, first = (None if request.reload else source.learning_state), seen_before(source, samples)
    if request.backend == "lava" and state is not None:
        raise no_middle(str(request.bundle), state.samples)
    if request.go_on and request.reload:
        raise nothing_left(str(request.bundle), "begins anew with --reload")
    if request.go_on and (first is None or first == len(samples)):
        file = str(request.data)
        raise nothing_left(
            str(request.bundle), f"did not stop within {file}" if first is None else f"has seen all {count(first)} samples of {file}"
        )
    if first and first < len(samples) and not request.go_on:
        show.warn(
            f"{request.bundle} has already learned from the first {count(first)} samples of {request.data}; --continue leaves them out"
        )
    return state, (first or 0) if request.go_on else 0


def _on_reference(
    source: Bundle, stream: Data, target: Target, state: LearningState | None, saver: Saver, save_every: float, progress: Progress
) -> _Taught:
    """Chunk by chunk; a request to end is granted between two samples, and what was learned is saved every so many minutes."""
    program, graph, widths = learning_of(source), source.graph, Widths.of(target)
    before: list[Array] | None = None
    after: list[Array] = []
    logits: list[Array] = []
    done, due = 0, time.monotonic() + 60 * save_every
    progress.phase("learning on the integer engine")
    with Heard("ends after this sample; once more to end at once") as asked:
        while done < len(stream) and asked.number is None:
            try:
                taught = heard(graph, program, stream.part(done, done + CHUNK), lambda *_: _granted(asked))
            except _Granted:
                break
            ours = learn(
                program, graph, source.schedule, widths, taught.spikes, taught.labels, activity=taught.activity, state=state,
                stop=lambda: asked.number is not None or time.monotonic() >= due,  # noqa: B023 - called at once
                progress=lambda n, _: progress.count(done + n, len(stream)),  # noqa: B023
            )  # fmt: skip
            state, after = ours.state, [x.weights[-1] for x in ours.layers]
            before = before or [x.weights[0] for x in ours.layers]
            logits.append(ours.logits)
            done += len(ours.logits)
            if time.monotonic() >= due and done < len(stream) and asked.number is None:
                saver.keep(after, state, done)
                due = time.monotonic() + 60 * save_every
    if asked.number is not None and not done:
        signal.raise_signal(asked.number)
    return _Taught(before or [], after, np.concatenate(logits), state, asked.number if done < len(stream) else None)


class _Granted(Exception):  # noqa: N818 - no error
    """A request to end was heard, and nothing is half done."""


def _granted(asked: Heard) -> None:
    if asked.number is not None:
        raise _Granted


def _on_lava(source: Bundle, stream: Data, timeout: float, progress: Progress) -> _Taught:
    program, taught = learning_of(source), features(source, stream, progress)
    progress.phase("learning on Lava")
    traces = run_plan(
        source.plan_folder, taught.payloads, timeout_s=timeout, progress=progress.count, preparing=progress.phase, targets=taught.labels,
        activity=taught.activity,
    )  # fmt: skip
    assert traces.learned is not None
    weights = [traces.learned.layers[x.population].weights for x in program.layers]
    return _Taught([w[0] for w in weights], [w[-1] for w in weights], np.asarray(traces[program.readout].payload), None)


def _interrupted(request: Request, saver: Saver, taught: _Taught) -> int:
    """Say where what was learned is, and how to go on; the exit status."""
    assert taught.ended_by is not None
    kept, name = saver.kept, signal.Signals(taught.ended_by).name
    assert kept is not None
    seen = saver.first + len(taught.logits)
    if request.as_json:
        show.json_line({
            "ok": False, "interrupted": name, "bundle": str(kept), "samples": len(taught.logits), "samples_of_the_file": seen,
            "samples_in_all": saver.total,
        })  # fmt: skip
    how = f"snncompile learn {kept} --data {request.data} --continue -o {request.output}"
    show.say(f"{'interrupted' if name == 'SIGINT' else f'ended by {name}'} after {count(seen)} of {count(saver.of)} samples\n"
             f"  what was learned is in {kept}; go on with\n  {how}")  # fmt: skip
    return 128 + taught.ended_by


__all__ = ["Request", "learn_bundle"]

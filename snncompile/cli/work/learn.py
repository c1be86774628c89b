"""``learn``: a stream through the plastic layers, and what they learned as a bundle."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from snncompile import files
from snncompile.backends.bundle import Bundle, check_destination, open_draft, read_bundle
from snncompile.backends.lava.backend import run_plan
from snncompile.cli import show
from snncompile.cli.progress import Progress
from snncompile.cli.work.plastic import Features, features, learning_of
from snncompile.cli.work.request import bundle_data
from snncompile.ir.graph import Array, Graph, Op
from snncompile.ir.linear_ops import Linear
from snncompile.learning.stream import learn
from snncompile.learning.widths import Widths
from snncompile.numerics import half_even
from snncompile.report.html import render
from snncompile.report.summary import facts, put
from snncompile.report.words import count, percent
from snncompile.target import Target, load_target
from snncompile.verify.readout import accuracy, decide

CLIPPED = 0.01
"""Share of weights at the limit of their range from which on it is said."""


def learn_bundle(*, bundle: Path, data: Path, output: Path, backend: str, timeout: float, as_json: bool, quiet: bool) -> int:
    """Run the command; the exit status."""
    started = time.monotonic()
    files.check_file(data)
    check_destination(output)
    with Progress(quiet=quiet) as progress:
        progress.phase("reading the bundle")
        source = read_bundle(bundle)
        learning_of(source)
        samples = bundle_data(source, data)
        taught = features(source, samples, progress)
        target = load_target(source.manifest["target"]["name"])
        weights, outputs = _run(source, taught, target, backend, timeout, progress)
        graph, rounded = learned_graph(source, [w[-1] for w in weights], target)
        with open_draft(output) as draft:
            progress.phase("writing the learned bundle")
            draft.refill(source, graph)
            learned = {"samples": len(samples), "sha256": samples.sha256, "backend": backend, "odd_weights_rounded": rounded}
            draft.note(learned=[*source.manifest["settings"].get("learned", []), learned])
            draft.seal(None, {"report.html": render(draft.seal(None))})
            draft.publish()
    moved = sum(int(np.count_nonzero(w[-1] != w[0])) for w in weights)
    synapses = sum(int(w[-1].size) for w in weights)
    top = 2 ** Widths.of(target).weight - 1
    stuck = sum(int(np.count_nonzero(np.abs(w[-1].astype(np.int64)) >= top)) for w in weights)
    right = accuracy(decide(outputs, source.manifest["readout"]), taught.labels)
    outcome = {
        "ok": True, "bundle": str(output), "samples": len(samples), "backend": backend, "synapses": synapses,
        "synapses_changed": moved, "odd_weights_rounded": rounded, "weights_at_their_limit": stuck, "accuracy_while_learning": right,
        "seconds": round(time.monotonic() - started, 2),
    }  # fmt: skip
    if as_json:
        show.json_line(outcome)
    else:
        put(facts([
            ("learned", f"{count(moved)} of {count(synapses)} synapses changed over {count(len(samples))} samples, on {backend}"),
            ("accuracy", "no sample has a label" if right is None else f"{percent(right)} of the samples were right when they came"),
            ("saved", f"{output}; {count(rounded)} weights were odd and lost their lowest bit, which only learning sets"),
        ]))  # fmt: skip
    if stuck > CLIPPED * synapses:
        show.warn(f"{count(stuck)} of {count(synapses)} weights ended at the limit of their range: export with a larger --headroom")
    return 0


def _run(bundle: Bundle, taught: Features, target: Target, backend: str, timeout: float, progress: Progress) -> tuple[list[Array], Array]:
    """Chip weights at first and later (K, post, pre) by layer, and the readout's payloads (N, T, post)."""
    program = learning_of(bundle)
    progress.phase(f"learning on {'Lava' if backend == 'lava' else 'the integer engine'}")
    if backend == "reference":
        ours = learn(
            program, bundle.graph, bundle.schedule, Widths.of(target), taught.spikes, taught.labels, activity=taught.activity,
            progress=progress.count,
        )  # fmt: skip
        return [x.weights for x in ours.layers], ours.logits
    traces = run_plan(
        bundle.plan_folder, taught.payloads, timeout_s=timeout, progress=progress.count, preparing=progress.phase, targets=taught.labels,
        activity=taught.activity,
    )  # fmt: skip
    assert traces.learned is not None
    return [traces.learned.layers[x.population].weights for x in program.layers], np.asarray(traces[program.readout].payload)


def learned_graph(bundle: Bundle, weights: Sequence[Array], target: Target) -> tuple[Graph, int]:
    """The bundle's graph with learned chip weights, by layer, and how many of them were odd.

    The chip is loaded with even weights (8 bits and a sign); the lowest bit is set by learning alone, so it is rounded away, to even.
    """
    layers = zip(learning_of(bundle).layers, weights, strict=True)
    learned = {
        x.synapse: np.clip(half_even(w.astype(np.int64) / 2), target.weight.low, target.weight.high).astype(np.int64) for x, w in layers
    }

    def change(op: Op) -> Op:
        return replace(op, weight=learned[op.name]) if isinstance(op, Linear) and op.name in learned else op

    return bundle.graph.map_nodes(change), sum(int(np.count_nonzero(w % 2)) for w in weights)


__all__ = ["learn_bundle", "learned_graph"]

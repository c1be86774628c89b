"""What a stream taught, as bundles: one when it is through, one on the way that an interrupted run leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from snncompile.backends.bundle import Bundle, check_destination, discard, open_draft
from snncompile.cli.data import Data
from snncompile.cli.work.plastic import learning_of
from snncompile.ir.graph import Array, Graph, Op
from snncompile.ir.linear_ops import Linear
from snncompile.learning.state import LearningState
from snncompile.numerics import half_even
from snncompile.report.html import render
from snncompile.signals import postponed
from snncompile.target import Target, load_target


class Saver:
    """Writes what was learned: ``keep`` on the way, beside the output, ``finish`` to the output itself.

    first  samples of the file that were left out         total  samples that the last bundle has seen in all, of any file
    kept   the bundle on the way, if one was written; it never takes the output's place, nor that of the bundle that was read
    """

    def __init__(self, source: Bundle, output: Path, data: Data, *, backend: str, first: int) -> None:
        self.source, self.output, self.data, self.backend, self.first = source, output, data, backend, first
        self.of, self.total = len(data), 0
        self.kept: Path | None = None
        self._partial = partial(output, source.path)
        check_destination(self._partial)

    def keep(self, weights: Sequence[Array], state: LearningState, seen: int) -> None:
        """Save the way so far, ``seen`` samples of the file behind those that were left out."""
        self._write(self._partial, weights, state, seen)
        self.kept = self._partial

    def finish(self, weights: Sequence[Array], state: LearningState | None) -> None:
        """Save the whole, and remove what was saved on the way."""
        with postponed():
            self._write(self.output, weights, state, self.of - self.first)
            if self.kept is not None:
                discard(self.kept)

    def _write(self, path: Path, weights: Sequence[Array], state: LearningState | None, seen: int) -> None:
        graph, rounded = learned_graph(self.source, weights, load_target(self.source.manifest["target"]["name"]))
        self.total = seen if state is None else state.samples
        row: dict[str, Any] = {
            "samples": seen, "first": self.first, "of": self.of, "sha256": self.data.sha256, "backend": self.backend,
            "odd_weights_rounded": rounded,
        }  # fmt: skip
        with open_draft(path) as draft:
            draft.refill(self.source, graph, state)
            draft.note(learned=[*self.source.manifest["settings"].get("learned", []), row])
            draft.seal(None, {"report.html": render(draft.seal(None))})
            draft.publish()


def partial(output: Path, source: Path) -> Path:
    """Where the way is saved: OUT.partial.snn beside OUT.snn, with a number where that is the bundle that was read."""
    names = (f"{output.name.removesuffix(output.suffix)}.partial{n}{output.suffix}" for n in ("", "-2"))
    return next(p for p in map(output.with_name, names) if p.absolute() != source.absolute())


def seen_before(bundle: Bundle, data: Data) -> int | None:
    """How many samples of this very file the bundle learned from last, from its first one on; None if that was another file."""
    rows = bundle.manifest["settings"].get("learned", [])
    if not rows or rows[-1]["sha256"] != data.sha256:
        return None
    return int(rows[-1].get("first", 0)) + int(rows[-1]["samples"])


def learned_graph(bundle: Bundle, weights: Sequence[Array], target: Target) -> tuple[Graph, int]:
    """The bundle's graph with learned chip weights, by layer, and how many of them were odd.

    The chip is loaded with even weights (8 bits and a sign); the lowest bit is set by learning alone, so it is rounded away, to even.
    """
    layers = zip(learning_of(bundle).layers, weights, strict=True)
    learned = {
        x.change: np.clip(half_even(w.astype(np.int64) / 2), target.weight.low, target.weight.high).astype(np.int64) for x, w in layers
    }

    def change(op: Op) -> Op:
        return replace(op, weight=learned[op.name]) if isinstance(op, Linear) and op.name in learned else op

    return bundle.graph.map_nodes(change), sum(int(np.count_nonzero(w % 2)) for w in weights)


__all__ = ["Saver", "learned_graph", "partial", "seen_before"]

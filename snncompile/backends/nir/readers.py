"""Which tools will misread a NIR file, found by reading it as they do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from snncompile.capture.nir.build import import_raw
from snncompile.capture.nir.dialects import DIALECTS
from snncompile.capture.nir.nodes import RawGraph, RawNode
from snncompile.capture.nir.read import from_memory
from snncompile.errors import CompileError, Diagnostic, Severity
from snncompile.ir.graph import Array, Graph
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Input
from snncompile.ir.neuron import Neuron

READERS = ("sinabs-reader", "norse-reader", "snntorch-reader", "spikingjelly", "lava")
COMPARED = ("leak", "gain", "bias", "theta", "reset_amount", "reset_value", "alpha", "v_min", "v_init", "reset_keep", "adapt_jump")
SAMPLES = 2


@dataclass(frozen=True, kw_only=True)
class Misreading:
    """What one tool makes of a file.

    refused   why it cannot be followed at all; else empty      fields  by neuron, the fields that it takes otherwise
    differing how many of ``compared`` values of the outputs differ on seeded random samples
    """

    reader: str
    refused: str
    fields: dict[str, tuple[str, ...]]
    differing: int
    compared: int

    def diagnostic(self) -> Diagnostic:
        """The warning."""
        if self.refused:
            return Diagnostic("SNN169", f"{self.reader} cannot take this file: {self.refused}", severity=Severity.WARNING)
        listed = [f"it takes {', '.join(names)} of '{node}' otherwise" for node, names in list(self.fields.items())[:4]]
        more = [f"and {len(self.fields) - 4} more populations"] if len(self.fields) > 4 else []
        share = f"{self.differing} of {self.compared} output values differ on random samples"
        return Diagnostic("SNN169", f"{self.reader} misreads this file: {share}", notes=(*listed, *more), severity=Severity.WARNING)


def misreadings(graph: Graph, made: Any) -> list[Misreading]:
    """Read ``made``, the NIR graph of ``graph``, by each tool's dialect; those that give the same network are left out."""
    bare = _without_metadata(from_memory(made, graph.name))
    found = []
    for name in READERS:
        tool = DIALECTS[name].tool
        try:
            other = import_raw(bare, steps=graph.steps, dialect=name).graph
        except CompileError as e:
            found.append(Misreading(reader=tool, refused=e.diagnostics[0].message, fields={}, differing=0, compared=0))
            continue
        fields = {n.name: _apart(n, other.by_name.get(n.name), graph.shapes[n.name]) for n in graph.of(Neuron)}
        fields = {node: names for node, names in fields.items() if names}
        if fields:
            differing, compared = _effect(graph, other)
            found.append(Misreading(reader=tool, refused="", fields=fields, differing=differing, compared=compared))
    return found


def _without_metadata(graph: RawGraph) -> RawGraph:
    nodes: dict[str, RawNode | RawGraph] = {
        k: _without_metadata(n) if isinstance(n, RawGraph) else replace(n, metadata={}) for k, n in graph.nodes.items()
    }
    return replace(graph, nodes=nodes, metadata={})


def _apart(mine: Neuron, other: object, shape: tuple[int, ...]) -> tuple[str, ...]:
    if not isinstance(other, Neuron):
        return ("everything",)
    used = {"reset_amount": mine.reset.value == "subtract", "reset_value": mine.reset.value == "set", "theta": mine.spiking}
    names = [name for name in ("fire", "reset", "max_spikes", "late_current") if getattr(mine, name) != getattr(other, name)]
    for name in COMPARED:
        if used.get(name, True) and not _same(getattr(mine, name), getattr(other, name), shape):
            names.append(name)
    return tuple(names)


def _same(a: Array | None, b: Array | None, shape: tuple[int, ...]) -> bool:
    if a is None or b is None:
        return a is b
    steps = max(len(a) if a.ndim > len(shape) else 1, len(b) if b.ndim > len(shape) else 1)
    full = (steps, *shape)
    return np.allclose(np.broadcast_to(a, full), np.broadcast_to(b, full), rtol=1e-6, atol=1e-9)


def _effect(graph: Graph, other: Graph) -> tuple[int, int]:
    rng = np.random.default_rng(0)
    x = {}
    for n in graph.of(Input):
        low, high = (0.0, 1.0) if n.low is None or n.high is None else (n.low, n.high)
        x[n.name] = rng.uniform(low, high, (SAMPLES, graph.steps, *n.size))
    names = {a.name: b.name for a, b in zip(graph.of(Input), other.of(Input), strict=True)}
    mine = interpret(graph, x)
    theirs = interpret(other, {names[k]: v for k, v in x.items()})
    pairs = [(mine[a], theirs[b].reshape(mine[a].shape)) for a, b in zip(graph.outputs, other.outputs, strict=True)]
    return sum(int(np.count_nonzero(~np.isclose(a, b, rtol=1e-5, atol=1e-7))) for a, b in pairs), sum(a.size for a, _ in pairs)


__all__ = ["READERS", "Misreading", "misreadings"]

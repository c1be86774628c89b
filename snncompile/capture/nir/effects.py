"""What each decision about a NIR file changes: the network runs again under the conventions that other tools have in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from snncompile.capture.nir.build import Imported
from snncompile.capture.nir.choices import Question
from snncompile.capture.nir.conventions import shown
from snncompile.capture.nir.dialects import DIALECTS
from snncompile.errors import CompileError
from snncompile.ir.graph import Array, Graph
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Conv2d, Input, Linear
from snncompile.ir.neuron import Neuron
from snncompile.ledger import Decision

SAMPLES, LOUDER, BUSY = 4, 4, 10
"""Random samples grow by a factor until one neuron in so many fires."""
LARGEST = 2_000_000_000
"""Products of weights and inputs in all runs together; beyond it nothing is measured, and the line says so."""
NOBODYS = {"reset": ("none",), "current": ("late",)}
"""Conventions that no tool of ours has."""
Values = Mapping[str, Array]


def measure(imported: Imported, x: Array | None) -> tuple[Decision, ...]:
    """The decisions, each with its measured effect where it has alternatives."""
    if imported.again is None or not imported.questions:
        return imported.decisions
    runs = 1 + len(DIALECTS) + sum(len(_alternatives(q)) for q in imported.questions)
    graph = imported.graph
    given, on = (_random(graph), "random samples") if x is None else (np.asarray(x[:SAMPLES], dtype=np.float64), "samples")
    on = f"on {len(given)} {on}"
    products = _products(graph) * graph.steps * len(given) * runs
    if products > LARGEST:
        text = f"not measured: {runs} runs {on} are {products:.1e} products"
        return tuple(replace(d, effect=text) if _asked(d, imported) else d for d in imported.decisions)
    base = _run(graph, given)
    for _ in range(3 if x is None else 0):
        sent = [base[name] for name in _spiking(graph)]
        if not sent or sum(np.count_nonzero(s) for s in sent) * BUSY > sum(s.size for s in sent):
            break
        given = given * LOUDER
        base = _run(graph, given)
    questions = {q.decision: q for q in imported.questions}
    found = []
    for d in imported.decisions:
        if d in questions:
            q = questions[d]
            effects = [(value, _other(imported, base, given, None, {f"{p}.{q.key}": value for p in q.paths})) for value in _alternatives(q)]
            d = replace(d, effect=_listed(on, effects))  # noqa: PLW2901
        elif _asked(d, imported):
            others = [(name, _other(imported, base, given, name, {})) for name in DIALECTS if name != d.value]
            d = replace(d, effect=_listed(on, others))  # noqa: PLW2901
        found.append(d)
    return tuple(found)


def _asked(d: Decision, imported: Imported) -> bool:
    return d.what == "NIR dialect" or any(d == q.decision for q in imported.questions)


def _alternatives(q: Question) -> list[str]:
    """What the dialects say in the place of an answer, in their order."""
    found: dict[str, None] = {}
    for dialect in DIALECTS.values():
        for value in (getattr(dialect.conventions, q.key), *(row[q.key] for row in dialect.by_type.values() if q.key in row)):
            found.setdefault(shown(q.key, value))
    found |= dict.fromkeys(NOBODYS.get(q.key, ()))
    return [value for value in found if value != q.value]


def _other(imported: Imported, base: Values, given: Array, dialect: str | None, settings: Mapping[str, str]) -> str:
    """How much changes, in words."""
    assert imported.again is not None
    try:
        graph = imported.again(dialect, settings)
    except CompileError as e:
        return f"refused ({e.code})"
    return _difference(imported.graph, base, _run(graph, given))


def _difference(graph: Graph, base: Values, other: Values) -> str:
    names = [n for n in _spiking(graph) if n in other]
    if names:
        changed = sum(int(np.count_nonzero(base[n] != other[n])) for n in names)
        events = sum(int(np.count_nonzero((base[n] != 0) | (other[n] != 0))) for n in names)
        return "nothing" if not changed else f"{changed / events:.1%} of {events:,} spikes"
    label = next(iter(graph.outputs))
    one, two = base[f"output {label}"], other.get(f"output {label}")
    if two is None or two.shape != one.shape:
        return "the output"
    size = max(float(np.abs(one).max(initial=0)), 1e-30)
    moved = float(np.abs(one - two).max(initial=0)) / size
    return f"outputs by {moved:.1e} relative" if moved else "nothing"


def _listed(on: str, effects: list[tuple[str, str]]) -> str:
    """``on 4 samples ge changes nothing, zero 12.0% of 130 spikes``; nothing where there is no alternative."""
    return f"{on}: " + ", ".join(f"{value} changes {what}" if "refused" not in what else f"{value} is {what}" for value, what in effects)


def _spiking(graph: Graph) -> list[str]:
    return [n.name for n in graph.of(Neuron) if n.spiking]


def _run(graph: Graph, given: Array) -> Values:
    (source,) = graph.of(Input)[:1]
    names = [n.name for n in graph.of(Neuron)]
    inputs = {n.name: given if n is source else np.zeros((len(given), 1, *n.size)) for n in graph.of(Input)}
    seen = interpret(graph, inputs, record=names)
    return {**{n: seen[n] for n in names}, **{f"output {label}": seen[label] for label in graph.outputs}}


def _random(graph: Graph) -> Array:
    (source,) = graph.of(Input)[:1]
    low, high = (0.0, 1.0) if source.low is None or source.high is None else (source.low, source.high)
    return np.asarray(np.random.default_rng(0).uniform(low, high, (SAMPLES, graph.steps, *source.size)))


def _products(graph: Graph) -> int:
    total = sum(prod(graph.shape(n.name)) for n in graph.nodes)
    total += sum(n.weight.size for n in graph.of(Linear))
    return total + sum(n.weight.size * prod(graph.shape(n.name)[1:]) for n in graph.of(Conv2d))


__all__ = ["measure"]

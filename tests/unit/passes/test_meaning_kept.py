"""Passes keep the meaning: judged here with ``overrides``, independently of the evidence that the manager collects."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import graphs, random_graph, random_input

from snncompile.ir.graph import Graph, validate
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Input
from snncompile.ir.neuron import Neuron, Reset
from snncompile.ir.population import ports
from snncompile.passes import DEFAULT, Pass, check_population_form, run_passes
from snncompile.passes.lift import DiagonalToAffine, PoolToConv
from snncompile.passes.linear_loops import BreakLinearLoops
from snncompile.passes.max_pool import LowerMaxPool
from snncompile.passes.prune import Prune

PASSES = tuple({p.name: p for part in DEFAULT for p in (part if isinstance(part, tuple) else (part,))}.values())
PREPARE = (Prune(), LowerMaxPool(), BreakLinearLoops(), PoolToConv(), DiagonalToAffine())


def assert_same_membranes(before: Graph, after: Graph, x: dict[str, np.ndarray]) -> None:
    """Every population that both have, fed with the payloads of the first, has the same membranes, and so have the outputs."""
    names = [n.name for n in before.of(Neuron) if n.name in after.by_name]
    refs = [n + port for n in names for port in ("", ".m", ".v")]
    free = interpret(before, x, record=refs)
    fed = {r: free[r] for r in refs}
    first = interpret(before, x, record=refs, overrides=fed)
    second = interpret(after, x, record=refs, overrides=fed)
    for n in names:
        flipped = np.cumsum(first[n] != second[n], axis=1) > 0 if before.by_name[n].spiking else np.zeros(first[n].shape, bool)
        clean = np.ones(first[n].shape, bool)
        clean[:, 1:] = ~flipped[:, :-1]
        m = first[f"{n}.m"]
        later = as_before(second[f"{n}.m"], before.by_name[n], after.by_name[n])
        assert np.abs(later - m)[clean].max(initial=0.0) <= 1e-9 * max(np.abs(m).max(), 1e-300), n
    for label, ref in before.outputs.items():
        if ref not in refs:
            scale = max(np.abs(first[label]).max(), 1e-300)
            assert np.abs(second[label] - first[label]).max() <= 1e-9 * scale, label


def as_before(m: np.ndarray, before: Neuron, after: Neuron) -> np.ndarray:
    """A membrane (N, T, *shape) in the units of before: divided by a gain of each step, like its thresholds, or, without a state,
    counted from the threshold."""
    first, second = (n.theta.reshape(len(n.theta), *(1,) * (m.ndim - 1 - n.theta.ndim), *n.theta.shape[1:]) for n in (before, after))
    if before.reset is Reset.STATELESS and before.grid:
        return m + first - second
    return m * (first / second) if before.spiking and np.all(first > 0) and np.all(second > 0) else m


@pytest.mark.parametrize("step", PASSES, ids=lambda p: p.name)
@settings(max_examples=25, deadline=None)
@given(graph=graphs(), seed=st.integers(0, 9))
def test_every_pass_alone_keeps_all_membranes(step: Pass, graph, seed):
    for p in PREPARE:
        graph = p.run(graph)
    after = step.run(graph)
    validate(after)
    assert_same_membranes(graph, after, random_input(graph, seed))


@example(graph=random_graph(584, 8), seed=0)  # a gain of each step that divides a membrane
@settings(max_examples=120, deadline=None)
@given(graph=graphs(18), seed=st.integers(0, 9))
def test_every_random_graph_reaches_population_form_with_the_same_membranes(graph, seed):
    x = random_input(graph, seed)
    after, records = run_passes(graph, probe=x)
    check_population_form(after)
    assert_same_membranes(graph, after, x)
    for n in after.of(Neuron):
        assert ports(after, n)
        assert all(port.source.name in after.by_name for port in ports(after, n))
    assert all(r.membrane_error <= r.bound for r in records)
    assert [n.name for n in graph.of(Input)] == [n.name for n in after.of(Input)]


@settings(max_examples=20, deadline=None)
@given(graph=graphs(18))
def test_the_pipeline_is_idempotent_and_deterministic(graph):
    x = random_input(graph, 0)
    once, _ = run_passes(graph, probe=x)
    again, _ = run_passes(graph, probe=x)
    assert [(n.name, n.inputs, n.origin) for n in once.nodes] == [(n.name, n.inputs, n.origin) for n in again.nodes]
    twice, _ = run_passes(once, probe=x)
    assert {n.name for n in once.of(Neuron)} == {n.name for n in twice.of(Neuron)}

"""The sums of a residual stream read each other, where what they share is expensive and in one ratio."""

from dataclasses import replace

import numpy as np
import pytest

from snncompile.ir.graph import Dialect, Graph
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Add, Affine, Input, Linear
from snncompile.ir.neuron import Fire, Neuron, Reset, constant
from snncompile.passes.share_sums import ShareSums, summands


def neuron(name, source):
    zero = constant(0.0)
    return Neuron(
        name=name, inputs=(source,), fire=Fire.STEP_GE, reset=Reset.SUBTRACT, leak=constant(0.5), gain=constant(1.0), bias=zero,
        theta=constant(1.0), reset_amount=constant(1.0), reset_value=zero, v_init=zero,
    )  # fmt: skip


def stream(ratios, width=64, factor=None):
    """Currents c0, c1, ... added one after the other; sum k holds c0..ck, scaled by ``ratios[k]`` (of the first currents)."""
    g = np.random.default_rng(0)
    nodes = [Input(name="x", size=(width,))]
    nodes += [Linear(name=f"c{k}", inputs=("x",), weight=g.normal(size=(width, width))) for k in range(len(ratios) + 1)]
    for k, ratio in enumerate(ratios):
        refs = []
        for j in range(k + 2):
            scale = ratio if factor is None or (k, j) != (1, 0) else factor
            nodes.append(Affine(name=f"c{j}_{k}", inputs=(f"c{j}",), factor=np.array([[scale]]), shift=np.zeros((1, 1))))
            refs.append(f"c{j}_{k}")
        nodes += [Add(name=f"s{k}", inputs=tuple(refs)), neuron(f"n{k}", f"s{k}")]
    return Graph(name="g", dialect=Dialect.FLOAT, nodes=tuple(nodes), outputs={f"o{k}": f"n{k}" for k in range(len(ratios))}, steps=3)


def test_every_sum_reads_the_one_before_and_computes_the_same():
    graph = stream([1.0, 0.9, 0.8, 0.7])
    outcome = ShareSums().apply(graph)
    assert outcome.rewrites == 3
    sums = {n.name: n for n in outcome.graph.of(Add)}
    for k in (1, 2, 3):
        assert len(sums[f"s{k}"].inputs) == 2
        assert outcome.graph.node(sums[f"s{k}"].inputs[-1]).inputs == (f"s{k - 1}",)
        assert set(summands(sums[f"s{k}"], outcome.graph)) == {f"c{j}" for j in range(k + 2)}
    x = {"x": np.random.default_rng(1).uniform(-1, 1, (2, 3, 64))}
    refs = [f"n{k}.m" for k in range(4)]
    before, after = (interpret(g, x, record=refs) for g in (graph, outcome.graph))
    for ref in refs:
        np.testing.assert_allclose(after[ref], before[ref], rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "graph",
    [
        stream([1.0, 0.9], width=8),  # cheap currents are computed for each reader
        stream([1.0, 0.9], factor=0.8),  # not in one ratio
        stream([1.0, 0.9], factor=0.0),
    ],
)
def test_other_sums_stay(graph):
    assert ShareSums().apply(graph).graph is graph


def test_a_shift_or_a_factor_that_differs_between_steps_is_no_ratio():
    for change in ({"shift": np.ones((1, 1))}, {"factor": np.array([[1.0], [2.0], [3.0]])}):
        graph = stream([1.0, 0.9])
        graph = graph.map_nodes(lambda n, change=change: replace(n, **change) if n.name == "c0_0" else n)
        assert ShareSums().apply(graph).rewrites == 0


def test_of_two_equal_sums_one_reads_the_other():
    graph = stream([1.0])
    twin = [Add(name="t", inputs=("c0_0", "c1_0")), neuron("m", "t")]
    graph = graph.rebuild([*graph.nodes, *twin], {**graph.outputs, "again": "m"})
    outcome = ShareSums().apply(graph)
    assert outcome.rewrites == 1
    assert [n.name for n in outcome.graph.readers_of["s0"]] == ["t_s0", "n0"] or len(outcome.graph.readers_of["s0"]) == 2

"""Without input the integers fire when the real numbers do, although a leak is rounded."""

import numpy as np
from population_nets import TARGET, one_layer

from snncompile.ir import reference
from snncompile.ir.graph import Dialect, Graph
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Linear
from snncompile.ir.neuron import Fire, Neuron, Reset, constant
from snncompile.quantize import dequantise, quantize
from snncompile.quantize.background import farthest, settle

STEPS = 16


def silent_differences(seed):
    """Channels whose membrane comes to within a membrane LSB of the threshold at some step, without input."""
    rng = np.random.default_rng(seed)
    leak = np.exp(-0.1)
    reach = (1 - leak ** (np.arange(64) % STEPS + 1)) / (1 - leak)
    bias = (0.6 / reach * (1 + rng.uniform(-1, 1, 64) * 1e-6))[None]
    graph = one_layer(
        rng, inputs=60, outputs=64, steps=STEPS, spikes=False, fire=Fire.STEP_GT, reset=Reset.SET, leak=constant(leak), bias=bias,
        theta=constant(0.6),
    )  # fmt: skip
    result = quantize(graph, TARGET)
    silence = np.zeros((1, STEPS, 60))
    mine = reference.run(result.graph, {"x": silence.astype(np.int64)})["y"]
    theirs = interpret(dequantise(graph, result), {"x": silence}, overrides={"n": mine})["y"]
    return graph, result, int(np.count_nonzero(mine != theirs))


def test_a_silent_channel_fires_when_the_real_numbers_do():
    assert sum(silent_differences(seed)[2] for seed in range(10)) == 0


def test_without_the_moved_biases_some_would_not(monkeypatch):
    monkeypatch.setattr("snncompile.quantize.lower.settle", lambda real, whole, *_, **__: whole)
    assert sum(silent_differences(seed)[2] for seed in range(10)) > 0


def test_biases_move_by_a_few_membrane_lsbs_and_only_where_they_must(monkeypatch):
    silence = np.zeros((1, STEPS, 60))
    moved = [silent_differences(seed)[1].graph.by_name["n"] for seed in range(3)]
    monkeypatch.setattr("snncompile.quantize.lower.settle", lambda real, whole, *_, **__: whole)
    for seed, new in enumerate(moved):
        graph, result, _ = silent_differences(seed)
        apart = np.abs(new.bias - result.graph.by_name["n"].bias).reshape(-1)
        mine = reference.run(result.graph, {"x": silence.astype(np.int64)})["y"][0]
        others = (interpret(g, {"x": silence})["y"][0] for g in (graph, dequantise(graph, result)))
        wrong = np.any([(mine != other).any(axis=0) for other in others], axis=0)
        assert np.count_nonzero(apart) > 0
        assert not np.any(apart[~wrong])
        assert apart.max() <= farthest(0)


def test_a_population_that_fires_alike_already_is_left_as_it_is():
    graph, result, _ = silent_differences(0)
    whole, real = result.graph.by_name["n"], graph.by_name["n"]
    silence = np.zeros((STEPS, 64), dtype=np.int64)
    sent = interpret(graph, {"x": np.zeros((1, STEPS, 60))}, record=["n"])["n"][0]
    assert settle(real, whole, silence, sent, guard_bits=0) is whole


def deep(seed):
    """Two layers of spikes; the first fires without input, so that the second hears a background of it, and nothing else on a blank."""
    rng = np.random.default_rng(seed)
    first = one_layer(rng, inputs=8, outputs=24, steps=6, spikes=False, leak=constant(0.5), bias=rng.uniform(0.3, 0.9, (1, 24)))
    background = interpret(first, {"x": np.zeros((1, 6, 8))}, record=["n"])["n"][0]
    weight = rng.normal(size=(40, 24)) * 0.2
    current = background @ weight.T
    peak, v = np.zeros(40), np.zeros(40)
    for t in range(6):
        v = 0.5 * v + current[t]
        peak = np.maximum(peak, v)
    theta = np.where(peak > 0.1, peak * (1 + rng.uniform(-1, 1, 40) * 2e-3), 1.0)[None]  # the background just fires it, or just does not
    zero = constant(0.0)
    second = (
        Linear(name="f", inputs=("n",), weight=weight),
        Neuron(
            name="deep", inputs=("f",), fire=Fire.STEP_GE, reset=Reset.SUBTRACT, leak=constant(0.5), gain=constant(1.0),
            bias=np.zeros((1, 40)), theta=theta, reset_amount=theta, reset_value=zero, v_init=np.zeros(()),
        ),
        Linear(name="out_f", inputs=("deep",), weight=np.eye(40)),
        Neuron(
            name="out", inputs=("out_f",), fire=Fire.NONE, reset=Reset.STATELESS, leak=zero, gain=constant(1.0), bias=constant(0.0),
            theta=zero, reset_amount=zero, reset_value=zero, v_init=np.zeros(()),
        ),
    )  # fmt: skip
    nodes = (*(n for n in first.nodes if n.name in ("x", *first.by_name["n"].inputs, "n")), *second)
    return Graph(name="deep", dialect=Dialect.FLOAT, nodes=nodes, outputs={"y": "out"}, steps=6)


def background_differences(graph):
    result = quantize(graph, TARGET)
    blank = np.zeros((1, 6, 8))
    mine = reference.run(result.graph, {"x": blank.astype(np.int64)}, record=["n", "deep"])
    theirs = interpret(graph, {"x": blank}, record=["n", "deep"])
    assert np.array_equal(mine["n"], theirs["n"])
    return int(np.count_nonzero((mine["deep"] != theirs["deep"]).any(axis=1)))


def test_deeper_layers_follow_the_network_on_a_blank_sample(monkeypatch):
    graphs = [deep(seed) for seed in range(6)]
    settled = sum(map(background_differences, graphs))
    monkeypatch.setattr("snncompile.quantize.lower.settle", lambda real, whole, *_, **__: whole)
    plain = sum(map(background_differences, graphs))
    assert plain >= 10
    assert settled <= plain / 5

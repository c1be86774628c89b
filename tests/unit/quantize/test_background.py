"""Without input the integers fire when the real numbers do, although a leak is rounded."""

import numpy as np
from population_nets import TARGET, one_layer

from snncompile.ir import reference
from snncompile.ir.interpret import interpret
from snncompile.ir.neuron import Fire, Reset, constant
from snncompile.quantize import dequantise, quantize
from snncompile.quantize.background import FARTHEST, settle

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
    monkeypatch.setattr("snncompile.quantize.lower.settle", lambda real, whole, steps: whole)
    assert sum(silent_differences(seed)[2] for seed in range(10)) > 0


def test_biases_move_by_a_few_membrane_lsbs_and_only_where_they_must(monkeypatch):
    moved = [silent_differences(seed)[1].graph.by_name["n"] for seed in range(5)]
    monkeypatch.setattr("snncompile.quantize.lower.settle", lambda real, whole, steps: whole)
    kept = [silent_differences(seed)[1].graph.by_name["n"] for seed in range(5)]
    apart = np.concatenate([np.abs(a.bias - b.bias).reshape(-1) for a, b in zip(moved, kept, strict=True)])
    assert 0 < np.count_nonzero(apart) < len(apart) / 2
    assert apart.max() <= FARTHEST


def test_a_population_that_fires_alike_already_is_left_as_it_is():
    graph, result, _ = silent_differences(0)
    whole = result.graph.by_name["n"]
    assert settle(graph.by_name["n"], whole, STEPS) is whole

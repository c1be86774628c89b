"""The whole learning program on Lava's runtime: spikes, logits, third factors and weights, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from random_rules import WIDTHS
from tiny_learner import (
    INPUTS,
    STEPS,
    DeepLearner,
    NormLearner,
    TinyLearner,
    activities,
    compiled_learner,
    deep_learner,
    learner,
    spikes,
    stream,
)

from snncompile.backends.lava.backend import run_plan
from snncompile.backends.lava.learning_plan import add_learning
from snncompile.backends.lava.plan import write_plan
from snncompile.errors import CompileError
from snncompile.learning import Plastic
from snncompile.learning.stream import learn


def check_equal(folder: Path, plastic: Plastic, samples: int, seed: int = 0) -> int:
    """Lava and the engine on a stream, every bit; the hardware steps."""
    program, graph = plastic.program, plastic.result.graph
    x, y = stream(samples, seed)
    if program.source == graph.nodes[0].name:  # the layer reads the input itself
        x = np.random.default_rng(seed).integers(0, 2, (samples, STEPS, INPUTS))
    sent, activity = spikes(plastic, x), activities(plastic, samples)
    ours = learn(program, graph, plastic.schedule, WIDTHS, sent, y, activity=activity)
    write_plan(folder, graph, plastic.schedule)
    add_learning(folder, program)
    found = run_plan(folder, {graph.nodes[0].name: x}, timeout_s=600, targets=y, activity=activity)
    lava = found.learned
    assert lava is not None
    assert lava.at == ours.at
    for layer, mine in zip(program.layers, ours.layers, strict=True):
        theirs = lava.layers[layer.population]
        np.testing.assert_array_equal(theirs.weights, mine.weights)
        np.testing.assert_array_equal(theirs.checks, mine.checks)
        np.testing.assert_array_equal(theirs.sent, mine.sent)
        assert np.mean(mine.weights[-1] != mine.weights[0]) > 0.05
    np.testing.assert_array_equal(found[program.readout].payload, ours.logits)
    if program.source in found:
        np.testing.assert_array_equal(found[program.source].payload, sent)
    return len(ours.layers[0].checks)


@pytest.mark.parametrize(("rule", "loss"), [("ottt", "softmax"), ("sltt", "mse")])
def test_lava_learns_what_the_integer_engine_learns(tmp_path, rule, loss):
    check_equal(tmp_path, learner(rule=rule, loss=loss), 10)


@pytest.mark.parametrize(
    ("rule", "loss", "layers"),
    [
        ("ottt", "softmax", ("fc1", "fc2", "out")), ("sltt", "mse", ("fc1", "out")), ("ndot", "mse", ("fc2",)),
        ("osr", "softmax", ("fc2", "out")), ("ltl", "softmax", ("fc1", "fc2", "out")), ("ltl", "softmax", ("fc2",)),
    ],
)  # fmt: skip
def test_lava_learns_several_layers_as_the_integer_engine_does(tmp_path, rule, loss, layers):
    check_equal(tmp_path, deep_learner(rule=rule, loss=loss, layer=layers), 8)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["ottt", "sltt", "ltl"])
def test_two_layers_learn_the_same_bits_over_thousands_of_hardware_steps(tmp_path, rule):
    assert check_equal(tmp_path, deep_learner(rule=rule, layer=("fc2", "out"), rate=0.05), 200) > 3000


@pytest.mark.parametrize("reset", [None, 0.25])
def test_lava_learns_hidden_layers_of_another_network(tmp_path, reset):
    """Another leak, a hard reset, transposed feedback, a wider surrogate."""
    options = {"layer": ("fc1", "fc2", "out"), "rule": "ottt", "rate": 0.1, "surrogate": "rectangle:1.5"}
    check_equal(tmp_path, compiled_learner(DeepLearner(leak=0.3, reset=reset), **options), 5, seed=3)


def test_lava_learns_behind_a_frozen_norm(tmp_path):
    check_equal(tmp_path, compiled_learner(NormLearner(), layer=("fc1", "out"), rule="osr", rate=0.1), 5)


@pytest.mark.parametrize("rule", ["ottt", "sltt"])
def test_lava_learns_a_layer_that_reads_binary_inputs(tmp_path, rule):
    plastic = compiled_learner(TinyLearner(), input_range=(0, 1, 1), layer=("hidden", "out"), rule=rule, rate=0.1)
    assert plastic.program.layers[0].leak == 0  # no rule keeps a trace of the input
    check_equal(tmp_path, plastic, 6)


def test_targets_for_a_program_that_does_not_learn_are_refused(tmp_path):
    plastic = learner()
    write_plan(tmp_path, plastic.result.graph, plastic.schedule)
    x, y = stream(2)
    with pytest.raises(CompileError, match="does not learn"):
        run_plan(tmp_path, {plastic.result.graph.nodes[0].name: x}, timeout_s=60, targets=y)

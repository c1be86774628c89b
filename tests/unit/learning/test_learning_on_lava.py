"""The whole learning program on Lava's runtime: spikes, logits, errors and weights, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from random_rules import WIDTHS
from tiny_learner import learner, spikes, stream

from snncompile.backends.lava.backend import run_plan
from snncompile.backends.lava.learning_plan import add_learning
from snncompile.backends.lava.plan import write_plan
from snncompile.errors import CompileError
from snncompile.learning.stream import learn


@pytest.mark.parametrize(("rule", "loss"), [("ottt", "softmax"), ("sltt", "mse")])
def test_lava_learns_what_the_integer_engine_learns(tmp_path, rule, loss):
    plastic = learner(rule=rule, loss=loss)
    program, graph = plastic.program, plastic.result.graph
    x, y = stream(10)
    sent = spikes(plastic, x)
    ours = learn(program, graph, plastic.schedule, WIDTHS, sent, y)
    write_plan(tmp_path, graph, plastic.schedule)
    add_learning(tmp_path, program)
    found = run_plan(tmp_path, {graph.nodes[0].name: x}, timeout_s=120, targets=y)
    lava = found.learned
    assert lava is not None
    np.testing.assert_array_equal(lava.weights, ours.weights)
    np.testing.assert_array_equal(lava.checks, ours.checks)
    np.testing.assert_array_equal(lava.errors, ours.errors)
    np.testing.assert_array_equal(found[program.population].payload, ours.logits)
    np.testing.assert_array_equal(found[program.source].payload, sent)
    assert np.mean(ours.weights[-1] != ours.weights[0]) > 0.5


def test_targets_for_a_program_that_does_not_learn_are_refused(tmp_path):
    plastic = learner()
    write_plan(tmp_path, plastic.result.graph, plastic.schedule)
    x, y = stream(2)
    with pytest.raises(CompileError, match="does not learn"):
        run_plan(tmp_path, {plastic.result.graph.nodes[0].name: x}, timeout_s=60, targets=y)

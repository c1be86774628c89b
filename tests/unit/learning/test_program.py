"""Making a layer plastic: scales, schedule, rule and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from random_rules import TARGET, WIDTHS
from tiny_learner import STEPS, learner, spikes, stream, tiny

from snncompile.errors import CompileError
from snncompile.ir import reference
from snncompile.learning.float_rule import learn_float
from snncompile.learning.program import LearningProgram
from snncompile.learning.scaling import scale_plain, scale_traced
from snncompile.learning.stream import learn, readout


def test_a_program_survives_its_json():
    program = learner().program
    assert LearningProgram.from_json(json.loads(json.dumps(program.to_json()))) == program


def test_the_error_meets_the_trace_of_its_own_model_step():
    for rule in ("ottt", "sltt"):
        plastic = learner(rule=rule)
        clock = plastic.program.time(plastic.schedule)
        assert 1 + clock.delay < clock.interval  # back before the next spikes
        if rule == "sltt":  # and inside the epoch of its own spikes
            assert (clock.source + 1 + clock.delay + 1) % clock.interval == 0
            assert plastic.program.rule.epoch == clock.interval


def test_without_targets_nothing_is_learned_and_the_program_computes_as_it_did():
    plastic = learner()
    x, _ = stream(6)
    sent = spikes(plastic, x)
    ours = learn(plastic.program, plastic.result.graph, plastic.schedule, WIDTHS, sent, np.full(6, -1))
    assert np.all(ours.weights == ours.weights[0])
    graph = plastic.result.graph
    plain = reference.run(graph, {graph.nodes[0].name: x})
    np.testing.assert_array_equal(ours.logits, plain["out"])
    np.testing.assert_array_equal(readout(plastic.program, graph, sent, ours.final), plain["out"])


@pytest.mark.parametrize("rule", ["ottt", "sltt"])
@pytest.mark.parametrize("loss", ["softmax", "mse"])
def test_many_streams_teach_on_average_what_the_float_rule_teaches(rule, loss):
    plastic = learner(rule=rule, loss=loss, rate=0.05)
    program = plastic.program
    x, y = stream(12)
    sent = spikes(plastic, x)
    start = program.chip_weights(plastic.result.graph)
    floated = learn_float(program, plastic.result.graph, sent, y) - start * program.lsb
    total = np.zeros(start.shape)
    for seed in range(8):
        again = learner(rule=rule, loss=loss, rate=0.05, seed=seed).program
        total += learn(again, plastic.result.graph, plastic.schedule, WIDTHS, sent, y).final - start
    mean = total / 8 * program.lsb
    slope = (mean * floated).sum() / (floated**2).sum()
    assert np.corrcoef(mean.ravel(), floated.ravel())[0, 1] > 0.95
    assert abs(slope - 1) < 0.1


@pytest.mark.parametrize("wanted", [0.003, 0.2, 3.0, 700.0])
@pytest.mark.parametrize("leak", [0.3, 0.5, 0.9])
def test_the_scale_of_a_traced_rule_gives_the_wanted_step(wanted, leak):
    fade = leak ** (2 / 3)
    s = scale_traced(wanted * fade, 1.0, leak, 3, 1, TARGET)
    assert s.impulse * s.levels * 2.0**s.exponent == pytest.approx(wanted)
    assert s.impulse / (1 - leak) <= WIDTHS.trace_high + 1
    assert 1 <= s.levels <= 63


def test_the_scale_of_a_plain_rule_is_near_the_wanted_step():
    for wanted in (0.3, 0.7, 5.0, 333.0):
        s = scale_plain(wanted, 1.0, TARGET)
        assert 2 * s.mantissa * s.levels * 2.0**s.exponent == pytest.approx(wanted, rel=0.03)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"rule": "em-pf"}, "SNN807"), ({"rule": "EMPF_R"}, "SNN807"), ({"rule": "bptt"}, "SNN807"), ({"rule": "hebb"}, "SNN807"),
        ({"rate": 1e-9}, "SNN808"), ({"rate": 1e9}, "SNN808"), ({"rule": "sltt", "rate": 1e-6}, "SNN808"), ({"loss": "hinge"}, "SNN810"),
        ({"rate": -1.0}, "SNN810"), ({"layer": "conv9"}, "SNN805"), ({"layer": "hidden"}, "SNN806"),
    ],
)  # fmt: skip
def test_what_the_chip_cannot_learn_is_refused(options, code):
    with pytest.raises(CompileError) as caught:
        learner(**options)
    assert caught.value.code == code


def test_the_weights_can_reach_their_limits_without_overflow():
    plastic = learner()
    name = plastic.program.population
    low, high = next(p for p in plastic.result.populations if p.name == name).bounds["membrane"]
    assert low < -(256 << plastic.program.chip_exponent(plastic.result.graph))
    assert max(-low, high) <= tiny().target.membrane.high
    assert plastic.result.graph.steps == STEPS

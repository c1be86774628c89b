"""Making a layer plastic: scales, schedule, rule and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import starmap

import numpy as np
import pytest
import torch
from random_rules import TARGET, WIDTHS
from tiny_learner import (
    INPUTS,
    STEPS,
    DeepLearner,
    NormLearner,
    activities,
    compiled_learner,
    deep_learner,
    learner,
    plastic_of,
    spikes,
    stream,
    tiny,
)

import snncompile
from snncompile.errors import CompileError
from snncompile.ir import reference
from snncompile.learning import Plastic, engine
from snncompile.learning.float_rule import float_stages
from snncompile.learning.program import LearningProgram, PlasticLayer
from snncompile.learning.scaling import scale_plain, scale_traced
from snncompile.learning.stream import learn, run_frozen
from snncompile.online import TracedLinear
from snncompile.online.chain import Stage, learn_chain
from snncompile.quantize import Options


def stages_of(plastic: Plastic) -> list[Stage]:
    return [Stage(**given) for given in float_stages(plastic.program, plastic.result.graph)]


@pytest.mark.parametrize("plastic", [learner(), deep_learner(), deep_learner(rule="ltl")], ids=["readout", "feedback", "local"])
def test_a_program_survives_its_json(plastic):
    program = plastic.program
    assert LearningProgram.from_json(json.loads(json.dumps(program.to_json()))) == program


@pytest.mark.parametrize("rule", ["ottt", "sltt", "ltl"])
def test_third_factors_meet_the_spikes_of_their_own_model_step(rule):
    for plastic in (learner(rule=rule), deep_learner(rule=rule)):
        clock, program = plastic.program.time(plastic.schedule), plastic.program
        for layer in program.layers:
            start = clock.depth[layer.source]
            assert layer.lag < clock.interval  # back before the next spikes
            if layer.modulator is None:
                assert layer.lag == 1 + program.error.delay
            elif layer.modulator.kind == "feedback":  # to the readout, a hop each to the feedback synapse and to the modulator
                assert layer.lag == clock.depth[program.readout] - start + 2 + layer.modulator.delay
            else:
                assert layer.lag == 1 + layer.modulator.delay
            if rule != "ottt":  # and inside the epoch of its own spikes
                assert (start + layer.lag + 1) % clock.interval == 0
                assert layer.rule.epoch == clock.interval


@pytest.mark.parametrize("plastic", [learner(), deep_learner(), deep_learner(rule="ltl", layer=("fc2", "out"))])
def test_without_targets_nothing_is_learned_and_the_program_computes_as_it_did(plastic):
    x, _ = stream(6)
    sent, graph, program = spikes(plastic, x), plastic.result.graph, plastic.program
    ours = learn(program, graph, plastic.schedule, WIDTHS, sent, np.full(6, -1), activity=activities(plastic, 6))
    for layer in ours.layers:
        assert np.all(layer.weights == layer.weights[0])
    plain = reference.run(graph, {graph.nodes[0].name: x})["out"]
    np.testing.assert_array_equal(ours.logits, plain)
    np.testing.assert_array_equal(run_frozen(program, graph, sent, [x.final for x in ours.layers]), plain)


def averaged(
    monkeypatch, make: Callable[..., Plastic], options: dict[str, object], samples: int, seeds: int, order: int = 0
) -> list[tuple[float, float]]:
    """By layer, correlation and slope of the update, averaged over seeds of everything (Lava's one for weights is fixed), on PyTorch's."""
    plastic = make(**options)
    program, graph = plastic.program, plastic.result.graph
    x, y = stream(samples, order)
    sent, activity = spikes(plastic, x), activities(plastic, samples)
    given = [None, *(activity[name] / 255 for name in program.local), None][-len(stages_of(plastic)) :] if program.local else None
    floated = learn_chain(stages_of(plastic), sent, y, loss=program.error.loss, warm=program.error.warm, activity=given, keep=(0, samples))
    totals = [np.zeros(w[0].shape) for w in floated]
    for seed in range(seeds):
        again = make(**options, seed=10 * seed).program
        again = replace(again, layers=tuple(starmap(with_feedback_of, zip(program.layers, again.layers, strict=True))))
        monkeypatch.setattr(engine, "WEIGHT_SEED", seed)
        ours = learn(again, graph, plastic.schedule, WIDTHS, sent, y, activity=activity)
        totals = [total + layer.final - layer.weights[0] for total, layer in zip(totals, ours.layers, strict=True)]
    found = []
    for total, layer, w in zip(totals, program.layers, floated, strict=True):
        moved, wanted = total.ravel() / seeds, ((w[1].astype(np.float64) - w[0]) / np.array(layer.lsb)[:, None]).ravel()
        found.append((float(np.corrcoef(moved, wanted)[0, 1]), float((moved * wanted).sum() / (wanted**2).sum())))
    return found


def with_feedback_of(one: PlasticLayer, other: PlasticLayer) -> PlasticLayer:
    if one.modulator is None or other.modulator is None:
        return other
    return replace(other, modulator=replace(other.modulator, feedback=one.modulator.feedback))


@pytest.mark.parametrize("rule", ["ottt", "sltt"])
@pytest.mark.parametrize("loss", ["softmax", "mse"])
def test_many_streams_teach_on_average_what_the_float_rule_teaches(monkeypatch, rule, loss):
    ((correlation, slope),) = averaged(monkeypatch, learner, {"rule": rule, "loss": loss, "rate": 0.05}, 12, 8)
    assert correlation > 0.95
    assert abs(slope - 1) < 0.1


@pytest.mark.parametrize(
    ("rule", "loss", "rate", "headroom"),
    [
        ("ottt", "softmax", 0.05, 1.5), ("sltt", "mse", 0.1, 1.5), ("osr", "softmax", 0.05, 0.75), ("ndot", "mse", 0.1, 1.5),
        ("ltl", "softmax", 0.1, 0.5),
    ],
)  # fmt: skip
def test_hidden_layers_learn_on_average_what_the_float_rule_with_the_same_feedback_teaches(monkeypatch, rule, loss, rate, headroom):
    options = {"rule": rule, "loss": loss, "rate": rate, "layer": ("fc1", "fc2", "out"), "headroom": headroom}
    streams = [averaged(monkeypatch, deep_learner, options, 6, 16, order) for order in range(5)]
    # In a short stream of a small network one membrane right at its threshold parts the two; the middle of five streams has none.
    for layer in zip(*streams, strict=True):
        assert np.median([correlation for correlation, _ in layer]) > 0.9
        assert abs(np.median([slope for _, slope in layer]) - 1) < 0.1


def test_behind_a_frozen_norm_the_float_rule_is_autograds_on_the_trained_layer():
    net, rate = NormLearner(), 0.1
    plastic = compiled_learner(net, layer=("fc1", "out"), rule="osr", rate=rate)
    x, y = stream(12)
    stages = stages_of(plastic)
    floated = learn_chain(stages, spikes(plastic, x), y, loss="softmax", transport=True)
    gain = (net.norm.weight / torch.sqrt(net.norm.running_var + net.norm.eps)).detach()
    with torch.no_grad():  # the weights as the chip has them: nothing but the rule is compared
        net.fc1.weight.copy_(torch.tensor(stages[0].weight) / gain[:, None])
        net.out.weight.copy_(torch.tensor(stages[1].weight))
    net.train()
    net.norm.eval()
    before = net.fc1.weight.detach().clone()
    for sample, label in zip(x, y, strict=True):
        net.reset()
        for _ in range(STEPS if label >= 0 else 0):
            loss = torch.nn.functional.cross_entropy(net(torch.tensor(sample).float()), torch.tensor([label])) / STEPS
            parts = torch.autograd.grad(loss, [net.fc1.weight, net.out.weight])
            with torch.no_grad():
                net.fc1.weight -= rate * parts[0]
                net.out.weight -= rate * parts[1]
    wanted = (gain[:, None] * (net.fc1.weight - before)).detach().numpy().ravel()
    moved = (floated[0][-1] - floated[0][0]).ravel()
    assert np.corrcoef(wanted, moved)[0, 1] > 0.9999
    assert abs((wanted * moved).sum() / (wanted**2).sum() - 1) < 0.01


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
        ({"layer": ("out", "hidden")}, "SNN806"),
        ({"layer": ()}, "SNN810"), ({"surrogate": "gauss:1"}, "SNN810"), ({"surrogate": "sigmoid:-1"}, "SNN810"),
        ({"feedback": "dream"}, "SNN810"), ({"feedback_scale": 0.0}, "SNN810"), ({"rule": "ltl", "warm": 4}, "SNN810"),
        ({"rule": "ltl", "loss": "mse"}, "SNN810"), ({"rule": "ltl", "weight": 0.0}, "SNN810"),
    ],
)  # fmt: skip
def test_what_the_chip_cannot_learn_is_refused(options, code):
    with pytest.raises(CompileError) as caught:
        learner(**options)
    assert caught.value.code == code


@pytest.mark.parametrize(("rate", "headroom"), [(1e-9, 1.5), (1e9, 1.5), (1e-6, 20.0), (1e6, 0.01)])
@pytest.mark.parametrize("rule", ["ottt", "sltt", "ltl"])
def test_what_a_refused_rate_is_told_helps(rule, rate, headroom):
    with pytest.raises(CompileError) as caught:
        deep_learner(rule=rule, rate=rate, headroom=headroom)
    said = [d.help for d in caught.value.diagnostics]
    assert {d.code for d in caught.value.diagnostics} == {"SNN808"}
    factor = max(float(number.replace(",", "")) for text in said for number in re.findall(r"the rate by ([\d,]+)", text))
    deep_learner(rule=rule, rate=rate * factor if "multiply" in said[0] else rate / factor, headroom=headroom)
    if len(said) == 3 and all("divide the layer's --headroom" in text for text in said):
        deep_learner(rule=rule, rate=rate, headroom=headroom / factor)


class Skipping(DeepLearner):
    """The second layer's spikes reach the fourth beside the third."""

    def __init__(self) -> None:
        super().__init__()
        self.side = TracedLinear(20, 14)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        s = self.lif1(self.fc1(self.lif0(self.first(x))))
        return self.out(self.lif2(self.fc2(s) + self.side(s)))


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        ("fc1", "'lif2', between the plastic layer and the readout, is not a dense layer"),
        ("fc2", "'lif2' reads other layers too"),
    ],
)
def test_a_layer_behind_which_spikes_take_two_ways_is_refused_by_its_name(layer, why):
    with pytest.raises(CompileError, match=f"'{layer}' cannot learn on the chip: {why}"):
        compiled_learner(Skipping(), layer=(layer, "out"))


def test_the_weights_can_reach_their_limits_without_overflow():
    plastic = learner()
    (layer,) = plastic.program.layers
    low, high = next(p for p in plastic.result.populations if p.name == layer.population).bounds["membrane"]
    assert low < -(256 << layer.chip_neuron(plastic.result.graph).exponents[1])
    assert max(-low, high) <= tiny().target.membrane.high
    assert plastic.result.graph.steps == STEPS


def test_a_population_that_learns_is_exact_or_says_why_not():
    assert all(p.exact for p in learner().result.populations)
    *frozen, hidden, readout = deep_learner(layer=("fc2", "out")).result.populations
    assert all(p.exact for p in (*frozen, readout))
    assert hidden.reason == "room for what it learns takes 3 of the guard bits that its constants need for T = 4"


def test_a_layer_whose_weights_take_two_synapses_is_refused_with_the_reason():
    wide = snncompile.compile(
        DeepLearner().eval(), input_shape=(INPUTS,), steps=STEPS, input_range=(0, 255, 1), options=Options(weight_bits=12)
    )
    with pytest.raises(CompileError, match="'fc2' cannot learn on the chip: its weights are wider than one synapse") as caught:
        plastic_of(wide, {"layer": ("fc2", "out")})
    assert caught.value.diagnostics[0].help == "leave --weight-bits at 8 for a network that learns"

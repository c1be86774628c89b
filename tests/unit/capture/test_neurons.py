"""Capture by execution: every spelling of a neuron is recognised, and the graph computes what PyTorch computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from agreement import agrees
from torch import nn
from written_neurons import (
    NEURONS,
    Around,
    Cuba,
    FourBit,
    FourBitStateless,
    GradedClamp,
    HardWhere,
    LateCuba,
    LateHardReset,
    LateSoftReset,
    PerStep,
    SoftGe,
)

from snncompile.capture.capture import capture
from snncompile.capture.check import check_capture
from snncompile.ir.neuron import Fire, Neuron, Reset
from snncompile.passes import check_population_form, run_passes

STEPS = 6


def samples(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 3, (count, STEPS, 2, 6, 6))


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: n.__name__)
def test_every_spelling_of_a_neuron_is_captured_as_pytorch_runs_it(neuron):
    model = Around(neuron)
    captured = capture(model, input_shape=(2, 6, 6), steps=STEPS)
    record = check_capture(captured, model, samples())
    assert record.populations >= 2
    assert record.spikes > 0 or neuron.__name__.startswith(("Graded", "FourBit"))
    assert record.differing_spikes == 0
    assert record.membrane_error < 1e-5


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: n.__name__)
def test_every_captured_spelling_reaches_population_form(neuron):
    graph = capture(Around(neuron), input_shape=(2, 6, 6), steps=STEPS).graph
    folded, records = run_passes(graph, probe={"x": samples(1)})
    check_population_form(folded)
    assert max(r.membrane_error for r in records) < 1e-9


def first_neuron(neuron) -> Neuron:
    graph = capture(Around(neuron), input_shape=(2, 6, 6), steps=STEPS).graph
    return next(n for n in graph.nodes if isinstance(n, Neuron))


def test_the_normal_form_has_the_constants_of_the_code():
    n = first_neuron(HardWhere)
    assert (n.fire, n.reset) == (Fire.STEP_GT, Reset.SET)
    assert float(n.leak.flat[0]) == pytest.approx(0.75)
    assert float(n.gain.flat[0]) == pytest.approx(0.25)
    assert float(n.theta.flat[0]) == pytest.approx(0.3)
    assert float(n.reset_value.flat[0]) == pytest.approx(-0.1)


def test_a_relu_above_threshold_that_leaves_the_threshold_behind_is_a_clamp():
    assert (first_neuron(GradedClamp).fire, first_neuron(GradedClamp).reset) == (Fire.RELU, Reset.CLAMP)


def test_a_reset_applied_one_step_later_becomes_an_immediate_one():
    hard, soft = first_neuron(LateHardReset), first_neuron(LateSoftReset)
    assert (hard.reset, soft.reset) == (Reset.SET, Reset.SUBTRACT)
    assert float(soft.reset_amount.flat[0]) == pytest.approx(0.5 / 0.8)


@pytest.mark.parametrize(("neuron", "late"), [(Cuba, False), (LateCuba, True)], ids=["same step", "one step late"])
def test_a_synaptic_current_dissolves_into_its_neuron(neuron, late):
    graph = capture(Around(neuron), input_shape=(2, 6, 6), steps=STEPS).graph
    folded, _ = run_passes(graph, probe={"x": samples(1)})
    populations = [n for n in folded.nodes if isinstance(n, Neuron) and n.fire is not Fire.NONE]
    assert all(n.alpha is not None and n.late_current is late for n in populations)


def test_constants_of_each_step_become_fields_with_a_time_axis_and_fix_the_number_of_steps():
    n = first_neuron(PerStep)
    assert n.leak.shape[0] == n.theta.shape[0] == STEPS
    assert np.allclose(n.theta.reshape(-1), 1 / (1 + np.exp(-np.linspace(0, 0.5, 6))), rtol=1e-6)


def test_the_model_that_was_handed_over_is_left_as_it_was():
    model = Around(SoftGe).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    capture(model, input_shape=(2, 6, 6), steps=STEPS)
    assert model.training
    assert model.first.v is None
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 100])
def test_any_number_of_steps_is_captured(steps):
    model = Around(SoftGe)
    captured = capture(model, input_shape=(2, 6, 6), steps=steps)
    x = np.random.default_rng(1).uniform(0, 3, (1, steps, 2, 6, 6))
    assert check_capture(captured, model, x).differing_spikes == 0
    assert captured.rolled.traced <= max(steps, 3)


def test_a_long_run_is_captured_from_three_steps():
    assert capture(Around(SoftGe), input_shape=(2, 6, 6), steps=1000).rolled.traced == 3


@pytest.mark.parametrize("neuron", [FourBit, FourBitStateless], ids=lambda n: n.__name__)
def test_a_graded_spike_that_is_rounded_keeps_its_grid(neuron):
    n = first_neuron(neuron)
    assert (n.fire, n.grid, n.levels) == (Fire.RELU, 0.25, 15)
    assert n.reset is (Reset.STATELESS if neuron is FourBitStateless else Reset.CLAMP)


def test_a_concatenation_of_what_another_concatenation_feeds():
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.c = nn.Linear(6, 5), nn.Linear(9, 4), nn.Linear(9, 3)
            self.v, self.w = 0.0, 0.0

        def fire(self, m):
            return (m >= 0.3).float()

        def forward(self, x):
            m = 0.5 * self.v + self.a(x)
            p = self.fire(m)
            self.v = m - 0.3 * p
            n = 0.5 * self.w + self.b(torch.cat([p, x[:, :4]], 1))
            r = self.fire(n)
            self.w = n - 0.3 * r
            return self.c(torch.cat([r, p], 1))

    agrees(Nested(), (6,))

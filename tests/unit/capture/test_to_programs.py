"""What the capture takes reaches the integer program: networks with two inputs, and every kind of neuron that libraries have."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from test_conventions import TwoEars
from torch import nn

import snncompile
from snncompile.pipeline import original
from snncompile.verify import Program, verify

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import norse.torch as norse
    import sinabs.activation as sa
    import sinabs.layers as sl

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 6


def judged(model, shape, layout="step", **more):
    rng = np.random.default_rng(0)
    shapes = shape if isinstance(shape, dict) else {"x": shape}
    x = {name: rng.integers(0, 2, (8, STEPS, *one)).astype(float) for name, one in shapes.items()}
    compiled = snncompile.compile(
        model, input_shape=shape, steps=STEPS, layout=layout, calibration=x, input_range=(0, 1, 1), target="reference", **more
    )
    program = Program(graph=compiled.result.graph, schedule=compiled.schedule, populations=compiled.result.populations)
    found = verify(program, x, original=original(compiled, model, x), backends=("reference",))
    assert found.ok, found.failures
    return compiled


def test_a_network_with_two_inputs_becomes_a_program_and_is_verified():
    compiled = judged(TwoEars(), {"left": (6,), "right": (4,)})
    assert compiled.settings["input_shape"] == {"left": [6], "right": [4]}


NEURONS = {
    "several spikes": lambda: sl.IAF(spike_fn=sa.MaxSpike(3), min_v_mem=-1.0),
    "adaptive": lambda: sl.ALIF(tau_mem=10.0, tau_adapt=8.0, norm_input=False),
}


@pytest.mark.parametrize("name", NEURONS)
def test_neurons_of_sinabs_become_programs(name):
    torch.manual_seed(0)
    judged(nn.Sequential(nn.Linear(6, 8), NEURONS[name](), nn.Linear(8, 3), sl.IAF(spike_fn=sa.SingleSpike)), (6,), layout="BT")


def test_an_adaptive_neuron_of_norse_becomes_a_program():
    torch.manual_seed(0)
    first = nn.Linear(6, 8)
    with torch.no_grad():
        first.weight.mul_(20)
    judged(norse.SequentialState(first, norse.LSNNCell(), nn.Linear(8, 3)), (6,))

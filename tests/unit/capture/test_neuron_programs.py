"""Neurons without a normal form are captured as programs, and equal to PyTorch's own run; those with one never are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from snncompile.capture.capture import capture
from snncompile.capture.check import check_capture
from snncompile.ir.neuron import Neuron
from snncompile.ir.program import NeuronProgram

STEPS, INPUTS = 8, 12


def network(middle: nn.Module, scale: float = 4.0) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(INPUTS, 10), middle, nn.Linear(10, 3)).eval()
    with torch.no_grad():
        net[0].weight *= scale
        net[0].bias.abs_()
    return net


def captured(net: nn.Module):
    found = capture(net, input_shape=(INPUTS,), steps=STEPS)
    record = check_capture(found, net, np.random.default_rng(0).random((6, STEPS, INPUTS)))
    return found, record


SPIKINGJELLY = {
    "quadratic": neuron.QIFNode,
    "quadratic, subtracting": lambda: neuron.QIFNode(v_reset=None, v_rest=0.0),
    "exponential": neuron.EIFNode,
    "exponential, subtracting": lambda: neuron.EIFNode(v_reset=None, v_rest=0.0),
    "Izhikevich": neuron.IzhikevichNode,
    "Izhikevich with jumps": lambda: neuron.IzhikevichNode(a=0.2, b=0.3, tau_w=5.0),
    "KLIF": neuron.KLIFNode,
    "KLIF, subtracting": lambda: neuron.KLIFNode(v_reset=None),
    "KLIF, input kept": lambda: neuron.KLIFNode(decay_input=False),
    "KLIF, input kept, subtracting": lambda: neuron.KLIFNode(decay_input=False, v_reset=None),
    "KLIF, scaled reset": lambda: neuron.KLIFNode(scale_reset=True),
}


@pytest.mark.parametrize("make", SPIKINGJELLY.values(), ids=SPIKINGJELLY)
def test_spikingjellys_nonlinear_neurons_are_programs(make):
    found, record = captured(network(make()))
    assert [type(n) for n in found.graph.of(Neuron, NeuronProgram)] == [NeuronProgram]
    assert record.differing_spikes == 0
    assert record.spikes == 6 * STEPS * 10
    spikes = found.graph.of(NeuronProgram)[0]
    assert spikes.spiking


def test_a_neuron_with_a_normal_form_is_never_a_program():
    for middle in (neuron.LIFNode(), neuron.IFNode(v_reset=None), neuron.ParametricLIFNode()):
        found, _ = captured(network(middle))
        assert not found.graph.of(NeuronProgram)
        assert len(found.graph.of(Neuron)) == 1


class Written(nn.Module):
    """A neuron of the user's: states in attributes, a function of them and the current."""

    def __init__(self, step, states: int, start: float = 0.0) -> None:
        super().__init__()
        self.step, self.states = step, [torch.full((1, 10), start) for _ in range(states)]

    def forward(self, i):
        sent, *self.states = self.step(i, *self.states)
        return sent


def resonate_and_fire(i, x, y):
    x, y = 0.83 * x - 0.45 * y + i, 0.45 * x + 0.83 * y
    s = (y >= 1).float()
    return s, x * (1 - s), y * (1 - s)


def by_its_radius(i, x, y):
    x, y = 0.8 * x - 0.4 * y + i, 0.4 * x + 0.8 * y
    s = (x * x + y * y > 1).float()
    return s, torch.where(s > 0, torch.zeros_like(x), x), y - 0.5 * s


def fitzhugh_nagumo(i, v, w):
    after = (v + 0.2 * (v - v**3 / 3 - w + i)).clamp(-3, 3)
    return ((after >= 1) & (v < 1)).float(), after, w + 0.05 * (v + 0.7 - 0.8 * w)


def saturating(i, v):
    v = torch.tanh(0.9 * v + i)
    return v, v


def gated(i, v):
    g = torch.sigmoid(i)
    v = g * v + (1 - g) * i
    s = (v > 0.5).float()
    return s, v - 0.5 * s


def drifting(i, v, b):
    m, theta = 0.8 * v + i, 0.5 + b
    s = (m >= theta).float()
    return s, m - theta * s, 0.9 * b + 0.05 + 0.2 * s


def divided(i, v):
    v = 0.5 * v + nn.functional.softplus(i)
    s = (v >= torch.sqrt(0.5 + i.abs())).float()
    return s, v / (1 + v.abs()) * (1 - s)


WRITTEN = {"resonate and fire": (resonate_and_fire, 2), "by its radius": (by_its_radius, 2), "FitzHugh-Nagumo": (fitzhugh_nagumo, 2),
           "tanh": (saturating, 1), "gated": (gated, 1), "drifting threshold": (drifting, 2), "divided": (divided, 1)}  # fmt: skip


@pytest.mark.parametrize(("step", "states"), WRITTEN.values(), ids=WRITTEN)
def test_neurons_written_by_hand_are_programs(step, states):
    found, record = captured(network(Written(step, states)))
    (program,) = found.graph.of(NeuronProgram)
    assert len(program.initial) == states
    assert program.spiking is (step is not saturating)
    assert record.differing_spikes == 0
    assert record.membrane_error < 1e-5


class Line(nn.Module):
    """A convolution along one axis, strided and padded."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.lif = nn.Conv1d(3, 4, 3, stride=2, padding=1), neuron.LIFNode()

    def forward(self, x):
        return self.lif(2 * self.conv(x.reshape(-1, 3, 4))).flatten(1)


def test_one_dimensional_convolutions_are_captured():
    found, record = captured(nn.Sequential(Line(), nn.Linear(8, 3)).eval())
    assert record.differing_spikes == 0
    assert not found.graph.of(NeuronProgram)

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

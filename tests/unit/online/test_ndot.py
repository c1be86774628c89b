"""NDOT: the graded, time-varying trace against its closed form in NumPy, its limits, and that nothing of it is left in eval mode."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from measuring import CollectGradients, parameters, training_bytes
from reference_vgg import ReferenceNet, constant_trace, dynamics_trace

from snncompile.errors import CompileError
from snncompile.online import NDOTLIF, build_network, ottt_vgg
from snncompile.online.rule import direct_coding, summed_logits, train_batch

SMALL = {"config": [3, "A", 4], "in_channels": 2, "num_classes": 3, "input_size": (4, 6), "classifier": "flatten"}


def small_net(feedback=False):
    torch.manual_seed(3)
    net = build_network("ndot_vgg", **SMALL, feedback=feedback).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0.2, 0.6)
    return net, 1.5 * torch.randn(5, 2, 4, 6, dtype=torch.float64), torch.tensor([0, 2, 1, 1, 0])


def test_the_trace_decays_by_the_ratio_of_membranes_within_the_leak():
    neuron = NDOTLIF().train()
    # v: .5, then .25 + .5 = .75 (e = 1.5), then .375 + .775 - 1 = .15 (e = .2), then .075 - .105 = -.03 (e = -.2), then .485, .2425 + 1
    currents = [0.5, 0.5, 0.775, -0.105, 0.5, 1.0]
    traces, membranes = [], []
    for t, current in enumerate(currents):
        neuron(torch.tensor([current], dtype=torch.float64), init=t == 0)
        traces.append(neuron.trace.item())
        membranes.append(neuron.v.item())
    assert membranes == pytest.approx([0.5, 0.75, 0.15, -0.03, 0.485, 0.2425])
    # spikes at t = 2 and 5; e[2] = .2, e[3] = -.2, e[4] = -16.2 clamped to -.5
    assert traces == pytest.approx([0, 0, 1, 0.2, -0.04, 1.02])


def test_a_membrane_of_zero_decays_by_the_leak():
    neuron = NDOTLIF().train()
    traces = []
    for t, current in enumerate([1.0, 0.25, 0.0]):  # v = 0 after the first spike
        neuron(torch.tensor([current]), init=t == 0)
        traces.append(neuron.trace.item())
    assert traces == [1.0, 0.5, 0.25]


@pytest.mark.parametrize("feedback", [False, True], ids=["feedforward", "feedback"])
@pytest.mark.parametrize("steps", [1, 5])
def test_the_network_applies_error_times_psi_times_the_presynaptic_neurons_trace(steps, feedback):
    net, x, labels = small_net(feedback)
    totals = []
    for trace in (dynamics_trace, constant_trace):
        reference, total = ReferenceNet(net, trace), {}
        for g in reference.gradients(x.numpy(), labels.numpy(), steps):
            for name, value in g.items():
                total[name] = total.get(name, 0.0) + value
        assert reference.spikes > 0
        totals.append(total)
    want, ottt = totals
    optimiser = CollectGradients(net)
    train_batch(net, direct_coding(x, steps), labels, optimiser, steps=steps)
    (got,) = optimiser.steps
    assert got.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-9, atol=1e-12, err_msg=name)
    assert np.allclose(ottt["features.2.conv.weight"], want["features.2.conv.weight"]) == (steps == 1)  # e = leak would be OTTT


def test_ndot_o_applies_each_step():
    net, x, labels = small_net(feedback=True)
    reference = ReferenceNet(net, dynamics_trace)
    for g in reference.gradients(x.numpy(), labels.numpy(), 4):
        reference.p = {name: value - 0.05 * g.get(name, 0.0) for name, value in reference.p.items()}
    train_batch(net, direct_coding(x, 4), labels, torch.optim.SGD(net.parameters(), 0.05), steps=4, online=True)
    for name, parameter in net.named_parameters():
        np.testing.assert_allclose(parameter.detach().numpy(), reference.p[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_second_batch_starts_afresh_whatever_the_first_left():
    net, x, labels = small_net(feedback=True)
    optimiser = CollectGradients(net)
    train_batch(net, direct_coding(x, 3), labels, optimiser, steps=3)
    train_batch(net, direct_coding(-x[:2], 3), labels[:2], optimiser, steps=3)
    train_batch(net, direct_coding(x, 3), labels, optimiser, steps=3)
    for name, value in optimiser.steps[0].items():
        np.testing.assert_array_equal(optimiser.steps[2][name], value)


@pytest.mark.parametrize("online", [False, True], ids=["NDOT_A", "NDOT_O"])
def test_training_memory_at_64_steps_is_that_at_4_steps(online):
    def peak(steps):
        net, x, labels = small_net(feedback=True)
        optimiser = torch.optim.SGD(net.parameters(), 0.01)
        return training_bytes(net, lambda: train_batch(net, direct_coding(x, steps), labels, optimiser, steps=steps, online=online))

    assert peak(64) / peak(4) <= 1.05


def test_parameters_keys_and_eval_mode_are_those_of_ottt():
    assert parameters(lambda: build_network("ndot_vgg")) == 9_228_362
    net, x, labels = small_net(feedback=True)
    train_batch(net, direct_coding(x, 2), labels, torch.optim.SGD(net.parameters(), 0.01), steps=2)
    twin = ottt_vgg(**SMALL, feedback=True).double()
    twin.load_state_dict(net.state_dict())
    assert torch.equal(summed_logits(net.eval(), direct_coding(x, 4)), summed_logits(twin.eval(), direct_coding(x, 4)))
    neurons = [module for module in net.modules() if isinstance(module, NDOTLIF)]
    assert len(neurons) == 2
    assert all(neuron.trace is None and neuron.decay is None for neuron in neurons)
    assert net.last_trace is None


def test_an_argument_the_network_does_not_take_is_refused():
    with pytest.raises(CompileError) as caught:
        build_network("ndot_vgg", widths=[1])
    assert caught.value.code == "SNN702"

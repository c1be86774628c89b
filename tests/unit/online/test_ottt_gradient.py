"""The gradient rule against its closed form, written in NumPy alone: traces as explicit double sums, sum_t M_i psi_i a_j."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from measuring import CollectGradients
from reference_vgg import ReferenceNet, lif, psi

from snncompile.online import ScaledWSLinear, TracedConv2d, TracedLinear, ottt_vgg
from snncompile.online.neuron import OnlineLIF
from snncompile.online.rule import direct_coding, train_batch

LEAK = 0.5
CLASSES = 3


def small_net(feedback):
    torch.manual_seed(3)
    net = ottt_vgg(
        config=[3, "A", 4], in_channels=2, num_classes=CLASSES, input_size=(4, 6), classifier="flatten", feedback=feedback
    ).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0.2, 0.6)
    x = 1.5 * torch.randn(5, 2, 4, 6, dtype=torch.float64)
    return net, x, torch.tensor([0, 2, 1, 1, 0])


@pytest.mark.parametrize("feedback", [False, True], ids=["feedforward", "feedback"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_ottt_a_applies_the_sum_over_t_of_error_times_psi_times_trace(steps, feedback):
    net, x, labels = small_net(feedback)
    reference = ReferenceNet(net)
    total = {}
    for g in reference.gradients(x.numpy(), labels.numpy(), steps):
        for name, value in g.items():
            total[name] = total.get(name, 0.0) + value
    optimiser = CollectGradients(net)
    train_batch(net, direct_coding(x, steps), labels, optimiser, steps=steps)

    assert reference.spikes > 0  # the case is not silent
    (applied,) = optimiser.steps
    assert applied.keys() == total.keys()
    for name, value in total.items():
        np.testing.assert_allclose(applied[name], value, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("feedback", [False, True], ids=["feedforward", "feedback"])
def test_ottt_o_applies_each_step_and_goes_on_with_the_changed_weights(feedback):
    steps, lr = 5, 0.05
    net, x, labels = small_net(feedback)
    reference = ReferenceNet(net)
    for g in reference.gradients(x.numpy(), labels.numpy(), steps):
        reference.p = {name: value - lr * g.get(name, 0.0) for name, value in reference.p.items()}
    before = net.classifier.weight.detach().numpy().copy()
    train_batch(net, direct_coding(x, steps), labels, torch.optim.SGD(net.parameters(), lr), steps=steps, online=True)

    assert np.abs(before - reference.p["classifier.weight"]).max() > 1e-3
    for name, parameter in net.named_parameters():
        np.testing.assert_allclose(parameter.detach().numpy(), reference.p[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_second_batch_starts_from_fresh_traces_and_membranes():
    net, x, labels = small_net(feedback=True)
    optimiser = CollectGradients(net)
    for _ in range(2):
        train_batch(net, direct_coding(x, 3), labels, optimiser, steps=3)
    first, second = optimiser.steps
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value)


def test_a_linear_layer_between_neurons_learns_synapse_by_synapse_from_the_trace():
    torch.manual_seed(1)
    layer, neuron = TracedLinear(3, 2, trace_leak=LEAK).double(), OnlineLIF()
    spikes = (torch.rand(6, 1, 3) < 0.6).double()
    error = torch.randn(6, 1, 2).double()
    v, a, want = np.zeros(2), np.zeros(3), np.zeros((2, 3))
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    for t in range(6):
        neuron(layer(spikes[t], init=t == 0), init=t == 0).backward(error[t])
        a = LEAK * a + spikes[t, 0].numpy()
        u, _, v = lif(v, w @ spikes[t, 0].numpy() + b)
        for i in range(2):
            for j in range(3):
                want[i, j] += error[t, 0, i].item() * psi(u)[i] * a[j]
    np.testing.assert_allclose(layer.weight.grad.numpy(), want, rtol=1e-12)


def through_time(weight, spikes, error, *, cut):
    """A layer alone by autograd: u[t] = leak (u[t-1] - s[t-1]) + W x[t], the reset cut from the graph or not."""
    w = torch.from_numpy(weight).requires_grad_()
    v, total = torch.zeros(len(weight), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for x, e in zip(spikes, error, strict=True):
        u = LEAK * v + w @ x
        smooth = torch.sigmoid(4 * (u - 1))
        s = (u >= 1).double() + smooth - smooth.detach()
        v, total = u - (s.detach() if cut else s), total + (e * s).sum()
    return torch.autograd.grad(total, w)[0].numpy()


def test_for_one_layer_the_rule_is_back_propagation_through_time_with_the_reset_cut():
    torch.manual_seed(4)
    layer, neuron = TracedLinear(5, 3, bias=False, trace_leak=LEAK).double(), OnlineLIF()
    with torch.no_grad():
        layer.weight.mul_(3)
    spikes, error = (torch.rand(8, 5) < 0.5).double(), torch.randn(8, 3).double()
    fired = 0
    for t in range(8):
        s = neuron(layer(spikes[t, None], init=t == 0), init=t == 0)
        s.backward(error[t, None])
        fired += int(s.sum())
    assert fired > 3
    weight = layer.weight.detach().numpy()
    np.testing.assert_allclose(layer.weight.grad.numpy(), through_time(weight, spikes, error, cut=True), rtol=1e-12)
    assert not np.allclose(layer.weight.grad.numpy(), through_time(weight, spikes, error, cut=False), rtol=1e-2)


def test_without_a_leak_the_trace_layers_have_the_ordinary_gradient():
    torch.manual_seed(2)
    x, error = torch.randn(2, 4, 5, 5).double(), torch.randn(2, 6, 3, 3).double()
    grads = []
    for leak in (None, 0.0):
        torch.manual_seed(5)
        layer = TracedConv2d(4, 6, 3, stride=2, padding=1, groups=2, trace_leak=leak).double()
        y = x.clone().requires_grad_()
        layer(y, init=True).backward(error)
        grads.append([y.grad, layer.weight.grad, layer.bias.grad])
    for plain, traced in zip(*grads, strict=True):
        torch.testing.assert_close(traced, plain)


def test_the_input_of_a_traced_linear_layer_gets_the_spatial_error():
    layer = ScaledWSLinear(4, 3, trace_leak=LEAK).double()
    x, error = torch.randn(2, 4).double().requires_grad_(), torch.randn(2, 3).double()
    layer(x, init=True)
    layer(x).backward(error)
    torch.testing.assert_close(x.grad, error @ layer.synaptic_weight().detach())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_the_gpu_applies_the_same_gradient_as_the_cpu():
    net, x, labels = small_net(feedback=True)
    want, got = CollectGradients(net), None
    train_batch(net, direct_coding(x, 3), labels, want, steps=3)
    net, _, _ = small_net(feedback=True)
    net.cuda()
    got = torch.optim.SGD(net.parameters(), 0.0)
    train_batch(net, direct_coding(x.cuda(), 3), labels.cuda(), got, steps=3)
    for name, parameter in net.named_parameters():
        np.testing.assert_allclose(parameter.grad.cpu().numpy(), want.steps[0][name], rtol=1e-7, atol=1e-10, err_msg=name)

"""The gradient rule against its closed form, written in NumPy alone: traces as explicit double sums, sum_t M_i psi_i a_j."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from measuring import CollectGradients
from numpy.lib.stride_tricks import sliding_window_view

from snncompile.online import ScaledWSLinear, TracedConv2d, TracedLinear, ottt_vgg
from snncompile.online.neuron import OnlineLIF
from snncompile.online.rule import direct_coding, train_batch

LEAK, GAIN, MSE = 0.5, 2.74, 0.05
CLASSES = 3


def patches(x):  # [B,C,H,W] -> [B,C,H,W,3,3], zero padding 1
    return sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), axis=(2, 3))


def conv(x, w):
    return np.einsum("bchwkl,ockl->bohw", patches(x), w)


def conv_weight_gradient(x, error):
    return np.einsum("bohw,bchwkl->ockl", error, patches(x))


def conv_input_gradient(error, w):
    b, _, height, width = error.shape
    dx = np.zeros((b, w.shape[1], height + 2, width + 2))
    for k in range(3):
        for m in range(3):
            dx[:, :, k : k + height, m : m + width] += np.einsum("bohw,oc->bchw", error, w[:, :, k, m])
    return dx[:, :, 1:-1, 1:-1]


def psi(u):
    sg = 1 / (1 + np.exp(-4 * (u - 1)))
    return 4 * sg * (1 - sg)


def trace(history):  # a[t] = sum_tau leak^(t - tau) x[tau], the closed form
    t = len(history) - 1
    return sum(LEAK ** (t - tau) * x for tau, x in enumerate(history))


def lif(v, current):
    u = LEAK * v + current
    s = (u >= 1).astype(u.dtype)
    return u, s, u - s


def loss_gradient(y, labels, steps):
    onehot = np.eye(y.shape[1])[labels]
    softmax = np.exp(y - y.max(1, keepdims=True))
    softmax /= softmax.sum(1, keepdims=True)
    return ((1 - MSE) * (softmax - onehot) / len(y) + MSE * 2 * (y - onehot) / y.size) / steps


def standardised(w, gain):
    n = w[0].size
    c = w - w.mean((1, 2, 3), keepdims=True)
    r = (w.var((1, 2, 3), ddof=1, keepdims=True) * n + 1e-4) ** -0.5
    return gain * c * r, c, r, n


def through_standardisation(grad, w, gain):  # exact derivative of W~ with respect to W and gain
    _, c, r, n = standardised(w, gain)
    along = (grad * c).sum((1, 2, 3), keepdims=True)
    dc = gain * (r * grad - r**3 * n / (n - 1) * c * along)
    return dc - dc.mean((1, 2, 3), keepdims=True), along * r


class ReferenceNet:
    """x -> conv1 (+ feedback of t-1) -> LIF -> 2.74 -> pool -> conv2 -> LIF -> 2.74 -> flatten -> linear, learning by OTTT."""

    def __init__(self, net):
        self.p = {name: tensor.detach().numpy().copy() for name, tensor in net.named_parameters()}
        self.spikes = 0.0

    def gradients(self, x, labels, steps):
        """Yield the gradient of every step, {name: array}; whoever iterates may change ``self.p`` between steps."""
        v1 = v2 = 0.0
        pooled, maps, heads = [], [], []
        for _ in range(steps):
            p, g = self.p, {}
            w1, w2 = (standardised(p[f"features.{i}.conv.weight"], p[f"features.{i}.conv.gain"])[0] for i in (0, 2))
            current = conv(x, w1) + p["features.0.conv.bias"][:, None, None]
            recurrent = "feedback.weight" in p and len(heads) > 0
            if recurrent:
                maps.append(GAIN * s2.repeat(2, 2).repeat(2, 3))  # noqa: F821 - of the step before
                current = current + conv(maps[-1], p["feedback.weight"]) + p["feedback.bias"][:, None, None]
            u1, s1, v1 = lif(v1, current)
            b, c, height, width = s1.shape
            pooled.append(GAIN * s1.reshape(b, c, height // 2, 2, width // 2, 2).mean((3, 5)))
            u2, s2, v2 = lif(v2, conv(pooled[-1], w2) + p["features.2.conv.bias"][:, None, None])
            heads.append(GAIN * s2.reshape(b, -1))
            self.spikes += s1.mean() * s2.mean()

            error = loss_gradient(heads[-1] @ p["classifier.weight"].T + p["classifier.bias"], labels, steps)
            g["classifier.weight"], g["classifier.bias"] = error.T @ trace(heads), error.sum(0)
            error = GAIN * (error @ p["classifier.weight"]).reshape(s2.shape) * psi(u2)
            self._conv(g, "features.2.conv", trace(pooled), error)
            error = conv_input_gradient(error, w2).repeat(2, 2).repeat(2, 3) / 4
            error = GAIN * error * psi(u1)
            self._conv(g, "features.0.conv", x, error)  # pixels: no trace
            if recurrent:
                g["feedback.weight"], g["feedback.bias"] = conv_weight_gradient(trace(maps), error), error.sum((0, 2, 3))
            yield g

    def _conv(self, g, name, a, error):
        w, gain = self.p[f"{name}.weight"], self.p[f"{name}.gain"]
        g[f"{name}.weight"], g[f"{name}.gain"] = through_standardisation(conv_weight_gradient(a, error), w, gain)
        g[f"{name}.bias"] = error.sum((0, 2, 3))


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

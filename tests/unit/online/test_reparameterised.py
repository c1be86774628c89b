"""What the compiler makes of the methods' parameters, against closed forms: batch norms, membrane batch norms, gates, thresholds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from snncompile.capture.capture import capture
from snncompile.ir.linear_ops import Conv2d
from snncompile.ir.neuron import Fire, Neuron, Reset
from snncompile.online import (
    HDLIF,
    OTSLIF,
    BinaryConv2d,
    GatedLIF,
    OverTime,
    ParallelHDLIF,
    ResettableNetwork,
    Scale,
    ScaledWSConv2d,
    TernaryConv2d,
)
from snncompile.online.state import Stateful, initial_state
from snncompile.passes import check_population_form, run_passes

STEPS, C = 4, 3


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Net(ResettableNetwork):
    def __init__(self, *layers):
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        return self.body(x)


def moved(module, seed=0):
    """The module with every parameter and statistic moved, gammas to both signs."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.copy_(torch.tensor([-1.5, 0.5, 2.0]))
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.3, 2)
    return module.double().eval()


def compiled(net, layout="step"):
    """The captured and the folded convolution and neuron."""
    graph = capture(net, input_shape=(2, 5, 5), steps=STEPS, layout=layout).graph
    x = np.random.default_rng(0).normal(size=(2, STEPS, 2, 5, 5))
    folded, records = run_passes(graph, probe={"x": x})
    check_population_form(folded)
    assert max(record.membrane_error for record in records) < 1e-9
    return [(next(n for n in g.nodes if isinstance(n, Conv2d)), [n for n in g.nodes if isinstance(n, Neuron)][-1]) for g in (graph, folded)]


def same(field, want):
    """A field (1 | T, ...) of a neuron of C channels against (1 | T, 1 | C)."""
    got = np.asarray(field).reshape(len(field), -1)
    np.testing.assert_allclose(*np.broadcast_arrays(got, np.atleast_2d(want)), rtol=1e-6, atol=1e-7)


def parameters(module):
    return {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("conv", [BinaryConv2d, TernaryConv2d, ScaledWSConv2d], ids=lambda c: c.__name__)
def test_a_batch_norm_folds_with_the_sign_of_its_gamma_and_weights_are_what_they_are_in_eval_mode(conv):
    layer, norm = conv(2, C, 3, padding=1), nn.BatchNorm2d(C)
    net = moved(Net(layer, norm, HDLIF(STEPS, C)))
    p, w = parameters(net.body), layer.weight.detach().numpy()
    b = np.zeros(C)
    if conv is BinaryConv2d:
        w = np.abs(w).mean((1, 2, 3), keepdims=True) * np.sign(w)
    elif conv is TernaryConv2d:
        w = np.clip(w, -1, 1)
        keep = np.abs(w) > 0.7 * np.abs(w).mean()
        w = np.abs(w[keep]).mean() * np.sign(w) * keep
    else:
        fan_in, centred = w[0].size, w - w.mean((1, 2, 3), keepdims=True)
        w = p["0.gain"] * centred / np.sqrt((centred**2).sum((1, 2, 3), keepdims=True) * fan_in / (fan_in - 1) + 1e-4)
        b = p["0.bias"]
    a = p["1.weight"] / np.sqrt(p["1.running_var"] + 1e-5)
    assert a.min() < 0 < a.max()
    (raw, _), (folded, neuron) = compiled(net)
    np.testing.assert_allclose(raw.weight, w, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(folded.weight, a[:, None, None, None] * w, rtol=1e-6, atol=1e-9)
    same(neuron.bias, a * b + p["1.bias"] - a * p["1.running_mean"])
    if conv is BinaryConv2d:
        assert all(np.unique(np.abs(row)).size == 1 for row in folded.weight.round(12))


@pytest.mark.parametrize("four_bit", [False, True])
def test_a_membrane_batch_norm_of_graded_spikes_is_form_a(four_bit):
    net = moved(Net(nn.Conv2d(2, C, 1, bias=False), HDLIF(STEPS, C, mem_bn=True, four_bit=four_bit)))
    p = parameters(net.body[1])
    lam, theta, a, b = (sigmoid(p[name])[:, None] for name in ("alpha", "v_th", "mem_ratio", "bn_ratio"))
    g, o, mu, var = (np.stack([p[f"bn.{t}.{name}"] for t in range(STEPS)]) for name in ("weight", "bias", "running_mean", "running_var"))
    k = a + b * g / np.sqrt(var + 1e-5)
    c = b * (o - g * mu / np.sqrt(var + 1e-5))
    assert k.min() < 0 < k.max()
    for conv, neuron in compiled(net):
        np.testing.assert_allclose(conv.weight, net.body[0].weight.detach().numpy(), rtol=1e-9)
        assert (neuron.fire, neuron.reset) == (Fire.RELU, Reset.CLAMP)
        same(neuron.leak[1:], (k * lam)[1:])  # nothing is left of a step before the first
        same(neuron.gain, k)
        same(neuron.bias, c)
        same(neuron.theta, theta)


class SpikingMemBN(Stateful):
    """mh[t] = k[t] (lam[t] v[t-1] + I[t]) + c[t],  s = H(mh - theta[t]),  v = mh - theta[t] s,  k > 0."""

    def __init__(self):
        super().__init__()
        g = torch.Generator().manual_seed(1)
        self.lam, self.theta = (torch.rand(STEPS, generator=g).double() * 0.3 + 0.3 for _ in range(2))
        self.k = torch.rand(STEPS, C, 1, 1, generator=g).double() + 0.6
        self.c = 0.2 * torch.randn(STEPS, C, 1, 1, generator=g).double()
        self.forget()

    def forget(self):
        self.v, self.t = None, 0

    def forward(self, current):
        t = self.t
        mh = self.k[t] * (self.lam[t] * initial_state(current, self.v) + current) + self.c[t]
        s = (mh >= self.theta[t]).to(mh.dtype)
        self.v, self.t = mh - self.theta[t] * s, t + 1
        return s


def test_a_membrane_batch_norm_of_binary_spikes_becomes_form_b_and_leaves_the_weights_alone():
    net = moved(Net(nn.Conv2d(2, C, 1, bias=False), SpikingMemBN()))
    made = net.body[1]
    lam, theta, k, c = (x.numpy().reshape(STEPS, -1) for x in (made.lam, made.theta, made.k, made.c))
    (_, captured), (conv, neuron) = compiled(net)
    same(captured.gain, k)
    same(captured.leak[1:], (k * lam)[1:])
    np.testing.assert_allclose(conv.weight, net.body[0].weight.detach().numpy(), rtol=1e-9)
    assert np.all(neuron.gain == 1)
    same(neuron.leak[1:], lam[1:] * k[:-1])
    same(neuron.bias, c / k)
    same(neuron.theta, theta / k)
    same(neuron.reset_amount, theta / k)


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.neuron = OverTime(nn.Conv2d(2, C, 1, bias=False)), GatedLIF(C, STEPS)

    def forward(self, x):
        return self.neuron(self.conv(x))


def test_gated_leaks_and_the_reset_that_comes_a_step_late_are_their_closed_forms():
    net = moved(Gated())
    p = {name: sigmoid(value) for name, value in parameters(net.neuron).items()}
    a, b, g = p["alpha"], p["beta"], p["gamma"]
    leak = 1 - a * (1 - p["tau"])
    (_, neuron), _ = compiled(net, "TB")
    assert (neuron.fire, neuron.reset) == (Fire.STEP_GT, Reset.SET)
    same(neuron.leak, leak)
    same(neuron.gain, 1 - b * (1 - p["conduct"]))
    same(neuron.bias, -(1 - a) * p["leak"])
    same(neuron.theta, p["vth"])
    same(neuron.reset_keep, 1 - g)
    same(neuron.reset_value, -(1 - g) * p["vre"] / leak)


def test_calibrated_thresholds_are_one_number_a_step_and_so_is_what_is_subtracted():
    neuron = OTSLIF(STEPS)
    neuron.theta.copy_(torch.tensor([1.0, 1.25, 0.75, 1.5]))
    neuron.spread.fill_(0.0)
    for _, got in compiled(Net(nn.Conv2d(2, C, 1), neuron).double().eval()):
        assert (got.fire, got.reset) == (Fire.STEP_GE, Reset.SUBTRACT)
        same(got.theta, neuron.theta.numpy()[:, None])
        same(got.reset_amount, neuron.theta.numpy()[:, None])


def test_the_threshold_of_a_parallel_neuron_becomes_a_bias():
    net = moved(Net(nn.Conv2d(2, C, 1), ParallelHDLIF(STEPS, four_bit=True)))
    theta = sigmoid(parameters(net.body[1])["v_th"][0])
    (_, captured), (_, neuron) = compiled(net)
    same(captured.theta, theta)
    assert not np.any(neuron.theta)
    same(neuron.bias, parameters(net.body[0])["bias"] - theta)


def test_a_gain_behind_spikes_goes_into_the_weights_that_read_them():
    net = moved(Net(nn.Conv2d(2, C, 1), HDLIF(STEPS, C), Scale(2.74), nn.Conv2d(C, C, 1, bias=False), HDLIF(STEPS, C)))
    graph = capture(net, input_shape=(2, 5, 5), steps=STEPS, layout="step").graph
    folded, _ = run_passes(graph, probe={"x": np.random.default_rng(0).normal(size=(1, STEPS, 2, 5, 5))})
    last = [n for n in folded.nodes if isinstance(n, Conv2d)][-1]
    np.testing.assert_allclose(last.weight, 2.74 * net.body[3].weight.detach().numpy(), rtol=1e-9)

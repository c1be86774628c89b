"""Surrogates as derivatives of what they stand for, ASGL's smoothing, and Shortcut's heads that vanish in eval mode."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snncompile.errors import CompileError
from snncompile.online import Boxcar, Dspike, Rectangle, Sigmoid, Spike, Triangle, build_network
from snncompile.online.asgl import AdaptiveSpike, ASGLNeuron
from snncompile.online.multistep import tet_loss, through_time

PULSES = (Sigmoid, Triangle, Rectangle, Boxcar)
X = np.linspace(-2.01, 2.01, 4021)


def psi(surrogate):
    u = torch.from_numpy(X + 1).requires_grad_()
    s = Spike.apply(u, 1.0, surrogate)
    s.sum().backward()
    np.testing.assert_array_equal(s.detach().numpy(), X + 1 >= 1)
    return u.grad.numpy()


@pytest.mark.parametrize(
    ("surrogate", "want"),
    [
        (Sigmoid(4), lambda x: np.gradient(1 / (1 + np.exp(-4 * x)), x)),
        (Triangle(0.8), lambda x: np.maximum(0, 0.8 - np.abs(x)) / 0.64),
        (Rectangle(1.5), lambda x: (np.abs(x) < 0.75) / 1.5),
        (Boxcar(0.2), lambda x: (np.abs(x) < 0.2) * 1.0),
        (Dspike(3, 1.2), lambda x: np.gradient(np.tanh(3 * np.clip(x, -1.2, 1.2)) / (2 * np.tanh(3.6)) + 0.5, x)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_surrogate_is_the_derivative_it_says(surrogate, want):
    inner = np.abs(np.abs(X) - 1.2) > 2e-3  # the numerical derivative straddles Dspike's edge
    np.testing.assert_allclose(psi(surrogate)[inner], want(X)[inner], atol=2e-5)


def test_all_but_the_boxcar_integrate_to_one():
    for surrogate in (Triangle(1), Rectangle(1), Dspike(5, 1)):
        assert psi(surrogate).sum() * (X[1] - X[0]) == pytest.approx(1, abs=2e-3)


def test_a_spike_gives_its_threshold_no_gradient_and_strict_excludes_it():
    u = torch.ones(1, requires_grad=True)
    assert Spike.apply(u, torch.ones(1), Sigmoid(), True).item() == 0
    assert Spike.apply(u, torch.ones(1), Sigmoid(), False).item() == 1


def test_adaptive_smoothing_mixes_hard_and_smooth_and_learns_its_slope():
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)
    for p in (0.0, 1.0):
        spike, inputs = AdaptiveSpike(width=0.8, p=p).double(), x.clone().requires_grad_()
        s = spike(inputs)
        smooth = np.clip(x.numpy() / 0.8 + 0.5, 0, 1)
        np.testing.assert_allclose(s.detach().numpy(), smooth if p else x.numpy() >= 0, rtol=1e-6)
        s.sum().backward()
        inside = np.abs(x.numpy()) < 0.4
        np.testing.assert_allclose(inputs.grad.numpy(), inside / 0.8, rtol=1e-6)
        assert spike.log_slope.grad.item() == pytest.approx((x.numpy() / 0.8)[inside].sum(), abs=1e-6)
    assert sorted(set(AdaptiveSpike(p=0.5).train()(torch.full((200,), 0.2)).tolist())) == pytest.approx([0.7, 1.0])


def test_an_adaptive_neuron_scales_hard_resets_and_is_exact_in_eval_mode():
    neuron = ASGLNeuron().eval()
    currents = torch.tensor([0.5, 0.25, 0.25, 0.375]).view(4, 1, 1, 1, 1)
    assert neuron(currents).flatten().tolist() == [0.5, 0, 0, 0.5]  # u = .5, .25, .375, .5625


@pytest.mark.parametrize("p", [0.0, 1.0], ids=["hard", "smooth"])
def test_the_error_of_an_adaptive_neuron_passes_the_ramp_the_reset_and_time(p):
    torch.manual_seed(0)
    neuron = ASGLNeuron(0.5, width=0.8, p=p).double().train()
    with torch.no_grad():
        neuron.decay.fill_(0.4)
    currents, weights = torch.rand(5, 1, 6, 1, 1).double().requires_grad_(), torch.randn(5, 1, 6, 1, 1).double()
    y = neuron(currents)
    (y * weights).sum().backward()
    x, w = currents.detach().numpy().reshape(5, 6), weights.numpy().reshape(5, 6)
    lam, slope, u, s, v = 1 / (1 + np.exp(-0.4)), 1 / 0.8, np.zeros((5, 6)), np.zeros((5, 6)), np.zeros(6)
    before = []
    for t in range(5):
        before.append(v)
        u[t] = lam * v + x[t]
        s[t] = np.clip(slope * (u[t] - 0.5) + 0.5, 0, 1) if p else u[t] >= 0.5
        v = (1 - s[t]) * u[t]
    want, back, decay, log_slope = np.zeros((5, 6)), np.zeros(6), 0.0, 0.0  # back = dL/dv[t]
    for t in reversed(range(5)):
        inside = np.abs(u[t] - 0.5) < 0.4
        ds = 0.5 * w[t] - back * u[t]
        want[t] = ds * inside * slope + back * (1 - s[t])
        log_slope += (ds * inside * slope * (u[t] - 0.5)).sum()
        decay += (want[t] * before[t]).sum() * lam * (1 - lam)
        back = lam * want[t]
    np.testing.assert_allclose(y.detach().numpy().reshape(5, 6), 0.5 * s, atol=1e-7)
    np.testing.assert_allclose(currents.grad.numpy().reshape(5, 6), want, atol=1e-6)
    assert neuron.decay.grad.item() == pytest.approx(decay, abs=1e-6)
    assert neuron.spike.log_slope.grad.item() == pytest.approx(log_slope, abs=1e-6)


def test_smoothing_that_cannot_be_is_refused():
    for arguments in ({"p": 1.5}, {"width": 0.0}):
        with pytest.raises(CompileError) as caught:
            AdaptiveSpike(**arguments)
        assert caught.value.code == "SNN703"
    for made in (lambda: Dspike(b=0), lambda: Dspike(R=-1), *(lambda k=k, n=n: k(n) for k in PULSES for n in (0.0, -1.0, float("nan")))):
        with pytest.raises(CompileError, match="must be positive") as caught:
            made()
        assert caught.value.code == "SNN703"


SMALL = {"config": [3, "A", 4], "in_channels": 1, "num_classes": 2, "input_size": [4, 4]}


@pytest.mark.parametrize("neuron", ["lif", "dspike", "asgl"])
def test_shortcuts_help_in_training_and_do_not_exist_in_eval_mode(neuron):
    torch.manual_seed(0)
    net = build_network("tet_vgg", **SMALL, neuron=neuron, shortcuts=[0, 1])
    twin = build_network("tet_vgg", **SMALL, neuron=neuron)
    frames, labels = torch.randn(3, 4, 1, 4, 4), torch.tensor([0, 1, 1, 0])
    optimiser = torch.optim.SGD(net.parameters(), 0.0)
    torch.manual_seed(1)
    _, loss = through_time(net, frames, labels, optimiser, shortcut=0.3)
    assert [tuple(y.shape) for y in net.auxiliary] == [(3, 4, 2)] * 2
    main = loss - 0.3 * sum(float(tet_loss(y, labels).detach()) for y in net.auxiliary)
    assert all(head.layers[2].weight.grad is not None for head in net.heads.values())
    torch.manual_seed(1)
    assert float(tet_loss(net(frames), labels).detach()) == pytest.approx(main, rel=1e-5)
    twin.load_state_dict(net.state_dict(), strict=False)
    with torch.no_grad():
        assert torch.equal(net.eval()(frames), twin.eval()(frames))
    assert net.auxiliary == []


@pytest.mark.parametrize("changes", [{"shortcuts": [3]}, {"neuron": "izhikevich"}], ids=str)
def test_heads_and_neurons_that_do_not_exist_are_refused(changes):
    with pytest.raises(CompileError) as caught:
        build_network("tet_vgg", **(SMALL | changes))
    assert caught.value.code == "SNN703"

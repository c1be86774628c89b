"""EM-PF's neuron, weights and attention: the equations at numbers computed by hand or in NumPy, and the neuron's gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snncompile.errors import CompileError
from snncompile.online.binary import CONVOLUTIONS, BinaryConv2d, TernaryConv2d
from snncompile.online.hdlif import HDLIF, ParallelHDLIF, quantised
from snncompile.online.seca import SECA


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def neuron(steps=4, **options):
    torch.manual_seed(0)
    made = HDLIF(steps, 3, **options).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
        for bn in made.bn or ():
            bn.running_mean.normal_()
            bn.running_var.uniform_(0.3, 2)
    return made


def test_four_bit_spikes_round_half_to_even_and_saturate_with_a_derivative_of_one():
    s = torch.tensor([0, 0.125, 0.375, 0.624, 3.74, 3.75, 9], requires_grad=True)
    q = quantised(s, training=True)
    assert q.tolist() == quantised(s, training=False).tolist() == [0, 0, 0.5, 0.5, 3.75, 3.75, 3.75]
    q.sum().backward()
    assert s.grad.tolist() == [1] * 7


def test_leaks_and_thresholds_start_at_a_half_and_an_idle_neuron_is_clamped_to_its_threshold():
    made = HDLIF(3, 1).eval()
    spikes = [made(torch.full((1, 1, 1, 1), value)).item() for value in (2.0, 0.125, -1.0)]
    assert spikes == [1.5, 0, 0]  # m = 2, then .25 + .125, then .1875 - 1
    assert made.v.item() == -0.8125


@pytest.mark.parametrize("mem_bn", [False, True])
@pytest.mark.parametrize("four_bit", [False, True])
def test_eval_mode_is_the_reparameterised_neuron_with_any_sign_of_k(mem_bn, four_bit):
    made = neuron(mem_bn=mem_bn, four_bit=four_bit).eval()
    currents = 3 * torch.randn(4, 2, 3, 5, 5, dtype=torch.float64)
    p = {name: tensor.detach().numpy() for name, tensor in made.state_dict().items()}
    v, signs = 0.0, set()
    for t, current in enumerate(currents.numpy()):
        k, c = np.ones(3), np.zeros(3)
        if mem_bn:  # form A: k = a + b g/sd, c = b (o - g mu/sd)
            a, b = sigmoid(p["mem_ratio"][t]), sigmoid(p["bn_ratio"][t])
            over_sd = p[f"bn.{t}.weight"] / np.sqrt(p[f"bn.{t}.running_var"] + 1e-5)
            k, c = a + b * over_sd, b * (p[f"bn.{t}.bias"] - over_sd * p[f"bn.{t}.running_mean"])
        k, c = k[:, None, None], c[:, None, None]
        signs.update(np.sign(k).ravel())
        m, theta = k * sigmoid(p["alpha"][t]) * v + k * current + c, sigmoid(p["v_th"][t])
        s, v = np.maximum(m - theta, 0), np.minimum(m, theta)
        want = np.clip(np.rint(4 * s), 0, 15) / 4 if four_bit else s
        np.testing.assert_allclose(made(currents[t]).detach().numpy(), want, atol=1e-12)
    assert signs == ({-1, 1} if mem_bn else {1})


def test_weight_leak_and_threshold_gradients_are_equations_4_and_5_step_by_step():
    torch.manual_seed(3)
    layer, made = torch.nn.Conv2d(3, 3, 1, bias=False).double(), neuron(steps=5)
    inputs, errors = torch.rand(5, 1, 3, 1, 1).double(), torch.randn(5, 1, 3, 1, 1).double()
    w, alpha, v_th = (x.detach().numpy() for x in (layer.weight[:, :, 0, 0], made.alpha, made.v_th))
    want = {"w": np.zeros((3, 3)), "alpha": np.zeros(5), "v_th": np.zeros(5)}
    v, fired = np.zeros(3), 0
    for t in range(5):
        x, e = inputs[t].numpy().ravel(), errors[t].numpy().ravel()
        made(layer(inputs[t])).backward(errors[t])
        lam, theta = sigmoid(alpha[t]), sigmoid(v_th[t])
        m = lam * v + w @ x
        dm = (m > theta) * e
        want["w"] += np.outer(dm, x)
        want["alpha"][t] = (dm * v).sum() * lam * (1 - lam)
        want["v_th"][t] = -dm.sum() * theta * (1 - theta)
        v, fired = np.minimum(m, theta), fired + (m > theta).sum()
    assert 0 < fired < 15
    np.testing.assert_allclose(layer.weight.grad[:, :, 0, 0].numpy(), want["w"], atol=1e-14)
    np.testing.assert_allclose(made.alpha.grad.numpy(), want["alpha"], atol=1e-14)
    np.testing.assert_allclose(made.v_th.grad.numpy(), want["v_th"], atol=1e-14)


def through_time(made, currents, weights):
    """Back-propagation through time by autograd: the same neuron written with its state left in the graph."""
    total, v = 0.0, torch.zeros_like(currents[0])
    for t, current in enumerate(currents):
        m = torch.sigmoid(made.alpha[t]) * v + current
        v = torch.minimum(m, torch.sigmoid(made.v_th[t]))
        total = total + (weights[t] * torch.relu(m - torch.sigmoid(made.v_th[t]))).sum()
    return torch.autograd.grad(total, [currents, made.alpha, made.v_th], materialize_grads=True)


@pytest.mark.parametrize(("drive", "agree"), [(4.0, True), (0.5, False)], ids=["fires at every step", "does not"])
def test_the_rule_is_back_propagation_through_time_for_neurons_that_fire_at_every_step(drive, agree):
    made = neuron()
    currents = (drive + torch.rand(4, 2, 3, 2, 2)).double().requires_grad_()
    weights = torch.randn(4, 2, 3, 2, 2).double()
    for t in range(4):
        (weights[t] * made(currents[t])).sum().backward()
    want = through_time(made, currents, weights)
    got = [currents.grad, made.alpha.grad]  # theta stays in v: its own temporal part is dropped in any case
    assert all(torch.allclose(g, w) for g, w in zip(got, want, strict=False)) == agree


def test_the_parallel_neuron_has_no_state_and_one_threshold_for_all_steps():
    made = ParallelHDLIF(3).eval()
    with torch.no_grad():
        made.v_th.copy_(torch.tensor([0.0, 5.0, -5.0]))
    for _ in range(5):
        assert made(torch.tensor([0.25, 0.5, 2.0])).tolist() == [0, 0, 1.5]


def test_a_step_beyond_t_is_refused_until_reset():
    made = HDLIF(2, 1).eval()
    x = torch.ones(1, 1, 1, 1)
    first = [made(x), made(x)]
    with pytest.raises(CompileError, match="T = 2") as caught:
        made(x)
    assert caught.value.code == "SNN705"
    made.forget()
    assert [made(x), made(x)] == first


def test_binary_weights_are_the_channel_mean_times_the_sign_and_learn_inside_one():
    conv = BinaryConv2d(1, 2, 1).double()
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[[-0.5]]], [[[1.5]]]]))
    y = conv(torch.ones(1, 1, 1, 1).double())
    assert y.flatten().tolist() == [-0.5, 1.5]
    y.sum().backward()
    assert conv.weight.grad.flatten().tolist() == [1, 0]
    latent = torch.tensor([0.0, -2.0, 1.0, 1.0]).view(1, 4, 1, 1)
    assert conv.quantise(latent).flatten().tolist() == [0, -1, 1, 1]
    assert conv.eval()(torch.ones(1, 1, 1, 1).double()).flatten().tolist() == [-0.5, 1.5]


def test_float_weights_are_ordinary_ones_and_learn_beyond_one():
    conv = CONVOLUTIONS["float"](1, 2, 1).double()
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[[-0.5]]], [[[1.5]]]]))
    y = conv(torch.full((1, 1, 1, 1), 3.0).double())
    y.sum().backward()
    assert y.flatten().tolist() == [-1.5, 4.5]
    assert conv.weight.grad.flatten().tolist() == [3, 3]


def test_ternary_weights_have_one_threshold_and_one_scale_per_layer():
    latent = torch.tensor([2.0, -1.0, 0.5, 0.1, -0.4, 0.0]).view(2, 3, 1, 1)
    # clipped: 1 1 .5 .1 .4 0, mean .5, threshold .35; kept 1 1 .5 .4, mean .725
    got = TernaryConv2d(3, 2, 1).quantise(latent)
    torch.testing.assert_close(got.flatten(), torch.tensor([0.725, -0.725, 0.725, 0, -0.725, 0]))
    assert TernaryConv2d(3, 2, 1).quantise(torch.zeros(2, 3, 1, 1)).abs().sum() == 0


def test_attention_weighs_each_channel_by_its_neighbours():
    torch.manual_seed(0)
    seca = SECA().double()
    assert sum(p.numel() for p in seca.parameters()) == 6
    x = torch.randn(2, 7, 3, 4).double()
    w, b = seca.conv.weight.detach().numpy().ravel(), seca.conv.bias.item()
    gap = np.pad(x.numpy().mean((2, 3)), ((0, 0), (2, 2)))
    gate = sigmoid(np.stack([gap[:, c : c + 5] @ w + b for c in range(7)], 1))
    np.testing.assert_allclose(seca(x).detach().numpy(), x.numpy() * gate[:, :, None, None], atol=1e-14)

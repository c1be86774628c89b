"""The baselines: TET and GLIF, trained through time, and the normaliser-free network, each against its formulas and its published size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from measuring import parameters, training_bytes
from torch.nn import functional

from snncompile.errors import CompileError
from snncompile.online import GatedLIF, HardLIF, OverTime, TdBatchNorm, build_network, nf_resnet
from snncompile.online.multistep import tet_loss, through_time
from snncompile.online.rule import direct_coding, train_batch


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_a_hard_reset_neuron_fires_above_its_threshold_only_and_forgets_what_it_had():
    currents = torch.tensor([1.0, 1.0, 0.25, 2.0, 0.5]).view(5, 1, 1, 1, 1)
    assert HardLIF()(currents).flatten().tolist() == [0, 1, 0, 1, 0]  # u = 1 (no spike), 1.5, .25, 2.125, .5


def test_the_error_of_a_hard_reset_neuron_passes_through_time_and_reset():
    torch.manual_seed(0)
    currents, weights = torch.randn(4, 1, 3, 1, 1).double().mul(1.5).requires_grad_(), torch.randn(4, 1, 3, 1, 1).double()
    (HardLIF()(currents) * weights).sum().backward()
    x, w = currents.detach().numpy().reshape(4, 3), weights.numpy().reshape(4, 3)
    u, v = np.zeros((4, 3)), np.zeros(3)
    for t in range(4):
        u[t] = 0.5 * v + x[t]
        v = u[t] * (u[t] <= 1)
    want, back = np.zeros((4, 3)), np.zeros(3)  # back = dL/dv[t]
    for t in reversed(range(4)):
        psi = np.maximum(0, 1 - np.abs(u[t] - 1))
        du = w[t] * psi + back * ((u[t] <= 1) - u[t] * psi)
        want[t], back = du, 0.5 * du
    np.testing.assert_allclose(currents.grad.numpy().reshape(4, 3), want, atol=1e-12)


def test_a_gated_neuron_is_its_equation_with_per_channel_gates_and_per_step_conductance():
    torch.manual_seed(1)
    neuron = GatedLIF(3, 4).double()
    with torch.no_grad():
        for parameter in neuron.parameters():
            parameter.add_(torch.randn_like(parameter))
    currents = 2 * torch.randn(4, 2, 3, 5, 5).double()
    p = {name: sigmoid(parameter.detach().numpy())[..., None, None] for name, parameter in neuron.named_parameters()}
    u = s = np.zeros((2, 3, 5, 5))
    fired = 0
    for t, (current, got) in enumerate(zip(currents.numpy(), neuron(currents).detach().numpy(), strict=True)):
        leaked = (1 - p["alpha"] * (1 - p["tau"])) * u * (1 - p["gamma"] * s) - (1 - p["alpha"]) * p["leak"]
        u = leaked + current * (1 - p["beta"] * (1 - p["conduct"][t])) - (1 - p["gamma"]) * p["vre"] * s
        s = (u > p["vth"]).astype(float)
        np.testing.assert_array_equal(got, s)
        fired += s.sum()
    assert 0 < fired < 600
    neuron(currents).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in neuron.parameters())  # the threshold learns too


def test_the_error_of_a_gated_neuron_passes_gates_reset_and_time():
    torch.manual_seed(2)
    neuron = GatedLIF(3, 4).double()
    with torch.no_grad():
        for parameter in neuron.parameters():
            parameter.add_(torch.randn_like(parameter))
    currents, weights = torch.randn(4, 2, 3, 2, 2).double().requires_grad_(), torch.randn(4, 2, 3, 2, 2).double()
    (neuron(currents) * weights).sum().backward()
    stored = {name: parameter.detach().clone().requires_grad_() for name, parameter in neuron.named_parameters()}
    p = {name: value.sigmoid()[..., None, None] for name, value in stored.items()}
    x, u, s, total = currents.detach().clone().requires_grad_(), 0.0, 0.0, 0.0
    for t in range(4):  # the equation again; a step whose derivative is 1 within a half of the threshold
        kept = (1 - p["alpha"] + p["alpha"] * p["tau"]) * (u - p["gamma"] * u * s) - (1 - p["gamma"]) * p["vre"] * s
        u = kept + p["alpha"] * p["leak"] - p["leak"] + x[t] - p["beta"] * x[t] + p["beta"] * p["conduct"][t] * x[t]
        ramp = (u - p["vth"]).clamp(-0.5, 0.5)
        s = (u > p["vth"]).double() + ramp - ramp.detach()
        total = total + (s * weights[t]).sum()
    want = torch.autograd.grad(total, [x, *stored.values()])
    torch.testing.assert_close(currents.grad, want[0])
    for (name, parameter), gradient in zip(neuron.named_parameters(), want[1:], strict=True):
        torch.testing.assert_close(parameter.grad, gradient, msg=name)
        assert gradient.abs().sum() > 0


def test_gates_start_as_in_the_official_code():
    neuron = GatedLIF(2, 4)
    values = {name: torch.sigmoid(parameter).flatten()[0].item() for name, parameter in neuron.named_parameters()}
    want = {"alpha": 0.55, "beta": 0.65, "gamma": 0.55, "tau": 0.25, "vth": 0.5, "leak": 0.0625, "vre": 0.5, "conduct": 0.5}
    assert values == pytest.approx(want)


def test_the_norm_that_knows_the_threshold_halves_its_output():
    torch.manual_seed(0)
    norm, x = TdBatchNorm(3, 0.7).double(), torch.randn(8, 3, 4, 4).double()
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    for mode in (True, False):
        norm.train(mode)
        want = 0.35 * functional.batch_norm(x, norm.running_mean.clone(), norm.running_var.clone(), training=mode)
        torch.testing.assert_close(norm(x), want * norm.weight[:, None, None] + norm.bias[:, None, None])


def test_the_loss_asks_every_step_to_be_right():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 2, 4), torch.tensor([1, 3])
    want = sum(0.95 * functional.cross_entropy(y, labels) + 0.05 * ((y - 1) ** 2).mean() for y in logits) / 3
    torch.testing.assert_close(tet_loss(logits, labels), want)


def test_stbp_asks_the_mean_of_the_logits_to_be_right():
    torch.manual_seed(0)
    net = build_network("tet_vgg", config=[2], in_channels=1, num_classes=3, input_size=[4, 4])
    frames, labels = torch.randn(3, 2, 1, 4, 4), torch.tensor([1, 2])
    mean, loss = through_time(net, frames, labels, torch.optim.SGD(net.parameters(), 0.0), each_step=False)
    torch.testing.assert_close(mean, net(frames).mean(0).detach())
    picked = np.exp(mean.numpy()) / np.exp(mean.numpy()).sum(1, keepdims=True)
    assert loss == pytest.approx(-np.log(picked[[0, 1], [1, 2]]).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("tet_vgg", {"config": [4, "A", 4], "input_size": [6, 6], "in_channels": 1}),
        ("glif_resnet", {"widths": [4, 4], "depths": [1, 1], "hidden": 5, "in_channels": 1, "steps": 3}),
    ],
)
def test_training_through_time_lowers_the_loss_and_steps_do_not_look_ahead(name, arguments):
    torch.manual_seed(0)
    net = build_network(name, num_classes=2, **arguments, mean=[0.5], std=[0.5])
    y = torch.arange(16) % 2
    image = torch.rand(16, 1, 6, 6) * 60 + 190 * (y[:, None, None, None] == (torch.arange(6) % 2))
    frames = image.expand(3, *image.shape)
    optimiser = torch.optim.Adam(net.parameters(), 0.02)
    losses = [through_time(net, frames, y, optimiser)[1] for _ in range(16)]
    assert losses[-1] < 0.7 * losses[0]
    with torch.no_grad():
        logits = net.eval()(frames)
        assert logits.shape == (3, 16, 2)
        torch.testing.assert_close(net(frames[:2]), logits[:2])
        assert (logits.mean(0).argmax(1) == y).float().mean() >= 0.9
    with pytest.raises(CompileError):
        through_time(net, frames[:0], y, optimiser)


ASGL_RESNET18 = {"widths": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "hidden": 0, "num_classes": 100, "neuron": "asgl"}


@pytest.mark.parametrize(
    ("name", "arguments", "count"),
    [
        ("tet_vgg", {}, 9_271_498),
        ("glif_resnet", {}, 11_347_456),
        ("glif_resnet", {"num_classes": 100, "hidden": 0}, 11_265_024),
        ("glif_resnet", {"widths": [128, 256, 512], "depths": [3, 3, 2]}, 12_749_824),
        ("nf_resnet", {}, 21_797_688),
        ("osr_nf_resnet", {}, 21_806_184),
        ("tet_resnet", {}, 12_630_858),
        ("tet_vgg", {"neuron": "asgl-constant", "bias": False}, 9_268_744),
        ("tet_resnet", ASGL_RESNET18, 11_220_166),
    ],
)
def test_the_networks_have_the_parameter_counts_of_the_papers(name, arguments, count):
    assert parameters(lambda: build_network(name, **arguments)) == count


def test_a_gated_network_has_parameters_for_its_own_number_of_steps():
    net = build_network("glif_resnet", widths=[2], depths=[1], steps=2, in_channels=1)
    with pytest.raises(CompileError, match="T = 2") as caught:
        net(torch.zeros(3, 1, 1, 4, 4))
    assert caught.value.code == "SNN705"


def test_over_time_keeps_time_and_batch_apart():
    x = torch.randn(3, 2, 4)
    layer = torch.nn.Linear(4, 5)
    torch.testing.assert_close(OverTime(layer)(x), layer(x))


def test_the_stream_of_the_normaliser_free_network_is_divided_by_its_expected_deviation():
    with torch.device("meta"):
        betas = [block.beta for block in nf_resnet().blocks]
    want = [1, 1.0198, 1.0392, 1.0583, 1.0198, 1.0392, 1.0583, 1.077, 1.0198, 1.0392, 1.0583, 1.077, 1.0954, 1.1136, 1.0198, 1.0392]
    assert betas == pytest.approx(want, abs=5e-5)


def nf_net(traced=True):
    torch.manual_seed(2)
    net = nf_resnet(widths=[3, 4], depths=[2, 1], in_channels=2, num_classes=3, traced=traced).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return net, torch.randn(2, 2, 16, 16).double()


def test_the_normaliser_free_network_is_a_hand_written_loop():
    net, x = nf_net()
    net.eval()
    p, v = dict(net.named_parameters()), {}

    def conv(name, y, stride=1, padding=1):
        w = p[f"{name}.weight"]
        n, c = w[0].numel(), w - w.mean((1, 2, 3), keepdim=True)
        w = p[f"{name}.gain"] * c / torch.sqrt(c.square().sum((1, 2, 3), keepdim=True) * n / (n - 1) + 1e-4)
        return functional.conv2d(y, w, p[f"{name}.bias"], stride, padding)

    def lif(name, current):
        u = 0.5 * v.get(name, 0.0) + current
        s = (u >= 1).double()
        v[name] = u - s
        return 2.74 * s

    with torch.no_grad():
        for t in range(3):
            y = functional.avg_pool2d(conv("conv1", x, 2, 3), 3, 2, 1)
            for k, (beta, stride) in enumerate(((1, 1), (1.04**0.5, 1), (1.08**0.5, 2))):
                s = lif(f"{k}.1", y / beta)
                out = conv(f"blocks.{k}.conv2", lif(f"{k}.2", conv(f"blocks.{k}.conv1", s, stride)))
                identity = y if k < 2 else conv("blocks.2.downsample", s, 2, 0)
                y = out * p[f"blocks.{k}.skipinit_gain"] * 0.2 + identity
            torch.testing.assert_close(net(x, init=t == 0), y.mean((2, 3)) @ p["fc.weight"].T + p["fc.bias"])


@pytest.mark.parametrize("traced", [True, False], ids=["OTTT", "SLTT"])
def test_the_normaliser_free_network_trains_in_memory_that_does_not_grow(traced):
    def peak(steps):
        net, x = nf_net(traced)
        optimiser = torch.optim.SGD(net.parameters(), 0.001)
        return training_bytes(net, lambda: train_batch(net, direct_coding(x, steps), torch.tensor([0, 2]), optimiser, steps=steps))

    assert peak(64) / peak(4) <= 1.05


def test_memory_through_time_does_grow():
    from measuring import Meter

    peaks = []
    for steps in (4, 16):
        net = build_network("tet_vgg", config=[2], in_channels=1, num_classes=2, input_size=[4, 4])
        with Meter() as meter:
            loss = tet_loss(net(torch.randn(steps, 2, 1, 4, 4)), torch.tensor([0, 1]))
        peaks.append(meter.peak)
        del loss
    assert peaks[1] / peaks[0] > 3

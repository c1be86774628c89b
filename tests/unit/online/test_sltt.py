"""SLTT and SLTT-K: the rule against NumPy and against back-propagation through time, memory, sizes and the calling convention."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from measuring import CollectGradients, parameters, training_bytes
from torch.nn import functional

from snncompile.errors import CompileError
from snncompile.online import build_network
from snncompile.online.rule import RULES, direct_coding, summed_logits, train_batch
from snncompile.online.sltt import sltt_neuron

SMALL = {"widths": [3, 4], "depths": [1, 1], "in_channels": 2, "num_classes": 3}


def small_net(**changes):
    torch.manual_seed(5)
    net = build_network("sltt_resnet", **(SMALL | changes)).double()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "bn" in name and name.endswith("bias"):
                parameter.uniform_(0.2, 0.8)
    return net, torch.randn(4, 2, 6, 6, dtype=torch.float64), torch.tensor([0, 2, 1, 0])


def fire(u):  # a step whose derivative is max(0, 1 - |u - 1|), written as that of its integral
    x = (u - 1).clamp(-1, 1)
    smooth = torch.where(x < 0, (1 + x).square() / 2, 1 - (1 - x).square() / 2)
    return (u >= 1).to(u.dtype) + smooth - smooth.detach()


def reference(net, x, steps, leak, *, cut):
    """The small network's logits per step, written out; ``cut`` drops the error through time, else it is back-propagation through time."""
    p = dict(net.named_parameters())
    state = {}

    def lif(name, current):
        v = state.get(name, torch.zeros_like(current))
        u = leak * (v.detach() if cut else v) + current
        s = fire(u)
        state[name] = u - s
        return s

    def norm(name, y):
        return functional.batch_norm(y, None, None, p[f"{name}.weight"], p[f"{name}.bias"], training=True)

    def conv(name, y, stride=1, padding=1):
        return functional.conv2d(y, p[f"{name}.weight"], p.get(f"{name}.bias"), stride, padding)

    for _ in range(steps):
        y = conv("conv1", x)
        for k, stride in enumerate((1, 2)):
            s = lif(f"{k}.1", norm(f"blocks.{k}.bn1", y))
            identity = s if k == 0 else conv(f"blocks.{k}.shortcut", s, stride, 0)
            y = conv(f"blocks.{k}.conv2", lif(f"{k}.2", norm(f"blocks.{k}.bn2", conv(f"blocks.{k}.conv1", s, stride)))) + identity
        y = lif("end", norm("bn", y)).mean((2, 3))
        yield y @ p["classifier.weight"].T + p["classifier.bias"]


def loss_of(y, labels, steps):
    onehot = functional.one_hot(labels, 3).double()
    return (0.95 * functional.cross_entropy(y, labels) + 0.05 * ((y - onehot) ** 2).mean()) / steps


def reference_gradients(net, x, labels, steps, leak, *, cut, learning=None):
    losses = [loss_of(y, labels, steps) for y in reference(net, x, steps, leak, cut=cut)]
    chosen = sum(loss for t, loss in enumerate(losses) if learning is None or t in learning)
    names, tensors = zip(*net.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(chosen, tensors), strict=True))


def applied(net, x, labels, steps, **options):
    optimiser = CollectGradients(net)
    train_batch(net.train(), direct_coding(x, steps), labels, optimiser, steps=steps, **options)
    return optimiser.steps


def assert_same(got, want, tolerance=1e-10):
    assert got.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value.numpy(), rtol=tolerance, atol=tolerance, err_msg=name)


def test_the_neuron_leaks_to_an_eleventh_and_learns_in_a_triangle_around_its_threshold():
    neuron = sltt_neuron()
    assert neuron.leak == pytest.approx(1 / 11)
    current = torch.tensor([-0.5, 0.25, 1.0, 1.5, 2.5], dtype=torch.float64, requires_grad=True)
    s = neuron(current)
    s.sum().backward()
    assert s.tolist() == [0, 0, 1, 1, 1]
    assert current.grad.tolist() == [0, 0.25, 1, 0.5, 0]
    neuron(torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(neuron.v, torch.tensor([-0.5, 0.25, 0, 0.5, 1.5], dtype=torch.float64) / 11)


def test_between_two_layers_a_synapse_learns_from_the_spikes_of_the_same_step_alone():
    torch.manual_seed(1)
    layer, neuron = torch.nn.Linear(3, 2).double(), sltt_neuron()
    spikes, error = (torch.rand(6, 1, 3) < 0.6).double(), torch.randn(6, 1, 2).double()
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    v, want = np.zeros(2), np.zeros((2, 3))
    for t in range(6):
        neuron(layer(spikes[t])).backward(error[t])
        u = v / 11 + w @ spikes[t, 0].numpy() + b
        v = u - (u >= 1)
        for i in range(2):
            for j in range(3):
                want[i, j] += error[t, 0, i].item() * max(0, 1 - abs(u[i] - 1)) * spikes[t, 0, j].item()
    np.testing.assert_allclose(layer.weight.grad.numpy(), want, rtol=1e-12)


@pytest.mark.parametrize("steps", [1, 4])
def test_the_network_applies_the_gradient_without_its_temporal_part(steps):
    net, x, labels = small_net()
    (got,) = applied(net, x, labels, steps)
    assert_same(got, reference_gradients(net, x, labels, steps, 1 / 11, cut=True))


def test_back_propagation_through_time_is_the_limit_of_no_leak_and_differs_otherwise():
    net, x, labels = small_net(tau=1 + 1e-12)
    (got,) = applied(net, x, labels, 4)
    assert_same(got, reference_gradients(net, x, labels, 4, 1e-12, cut=False))
    net, x, labels = small_net()
    (got,) = applied(net, x, labels, 4)
    with pytest.raises(AssertionError):
        assert_same(got, reference_gradients(net, x, labels, 4, 1 / 11, cut=False), 1e-3)


def test_what_the_rule_drops_are_the_products_of_leaks_and_resets():
    """A layer alone: back-propagation through time is the rule's gradient plus the sum over tau < t that ``sltt_neuron`` states."""
    torch.manual_seed(2)
    leak, layer = 0.6, torch.nn.Linear(4, 3, bias=False).double()
    with torch.no_grad():
        layer.weight.mul_(3)
    neuron = sltt_neuron(1 / (1 - leak))
    spikes, error = (torch.rand(7, 4) < 0.5).double(), torch.randn(7, 3).double()
    w, v, whole = layer.weight.detach().clone().requires_grad_(), torch.zeros(3).double(), 0.0
    psi, dropped = [], torch.zeros(3, 4).double()
    for t in range(7):
        neuron(layer(spikes[t, None])).backward(error[t, None])
        u = leak * v + w @ spikes[t]
        s = fire(u)
        v, whole = u - s, whole + (error[t] * s).sum()
        psi.append((1 - (u.detach() - 1).abs()).clamp(min=0))
        for tau in range(t):
            way = torch.stack([leak * (1 - psi[k]) for k in range(tau, t)]).prod(0)
            dropped += torch.outer(error[t] * psi[t] * way, spikes[tau])
    assert dropped.abs().max() > 0.1
    torch.testing.assert_close(torch.autograd.grad(whole, w)[0], layer.weight.grad + dropped)


def test_sltt_k_sums_the_gradient_over_the_drawn_steps_only():
    net, x, labels = small_net()
    (got,) = applied(net, x, labels, 4, learning={1, 3})
    assert_same(got, reference_gradients(net, x, labels, 4, 1 / 11, cut=True, learning={1, 3}))


def test_sltt_k_draws_k_different_steps():
    generator = torch.Generator().manual_seed(0)
    drawn = [RULES["SLTT_K"].draw(6, 2, generator) for _ in range(40)]
    assert {len(steps) for steps in drawn} == {2}
    assert set().union(*drawn) == set(range(6))
    assert RULES["SLTT"].draw(6, 2) == frozenset(range(6))


@pytest.mark.parametrize("learning", [None, {2}], ids=["SLTT", "SLTT-K"])
def test_training_memory_at_64_steps_is_that_at_4_steps(learning):
    def peak(steps):
        net, x, labels = small_net()
        optimiser = torch.optim.SGD(net.parameters(), 0.01)
        return training_bytes(net, lambda: train_batch(net, direct_coding(x, steps), labels, optimiser, steps=steps, learning=learning))

    assert peak(64) / peak(4) <= 1.05


@pytest.mark.parametrize(
    ("name", "arguments", "count"),
    [("sltt_resnet", {}, 11_176_906), ("sltt_vgg", {}, 9_476_298)],
    ids=["ResNet-18 CIFAR-10", "VGG-11-BN DVS-CIFAR10"],
)
def test_the_networks_have_the_parameter_counts_of_the_paper(name, arguments, count):
    assert parameters(lambda: build_network(name, **arguments)) == count


def small_resnet():
    return small_net()[0].float()


def small_vgg():
    torch.manual_seed(0)
    arguments = {"config": [3, "A", 4], "in_channels": 1, "num_classes": 3, "input_size": [6, 6], "classifier": 2}
    net = build_network("sltt_vgg", **arguments, mean=[0.1], std=[0.3])
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0.3, 0.8)
    return net


@pytest.mark.parametrize("build", [small_resnet, small_vgg], ids=["resnet", "vgg"])
def test_a_fresh_copy_and_a_reset_network_start_alike_and_a_carried_state_does_not(build):
    net = build().eval()
    pristine = copy.deepcopy(net)
    x = 100 * torch.rand(2, 1 if hasattr(net, "features") else 2, 6, 6)
    with torch.no_grad():
        first = [net(x), net(x), net(x)]
        carried = net(x)
        net.reset()
        assert torch.equal(torch.stack(first), torch.stack([net(x), net(x), net(x)]))
        assert torch.equal(torch.stack(first), torch.stack([pristine(x), pristine(x), pristine(x)]))
        assert torch.equal(summed_logits(net, direct_coding(x, 3)), first[0] + first[1] + first[2])
        assert not torch.equal(carried, first[0])
    assert all("v" not in name.split(".") for name in net.state_dict())


def test_another_batch_without_reset_is_refused():
    net = small_net()[0].eval()
    net(torch.zeros(2, 2, 6, 6).double())
    with pytest.raises(CompileError, match=r"reset\(\)") as caught:
        net(torch.zeros(3, 2, 6, 6).double())
    assert caught.value.code == "SNN704"


@pytest.mark.parametrize("changes", [{"widths": [3]}, {"widths": []}, {"depths": [1, 0]}], ids=str)
def test_widths_and_depths_that_describe_no_network_are_refused(changes):
    with pytest.raises(CompileError, match="as many widths as depths") as caught:
        small_net(**changes)
    assert caught.value.code == "SNN703"

"""OSR and OTS: normaliser and thresholds against their formulas, the network's gradient against a hand-written twin, static evaluation."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from measuring import CollectGradients, parameters, training_bytes
from torch.nn import functional

from snncompile.errors import CompileError
from snncompile.online import OTSLIF, OnlineRenorm, build_network, calibrate_thresholds, online_thresholds
from snncompile.online.rule import direct_coding, step_loss, summed_logits, train_batch

EPS = 1e-4
SMALL = {"config": [3, "A", 4], "in_channels": 2, "num_classes": 3, "input_size": [6, 6], "classifier": "flatten", "steps": 3}


def small_net(name="osr_vgg", **changes):
    torch.manual_seed(4)
    arguments = SMALL if name == "osr_vgg" else {"widths": [3, 4], "depths": [1, 1], "in_channels": 2, "num_classes": 3, "steps": 3}
    net = build_network(name, **(arguments | changes)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
        for module in net.modules():
            if isinstance(module, OnlineRenorm):
                module.run_mean.normal_(0, 0.3)
                module.run_var.uniform_(0.5, 2)
    return net, torch.randn(4, 2, 6, 6, dtype=torch.float64), torch.tensor([0, 2, 1, 0])


def deviation(x, axes):
    return torch.sqrt(x.var(axes, correction=0) + EPS)


@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5, 2)], ids=["linear", "conv"])
def test_the_normaliser_maps_with_running_statistics_and_differentiates_through_its_own(shape):
    torch.manual_seed(0)
    norm = OnlineRenorm(4).double().train()
    with torch.no_grad():
        norm.gamma.normal_()
        norm.beta.normal_()
        norm.run_mean.normal_()
        norm.run_var.uniform_(0.2, 3)
    x, g = (2 + torch.randn(shape)).double().requires_grad_(), torch.randn(shape).double()
    y = norm(x)
    y.backward(g)
    axes, view = (0, *range(2, len(shape))), (1, -1, *(1,) * (len(shape) - 2))
    d = torch.sqrt(norm.run_var + EPS)
    xh = (x.detach() - norm.run_mean.view(view)) / d.view(view)
    torch.testing.assert_close(y, norm.gamma.view(view) * xh + norm.beta.view(view))
    torch.testing.assert_close(norm.gamma.grad, (g * xh).sum(axes))
    torch.testing.assert_close(norm.beta.grad, g.sum(axes))
    twin = x.detach().clone().requires_grad_()
    scaled = (norm.gamma * deviation(twin, axes) / d).detach()  # batch normalisation with gamma sd / d for gamma
    functional.batch_norm(twin, None, None, scaled, None, training=True, eps=EPS).backward(g)
    torch.testing.assert_close(x.grad, twin.grad)


def test_the_running_statistics_take_in_all_steps_of_a_batch_at_once():
    norm = OnlineRenorm(3).double().train()
    x = 2 + 3 * torch.randn(4, 5, 3, 2, 2).double()
    for step in x:
        norm(step)
    assert torch.equal(norm.run_var, torch.ones(3).double())
    norm.forget()
    flat = x.transpose(1, 2).transpose(0, 1).reshape(3, -1)
    torch.testing.assert_close(norm.run_mean, 0.1 * flat.mean(1))
    torch.testing.assert_close(norm.run_var, 0.9 + 0.1 * flat.var(1, correction=0))
    norm(x[0])
    norm.eval()  # the last batch is not lost
    assert not torch.allclose(norm.run_mean, 0.1 * flat.mean(1))


def test_a_step_far_from_the_running_statistics_uses_its_own():
    norm = OnlineRenorm(2).double().train()
    x = 100 * torch.randn(50, 2).double()
    x.requires_grad_()
    y, g = norm(x), torch.randn(50, 2).double()
    y.backward(g)
    torch.testing.assert_close(y.var(0, correction=0), torch.ones(2).double(), rtol=1e-4, atol=0)
    twin = x.detach().clone().requires_grad_()
    functional.batch_norm(twin, None, None, training=True, eps=EPS).backward(g)
    torch.testing.assert_close(x.grad, twin.grad)


def test_thresholds_follow_the_mean_and_deviation_of_the_layer_and_the_batch():
    torch.manual_seed(0)
    neuron = OTSLIF(3, fixed=False).double().train()
    v = np.zeros((4, 5))
    for t in range(3):
        current = (t + 1) * torch.randn(4, 5).double()
        error = torch.randn(4, 5).double()
        s = neuron(current.requires_grad_())
        s.backward(error)
        u = 0.5 * v + current.detach().numpy()
        if t == 0:
            ratio = (1 - u.mean()) / u.std(ddof=1)
        theta = u.mean() + ratio * u.std(ddof=1)
        assert neuron.threshold.item() == pytest.approx(theta)
        assert t > 0 or theta == pytest.approx(1)
        np.testing.assert_array_equal(s.detach().numpy(), u >= theta)
        v = u - theta * (u >= theta)
        sg = 1 / (1 + np.exp(-4 * (u - theta)))
        np.testing.assert_allclose(current.grad.numpy(), error.numpy() * 4 * sg * (1 - sg), rtol=1e-10)
    assert v.sum() != 0


class Twin:
    """The small feedforward network in plain differentiable operations, detached values in place of every online rule."""

    def __init__(self, net):
        self.p, self.norms = dict(net.named_parameters()), [m for m in net.modules() if isinstance(m, OnlineRenorm)]
        self.v, self.ratio = {}, {}

    def renorm(self, k, name, x):
        norm, gamma, beta = self.norms[k], self.p[f"{name}.gamma"], self.p[f"{name}.beta"]
        d = torch.sqrt(norm.run_var + EPS)
        value = gamma[:, None, None] * (x.detach() - norm.run_mean[:, None, None]) / d[:, None, None] + beta[:, None, None]
        slope = (gamma * deviation(x, (0, 2, 3)) / d).detach()
        path = functional.batch_norm(x, None, None, slope, None, training=True, eps=EPS)
        return value + path - path.detach()

    def lif(self, k, current, constant):
        u = 0.5 * self.v.get(k, 0.0) + current
        ratio = self.ratio.setdefault(k, ((1 - u.mean()) / u.std()).detach())
        theta = 1.0 if constant else (u.mean() + ratio * u.std()).detach()
        smooth = torch.sigmoid(4 * (u - theta))
        s = (u >= theta).double() + smooth - smooth.detach()
        self.v[k] = (u - theta * s).detach()
        return s

    def step(self, x, constant):
        for k, i in enumerate((0, 2)):
            current = functional.conv2d(x, self.p[f"body.{i}.0.weight"], self.p[f"body.{i}.0.bias"], padding=1)
            x = self.lif(k, self.renorm(k, f"body.{i}.1", current), constant)
            x = functional.avg_pool2d(x, 2) if k == 0 else x
        return x.flatten(1) @ self.p["classifier.weight"].T + self.p["classifier.bias"]


@pytest.mark.parametrize("thresholds", ["fixed", "constant"])
def test_the_network_applies_the_gradient_of_each_steps_loss_with_membranes_cut(thresholds):
    net, x, labels = small_net(thresholds=thresholds)
    twin = Twin(copy.deepcopy(net))
    losses = [step_loss(twin.step(x, thresholds == "constant"), labels, 3) for _ in range(3)]
    want = torch.autograd.grad(sum(losses), list(twin.p.values()))
    optimiser = CollectGradients(net)
    train_batch(net.train(), direct_coding(x, 3), labels, optimiser, steps=3)
    for name, gradient in zip(twin.p, want, strict=True):
        torch.testing.assert_close(torch.from_numpy(optimiser.steps[0][name]), gradient, msg=name)


@pytest.mark.parametrize("online", [False, True], ids=["OSR_A", "OSR_O"])
def test_training_memory_at_64_steps_is_that_at_4_steps(online):
    def peak(steps):
        net, x, labels = small_net()
        optimiser = torch.optim.SGD(net.parameters(), 0.001)
        return training_bytes(net, lambda: train_batch(net, direct_coding(x, steps), labels, optimiser, steps=steps, online=online))

    assert peak(64) / peak(4) <= 1.05


@pytest.mark.parametrize(("name", "count"), [("osr_vgg", 9_231_114), ("osr_resnet", 14_669_834), ("osr_sew_resnet", 21_806_184)])
def test_the_networks_have_the_parameter_counts_of_the_paper(name, count):
    assert parameters(lambda: build_network(name)) == count


def test_online_thresholds_depend_on_the_batch_and_fixed_ones_do_not():
    net, x, _ = small_net()
    x = torch.cat([x, x + 1])
    calibrate_thresholds(net, [x, x + 0.1], 3)
    with online_thresholds(net):
        together, alone = (summed_logits(net, direct_coding(batch, 3))[:1] for batch in (x, x[:1]))
    assert not torch.allclose(together, alone)
    together, alone = (summed_logits(net, direct_coding(batch, 3))[:1] for batch in (x, x[:1]))
    torch.testing.assert_close(together, alone)


def test_calibration_takes_the_mean_over_batches_and_is_saved():
    net, x, _ = small_net()
    seen = []
    net.eval()
    with online_thresholds(net) as neurons:
        for batch in (x, 2 * x):
            seen.append([])
            for t in range(3):
                net(batch, init=t == 0)
                seen[-1].append([neuron.threshold.item() for neuron in neurons])
    calibrate_thresholds(net, [x, 2 * x], 3)
    got = torch.stack([neuron.theta for neuron in neurons])
    torch.testing.assert_close(got, torch.tensor(seen).double().mean(0).T)
    assert got[:, 0].tolist() == pytest.approx([1, 1])
    twin = small_net()[0]
    twin.load_state_dict(net.state_dict())
    assert torch.equal(summed_logits(twin.eval(), direct_coding(x, 3)), summed_logits(net, direct_coding(x, 3)))


@pytest.mark.parametrize("name", ["osr_vgg", "osr_resnet", "osr_sew_resnet"])
def test_init_starts_a_sample_afresh_in_every_network(name):
    net, x, labels = small_net(name, **({"input_size": [6, 6]} if name == "osr_resnet" else {}))
    x = torch.randn(4, 2, 16, 16).double() if name == "osr_sew_resnet" else x
    train_batch(net, direct_coding(x, 3), labels, torch.optim.SGD(net.parameters(), 0.01), steps=3)
    calibrate_thresholds(net, [x], 3)
    pristine = copy.deepcopy(net)
    first = summed_logits(net, direct_coding(x, 3))
    assert torch.equal(summed_logits(net, direct_coding(x, 3)), first)
    assert torch.equal(summed_logits(pristine, direct_coding(x, 3)), first)
    assert first.std() > 0


def code_of(action):
    with pytest.raises(CompileError) as caught:
        action()
    return caught.value.code


def test_mistakes_are_named():
    net, x, _ = small_net()
    assert code_of(lambda: summed_logits(net.eval(), direct_coding(x, 3))) == "SNN706"
    assert code_of(lambda: calibrate_thresholds(net, [], 3)) == "SNN706"
    calibrate_thresholds(net, [x], 3)
    assert code_of(lambda: summed_logits(net, direct_coding(x, 4))) == "SNN705"
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert code_of(lambda: calibrate_thresholds(net, [x], 3)) == "SNN706"  # nothing varies
    assert code_of(lambda: small_net(thresholds="adaptive")) == "SNN703"
    assert code_of(lambda: small_net("osr_resnet", input_size=[3, 3])) == "SNN703"

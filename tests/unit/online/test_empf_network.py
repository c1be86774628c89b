"""EM-PF's networks: a hand-written twin for values and gradients, memory, parameter accounting and the calling convention."""

from __future__ import annotations

import copy

import pytest
import torch
from measuring import CollectGradients, training_bytes
from torch.nn import functional

from snncompile.errors import CompileError
from snncompile.online import build_network
from snncompile.online.binary import weight_bytes
from snncompile.online.rule import RULES, direct_coding, step_loss, summed_logits, train_batch

SMALL = {"widths": [3, 4], "depths": [1, 1], "in_channels": 2, "num_classes": 3, "steps": 3}
VARIANTS = [
    {"parallel": False, "mem_bn": True, "seca": 1},
    {"parallel": True, "four_bit": False, "seca": 2},
    {"weights": "ternary", "mem_bn": True},
]


def small_net(steps=3, **changes):
    torch.manual_seed(2)
    net = build_network("empf_resnet", **(SMALL | {"steps": steps} | changes)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return net, torch.randn(4, 2, 6, 6, dtype=torch.float64), torch.tensor([0, 2, 1, 0])


class Twin:
    """The small residual network again, from its parameters alone; the straight-through steps are differences of detached values."""

    def __init__(self, net, *, seca=0, parallel=True, mem_bn=False, four_bit=True, weights="binary"):
        self.p, self.v = dict(net.named_parameters()), {}
        self.seca, self.parallel, self.mem_bn, self.four_bit, self.weights = seca, parallel, mem_bn, four_bit, weights

    def weight(self, name):
        w = self.p[name]
        clipped = w.clamp(-1, 1)
        if self.weights == "binary":
            target = w.abs().mean((1, 2, 3), keepdim=True) * w.sign()
        else:
            mask = clipped.abs() > 0.7 * clipped.abs().mean()
            target = clipped[mask].abs().mean() * w.sign() * mask
        return target.detach() + clipped - clipped.detach()

    def bn(self, name, x):
        return functional.batch_norm(x, None, None, self.p[f"{name}.weight"], self.p[f"{name}.bias"], training=True)

    def conv(self, name, x, stride=1):
        w = self.weight(f"{name}.0.weight")
        return self.bn(f"{name}.1", functional.conv2d(x, w, None, stride, w.shape[-1] // 2))

    def act(self, name, current, t):
        p, theta = self.p, self.p[f"{name}.v_th"].sigmoid()
        if self.parallel and name.endswith("2"):
            s = (current - theta[0]).clamp(min=0)
        else:
            m = current if t == 0 else p[f"{name}.alpha"][t].sigmoid() * self.v[name] + current
            if self.mem_bn:
                m = p[f"{name}.mem_ratio"][t].sigmoid() * m + p[f"{name}.bn_ratio"][t].sigmoid() * self.bn(f"{name}.bn.{t}", m)
            self.v[name] = torch.minimum(m, theta[t]).detach()
            s = (m - theta[t]).clamp(min=0)
        return s + ((4 * s).round().clamp(0, 15) / 4 - s).detach() if self.four_bit else s

    def attend(self, name, x):
        gap = x.mean((2, 3))[:, None]
        return (
            x * functional.conv1d(gap, self.p[f"{name}.conv.weight"], self.p[f"{name}.conv.bias"], padding=2).sigmoid()[:, 0, :, None, None]
        )

    def step(self, x, t):
        x = self.bn("bn1", functional.conv2d(x, self.p["conv1.weight"], padding=1))
        for k, stride in enumerate((1, 2)):
            name = f"blocks.{k}"
            h = self.conv(f"{name}.conv1", self.act(f"{name}.act1", x, t), stride)
            if self.seca == 1 or (self.seca == 2 and stride == 1):
                h = self.attend(f"{name}.attn1", h + x if self.seca == 2 else h)
            y = self.conv(f"{name}.conv2", self.act(f"{name}.act2", h, t))
            if self.seca:
                y = self.attend(f"{name}.attn2", h + y if self.seca == 2 else y)
            x = y + (x if stride == 1 else self.conv(f"{name}.downsample", x, stride))
        return x.mean((2, 3)) @ self.p["fc.weight"].T + self.p["fc.bias"]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_random_back_propagation_is_the_gradient_of_one_steps_loss(variant):
    net, x, labels = small_net(**variant)
    for chosen in range(3):
        twin = Twin(net, **variant)
        logits = [twin.step(x, t) for t in range(chosen + 1)]
        names, tensors = zip(*net.named_parameters(), strict=True)
        want = torch.autograd.grad(step_loss(logits[-1], labels, 3), tensors, materialize_grads=True)
        optimiser = CollectGradients(net)
        total, _ = train_batch(net, direct_coding(x, 3), labels, optimiser, steps=3, learning={chosen}, stop=True)
        torch.testing.assert_close(total, sum(logits).detach())  # nothing ran after it
        (got,) = optimiser.steps
        for name, gradient in zip(names, want, strict=True):
            applied = torch.from_numpy(got[name]) if name in got else torch.zeros_like(gradient)
            torch.testing.assert_close(applied, gradient, msg=name)


def test_every_step_learns_at_once_without_random_back_propagation():
    rule = RULES["EMPF"]
    net, x, labels = small_net()
    twin, optimiser = Twin(net), CollectGradients(net)
    want = []
    for t in range(3):
        gradients = torch.autograd.grad(step_loss(twin.step(x, t), labels, 3), list(twin.p.values()), materialize_grads=True)
        want.append(dict(zip(twin.p, gradients, strict=True)))
    train_batch(net, direct_coding(x, 3), labels, optimiser, steps=3, online=rule.each_step, learning=rule.draw(3, 1), stop=rule.stop)
    assert len(optimiser.steps) == 3
    for got, gradients in zip(optimiser.steps, want, strict=True):
        for name, gradient in gradients.items():
            applied = torch.from_numpy(got[name]) if name in got else torch.zeros_like(gradient)
            torch.testing.assert_close(applied, gradient, msg=name)


def test_random_back_propagation_draws_every_step_alone():
    rule, generator = RULES["EMPF_R"], torch.Generator().manual_seed(0)
    drawn = [rule.draw(4, 1, generator) for _ in range(400)]
    counts = [sum(steps == {t} for steps in drawn) for t in range(4)]
    assert rule.stop
    assert sum(counts) == 400
    assert min(counts) > 60


@pytest.mark.parametrize("method", ["EMPF", "EMPF_R"])
def test_training_memory_at_64_steps_is_that_at_4_steps(method):
    rule = RULES[method]

    def peak(steps):
        net, x, labels = small_net(steps=64, parallel=False, mem_bn=True)
        optimiser = torch.optim.SGD(net.parameters(), 0.001)
        learning = {steps - 1} if rule.sampled else None
        return training_bytes(
            net,
            lambda: train_batch(
                net, direct_coding(x, steps), labels, optimiser, steps=steps, online=rule.each_step, learning=learning, stop=rule.stop
            ),
        )

    assert peak(64) / peak(4) <= 1.05


R18 = ("empf_resnet", {})
R34 = ("empf_resnet", {"depths": (3, 4, 6, 3), "num_classes": 1000, "stem": "7x7-pool"})
VGG13 = ("empf_vgg", {
    "config": (64, 64, "A", 128, 128, "A", 256, 256, "A", 512, 512, "A", 512, 512, "A"), "in_channels": 3, "num_classes": 200,
    "input_size": (64, 64), "classifier": "gap", "float_first": True, "mem_bn": False, "steps": 4,
})  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arguments", "megabytes", "counting"),
    [
        (*R18, 2.817, "paper"),
        (*R18, 1.42, "packed"),
        (*R18, 44.66, "float"),
        ("empf_resnet", {"num_classes": 100}, 3.001, "paper"),
        ("empf_resnet", {"num_classes": 100}, 1.61, "packed"),
        ("empf_resnet", {"num_classes": 100}, 44.84, "float"),
        ("empf_resnet", {"in_channels": 2}, 2.815, "paper"),
        ("empf_resnet", {"in_channels": 2}, 1.42, "packed"),
        (*R34, 7.404, "paper"),
        ("empf_resnet", R34[1] | {"weights": "ternary"}, 10.061, "paper"),
        (*R34, 4.75, "packed"),
        (*R34, 87.12, "float"),
        (*VGG13, 2.767, "paper"),
        (*VGG13, 1.59, "packed"),
        (*VGG13, 38.02, "float"),
        ("empf_vgg", {}, 2.489, "paper"),
        ("empf_vgg", {}, 1.34, "packed"),
        ("empf_vgg", {}, 37.05, "float"),
    ],
)
def test_the_weights_take_the_bytes_of_the_papers_table(name, arguments, megabytes, counting):
    with torch.device("meta"):
        net = build_network(name, **arguments)
    digits = len(str(megabytes).split(".")[1])
    assert weight_bytes(net, counting=counting) / 1e6 == pytest.approx(megabytes, abs=0.5001 * 10**-digits)


def small_vgg():
    torch.manual_seed(0)
    return build_network("empf_vgg", config=[3, "A", 4], in_channels=2, num_classes=3, input_size=[6, 6], steps=3, seca=1, parallel=True)


def deep_net():
    return small_net(**VARIANTS[0])[0].float()


@pytest.mark.parametrize("build", [deep_net, small_vgg], ids=["resnet", "vgg"])
def test_a_fresh_copy_and_a_reset_network_start_alike(build):
    net = build().eval()
    pristine = copy.deepcopy(net)
    x = 10 * torch.randn(2, 2, 6, 6)
    with torch.no_grad():
        first = torch.stack([net(x), net(x), net(x)])
        net.reset()
        assert torch.equal(first, torch.stack([net(x), net(x), net(x)]))
        assert torch.equal(first, torch.stack([pristine(x), pristine(x), pristine(x)]))
        assert torch.equal(summed_logits(net, direct_coding(x, 3)), first[0] + first[1] + first[2])
    assert not torch.equal(first[0], first[1])


def test_a_network_asked_for_more_steps_than_it_has_parameters_for_says_so():
    net = deep_net().eval()
    with pytest.raises(CompileError, match="T = 3") as caught:
        summed_logits(net, direct_coding(torch.zeros(1, 2, 6, 6), 4))
    assert caught.value.code == "SNN705"


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"weights": "2bit"}, "kind of weights"), ({"seca": 3}, "seca"), ({"stem": "5x5"}, "stem"), ({"steps": 0}, "step")],
)
def test_options_that_do_not_exist_are_refused(changes, message):
    with pytest.raises(CompileError, match=message) as caught:
        small_net(**changes)
    assert caught.value.code == "SNN703"


def test_the_stream_is_pooled_behind_the_larger_stems():
    sizes = []
    for stem in ("3x3", "3x3-pool", "7x7-pool"):
        net = small_net(stem=stem)[0].float().eval()
        net.blocks[0].register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].shape[-1]))
        net(torch.randn(1, 2, 16, 16))
    assert sizes == [16, 8, 4]

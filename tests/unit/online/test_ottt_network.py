"""Layers, neurons and networks: formulas, sizes, the calling convention and what eval mode leaves out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from snncompile.errors import CompileError
from snncompile.online import VGG11, InputNorm, OnlineLIF, ScaledWSConv2d, ScaledWSLinear, build_network, list_networks, ottt_vgg
from snncompile.online.registry import register_network
from snncompile.online.rule import direct_coding, summed_logits
from snncompile.online.trace import PresynapticTrace

SMALL = {
    "config": [3, "A", 4], "in_channels": 2, "num_classes": 3, "input_size": (4, 6), "classifier": "flatten",
    "mean": [0.1, 0.2], "std": [0.3, 0.4],
}  # fmt: skip


def small_net(**changes):
    torch.manual_seed(0)
    net = ottt_vgg(**(SMALL | changes)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0.1, 0.6)
    return net, torch.randint(0, 256, (2, 2, 4, 6)).double()


@pytest.mark.parametrize(
    ("layer", "shape"), [(ScaledWSConv2d(3, 5, 3), (5, 1, 1, 1)), (ScaledWSLinear(7, 5), (5, 1))], ids=["conv", "linear"]
)
def test_weight_standardisation_is_the_formula_with_unbiased_variance(layer, shape):
    layer.double()
    assert layer.gain.shape == shape
    with torch.no_grad():
        layer.gain.uniform_(0.5, 2.0)
    got = layer.synaptic_weight().detach().numpy()
    for o, w in enumerate(layer.weight.detach().numpy()):
        fan_in = w.size
        variance = ((w - w.sum() / fan_in) ** 2).sum() / (fan_in - 1)
        want = layer.gain[o].item() * (w - w.sum() / fan_in) / np.sqrt(variance * fan_in + 1e-4)
        np.testing.assert_allclose(got[o], want, rtol=1e-12)


def test_the_bias_is_not_standardised():
    layer = ScaledWSConv2d(1, 2, 3, padding=1).eval()
    y = layer(torch.zeros(1, 1, 2, 2))
    torch.testing.assert_close(y, layer.bias.view(1, 2, 1, 1).expand(1, 2, 2, 2))


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({}, 9_228_362),
        ({"num_classes": 100}, 9_274_532),
        ({"in_channels": 2, "input_size": (48, 48)}, 9_227_786),
        ({"num_classes": 100, "feedback": True}, 9_569_508),
        ({"feedback": True}, 9_228_362 + 512 * 64 * 9 + 64),
    ],
    ids=["cifar10", "cifar100", "dvs", "cifar100-feedback", "cifar10-feedback"],
)
def test_vgg11_has_the_parameter_count_of_the_paper(arguments, count):
    with torch.device("meta"):
        net = build_network("ottt_vgg", **arguments)
    assert sum(p.numel() for p in net.parameters()) == count


def test_the_neuron_fires_at_the_threshold_and_subtracts_it_in_the_same_step():
    neuron = OnlineLIF().eval()
    spikes, states = [], []
    for t, current in enumerate([0.5, 0.75, 2.5, 0.0, 0.0]):
        spikes.append(neuron(torch.tensor([current]), init=t == 0).item())
        states.append(neuron.v.item())
    # u = 0.5, then 0.25 + 0.75 = 1 exactly, then 2.5, then 0.75, then 0.375
    assert spikes == [0, 1, 1, 0, 0]
    assert states == [0.5, 0, 1.5, 0.75, 0.375]


def test_training_and_eval_mode_advance_the_neuron_alike():
    torch.manual_seed(0)
    learning, running = OnlineLIF().train(), OnlineLIF().eval()
    for t in range(8):
        current = torch.randn(50) + 0.5
        assert torch.equal(learning(current, init=t == 0), running(current, init=t == 0))
        assert torch.equal(learning.v, running.v)


@pytest.mark.parametrize("feedback", [False, True], ids=["feedforward", "feedback"])
def test_the_eval_forward_is_a_hand_written_loop(feedback):
    net, x = small_net(feedback=feedback)
    net.eval()
    p = {name: parameter.detach() for name, parameter in net.named_parameters()}
    image = (x / 255 - torch.tensor([0.1, 0.2]).view(1, 2, 1, 1)) / torch.tensor([0.3, 0.4]).view(1, 2, 1, 1)

    def weight(i):
        w = p[f"features.{i}.conv.weight"]
        c = w - w.mean((1, 2, 3), keepdim=True)
        return (
            p[f"features.{i}.conv.gain"] * c / (c.square().sum((1, 2, 3), keepdim=True) * c[0].numel() / (c[0].numel() - 1) + 1e-4).sqrt()
        )

    v1 = v2 = s2 = None
    fired = 0
    with torch.no_grad():
        for t in range(5):
            current = functional.conv2d(image, weight(0), p["features.0.conv.bias"], padding=1)
            if feedback and t > 0:
                upsampled = (2.74 * s2).repeat_interleave(2, 2).repeat_interleave(2, 3)
                current = current + functional.conv2d(upsampled, p["feedback.weight"], p["feedback.bias"], padding=1)
            u1 = current if t == 0 else 0.5 * v1 + current
            s1 = (u1 >= 1).double()
            v1 = u1 - s1
            current = functional.conv2d(functional.avg_pool2d(2.74 * s1, 2), weight(2), p["features.2.conv.bias"], padding=1)
            u2 = current if t == 0 else 0.5 * v2 + current
            s2 = (u2 >= 1).double()
            v2 = u2 - s2
            want = (2.74 * s2).flatten(1) @ p["classifier.weight"].T + p["classifier.bias"]
            torch.testing.assert_close(net(x, init=t == 0), want, rtol=1e-6, atol=1e-6)  # the mean and std are float32
            fired += s2.sum().item()
    assert fired > 0


def test_training_and_eval_mode_return_the_same_logits():
    net, x = small_net(feedback=True)
    for t in range(4):
        torch.testing.assert_close(net.train()(x, init=t == 0).detach(), rtol=0, atol=0, expected=_eval_logits(x, t))


def _eval_logits(x, t):
    net, _ = small_net(feedback=True)
    net.eval()
    with torch.no_grad():
        for k in range(t + 1):
            y = net(x, init=k == 0)
    return y


def test_nothing_of_the_training_trick_runs_in_eval_mode():
    net, x = small_net(feedback=True)
    net.eval()
    summed_logits(net, direct_coding(x, 3))
    traces = [module for module in net.modules() if isinstance(module, PresynapticTrace)]
    assert len(traces) == 3
    assert all(trace.a is None for trace in traces)

    def run(image):
        return net(image, init=True) + net(image)

    with torch.no_grad():
        graph = make_fx(run)(x).graph
    ops = {str(node.target) for node in graph.nodes if node.op == "call_function"}
    assert ops <= {
        "aten.mul.Tensor", "aten.sub.Tensor", "aten.div.Tensor", "aten.add.Tensor", "aten.sqrt.default", "aten.mean.dim",
        "aten.var.correction", "aten.convolution.default", "aten.zeros_like.default", "aten.ge.Scalar", "aten._to_copy.default",
        "aten.avg_pool2d.default", "aten.upsample_nearest2d.vec", "aten.upsample_nearest2d.default",
        "aten.view.default", "aten.t.default", "aten.addmm.default",
    }  # fmt: skip


def test_init_forgets_the_sample_before():
    net, x = small_net(feedback=True)
    net.eval()
    first = summed_logits(net, direct_coding(x, 4))
    assert torch.equal(summed_logits(net, direct_coding(x, 4)), first)
    assert summed_logits(net, direct_coding(x[:1], 4)).shape == (1, 3)


def test_a_batch_of_another_size_without_init_is_refused_not_broadcast():
    net, x = small_net()
    net(x[:1], init=True)
    with pytest.raises(CompileError, match="init=True") as caught:
        net(x)
    assert caught.value.code == "SNN704"


def test_gap_and_flatten_classifiers_differ_only_in_their_input():
    assert small_net(classifier="gap")[0].classifier.weight.shape == (3, 4)
    assert small_net(classifier="flatten")[0].classifier.weight.shape == (3, 4 * 2 * 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": [3, "B"]}, "'B' is no layer"),
        ({"config": [3, 0]}, "0 is no layer"),
        ({"config": [3, True]}, "True is no layer"),
        ({"config": ["A", 3]}, "a config starts with a convolution"),
        ({"config": []}, "a config starts with a convolution"),
        ({"config": [3, "A", "A", "A"]}, "too small"),
        ({"classifier": "mlp"}, "unknown classifier 'mlp'"),
        ({"tau": 1.0}, "tau must be greater than 1"),
        ({"std": [0.3]}, "one mean and one positive std"),
        ({"std": [0.3, 0.0]}, "one mean and one positive std"),
        ({"std": None}, "both mean and std"),
        ({"mean": [0.1] * 3, "std": [0.3] * 3}, "3 means for 2 input channels"),
        ({"num_classes": 0}, "at least 1"),
        ({"input_size": (4,)}, "height and width"),
    ],
)
def test_a_configuration_that_describes_no_network_is_refused(arguments, message):
    with pytest.raises(CompileError, match=message) as caught:
        build_network("ottt_vgg", **(SMALL | arguments))
    assert caught.value.code == "SNN703"


def test_an_unknown_network_is_refused_with_the_nearest_names():
    assert "ottt_vgg" in list_networks()
    with pytest.raises(CompileError, match="did you mean ottt_vgg") as caught:
        build_network("otttvgg11")
    assert caught.value.code == "SNN701"
    with pytest.raises(CompileError, match="@register_network"):
        build_network("quadruped")


def test_an_argument_the_factory_does_not_take_is_refused():
    with pytest.raises(CompileError, match="widths") as caught:
        build_network("ottt_vgg", widths=[1])
    assert caught.value.code == "SNN702"


def test_two_networks_cannot_share_a_name():
    with pytest.raises(Exception, match="two networks are registered as 'ottt_vgg'"):
        register_network("ottt_vgg")(ottt_vgg)


def test_input_normalisation_takes_raw_pixels():
    norm = InputNorm([0.5], [0.25])
    torch.testing.assert_close(norm(torch.tensor([[[[0.0, 255.0]]]])), torch.tensor([[[[-2.0, 2.0]]]]))
    assert not norm.state_dict()  # the numbers live in arch_args


def test_the_default_configuration_is_vgg11():
    with torch.device("meta"):
        net = ottt_vgg()
    assert [m.conv.out_channels for m in net.features if hasattr(m, "conv")] == [width for width in VGG11 if width != "A"]

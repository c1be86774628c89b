"""The compiler captures every network of the kit as it stands: pristine, in eval mode, called by its own convention."""

from __future__ import annotations

import pytest
import torch

from snncompile.capture.capture import capture
from snncompile.online import build_network, calibrate_thresholds, list_networks
from snncompile.online.rule import advance, summed_logits

PLAIN = {"in_channels": 1, "num_classes": 3}
VGG = PLAIN | {"config": [3, "A", 4], "input_size": [8, 8], "classifier": "flatten"}
RESNET = PLAIN | {"widths": [3, 4], "depths": [1, 1]}
CASES = [
    ("ottt_vgg", VGG | {"mean": [0.1], "std": [0.3]}, "step"),
    ("ndot_vgg", VGG | {"feedback": True}, "step"),
    ("sltt_vgg", VGG, "step"),
    ("sltt_resnet", RESNET, "step"),
    ("empf_vgg", VGG | {"steps": 3, "four_bit": False}, "step"),
    ("empf_resnet", RESNET | {"steps": 3, "four_bit": False, "weights": "ternary"}, "step"),
    ("osr_vgg", VGG | {"steps": 3}, "step"),
    ("osr_resnet", RESNET | {"steps": 3, "input_size": [8, 8]}, "step"),
    ("osr_sew_resnet", RESNET | {"thresholds": "constant"}, "step"),
    ("nf_resnet", RESNET, "step"),
    ("ltl_vgg", PLAIN | {"config": [(3, 1), (4, 2)], "hidden": [5], "input_size": [8, 8]}, "step"),
    ("tet_vgg", VGG | {"shortcuts": [0]}, "TB"),
    ("tet_resnet", RESNET | {"stem": 2, "hidden": 4}, "TB"),
    ("osr_nf_resnet", RESNET | {"steps": 3}, "step"),
    ("glif_resnet", RESNET | {"hidden": 4, "steps": 3}, "TB"),
    ("glif_ms_resnet", RESNET | {"steps": 3}, "TB"),
]


@pytest.mark.parametrize(("name", "arguments", "layout"), CASES, ids=[name for name, _, _ in CASES])
def test_a_network_is_captured(name, arguments, layout):
    torch.manual_seed(0)
    net = build_network(name, **arguments)
    size = 16 if name in ("osr_sew_resnet", "osr_nf_resnet", "nf_resnet", "glif_ms_resnet") else 8
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    if "steps" in arguments and name.startswith("osr"):
        calibrate_thresholds(net, [torch.randn(8, 1, size, size)], 3)
    captured = capture(net.eval(), input_shape=(1, size, size), steps=3, layout=layout, name=name)
    assert any(type(node).__name__ == "Neuron" for node in captured.graph.nodes)


@pytest.mark.parametrize(("name", "arguments", "layout"), CASES, ids=[name for name, _, _ in CASES])
def test_the_readout_calls_a_network_by_its_own_convention(name, arguments, layout):
    net = build_network(name, **arguments)
    size = 16 if "input_size" not in arguments else 8
    frames = [torch.randn(2, 1, size, size) for _ in range(3)]
    if "steps" in arguments and name.startswith("osr"):
        calibrate_thresholds(net, [torch.randn(8, 1, size, size)], 3)
    net.eval()
    if layout == "TB":
        with torch.no_grad():
            want = net(torch.stack(frames)).sum(0)
    else:
        want = sum(advance(net, frame, t == 0) for t, frame in enumerate(frames)).detach()
    assert want.shape == (2, 3)
    torch.testing.assert_close(summed_logits(net, frames), want)


def test_every_network_of_the_kit_is_among_the_cases():
    assert {name for name, _, _ in CASES} == set(list_networks())

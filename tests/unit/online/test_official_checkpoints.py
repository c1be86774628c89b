"""Checkpoints of the official OTTT, NDOT, OSR, SLTT and EM-PF code load into the kit's networks, and compute what they computed."""

from __future__ import annotations

import argparse
import json
import re

import official_nets as theirs
import pytest
import torch
from torch import nn

from snncompile.capture.load import load_model
from snncompile.errors import CompileError
from snncompile.online.rule import advance
from snncompile.online.state import ResettableNetwork

STEPS = 4


def plain(module):
    return module


SLTT = {"tau": 1.1, "traced": False}
NETWORKS = {
    "OTTT VGG": (theirs.OtttVgg, (2, 8, 8), "features.3.op.gain", {}),
    "OTTT VGG, DVS head": (lambda: theirs.OtttVgg(side=3), (2, 12, 12), "classifier.0.op.weight", {}),
    "OTTT VGG without rates": (lambda: theirs.OtttVgg(wrap=plain), (2, 8, 8), "features.3.gain", {}),
    "OTTT feedback": (theirs.OtttFeedback, (2, 8, 8), "fb_conv.op.bias", {}),
    "OTTT NF-ResNet": (theirs.NfResNet, (2, 32, 32), "layer2.0.downsample.op.gain", {}),
    "SLTT NF-ResNet": (lambda: theirs.NfResNet(leak=1 / 11, wrap=plain), (2, 32, 32), "layer1.1.conv2.gain", SLTT),
    "SLTT ResNet": (theirs.SlttResNet, (2, 8, 8), "layer2.0.shortcut.bias", {}),
    "SLTT VGG": (theirs.SlttVgg, (2, 8, 8), "layer2.5.running_var", {}),
    "OSR VGG": (theirs.OsrVgg, (2, 8, 8), "features.3.bn.run_mean", {"thresholds": "constant"}),
    "OSR ResNet": (theirs.OsrResNet, (2, 8, 8), "layer2.0.downsample.1.run_var", {"thresholds": "constant"}),
    "OSR SEW-ResNet": (theirs.OsrSew, (2, 16, 16), "layer1.0.convNeuron2.bn.gamma", {"thresholds": "constant"}),
    "EM-PF": (theirs.EmpfResNet, (2, 8, 8), "layer1.0.act1.alpha", {}),
    "EM-PF Mem-BN": (lambda: theirs.EmpfResNet(mem_bn=True, parallel=False), (2, 8, 8), "layer2.0.act2.bn.3.running_var", {}),
    "EM-PF ternary": (lambda: theirs.EmpfResNet(ternary=True), (2, 8, 8), "layer2.0.downsample.0.weight_clip_val", {}),
}  # fmt: skip
NESTING = {
    "OTTT": lambda s: {"net": s, "optimizer": {"state": {}}, "lr_scheduler": {}, "epoch": 7, "max_test_acc": 0.9},
    "OSR": lambda s: {"net": {f"module.{k}": v for k, v in s.items()}, "optimizer": {}, "epoch": 7},
    "SLTT": lambda s: {"net": s, "optimizer": {}, "epoch": 7, "max_test_acc": 0.9},
    "EM-PF": lambda s: {"model": s, "snn_optimizer": {}, "snn_scheduler": {}, "snn_epoch": 7, "snn_max_acc1": 0.9},
}


def suggested(path, **more) -> tuple[str, dict]:
    """What the compiler says about a file without --arch."""
    with pytest.raises(CompileError) as error:
        load_model(path, **more)
    assert error.value.code == "SNN138"
    found = re.search(r"add --arch (\w+)(?: --arch-args '(.*?)')?", str(error.value))
    assert found, str(error.value)
    return found[1], json.loads(found[2] or "{}")


def run(net: nn.Module, x: torch.Tensor, step) -> torch.Tensor:
    with torch.no_grad():
        return torch.stack([step(net, x[t], t == 0) for t in range(STEPS)])


@pytest.mark.parametrize("label", NETWORKS)
def test_a_checkpoint_loads_as_suggested_and_computes_what_its_network_computed(label, tmp_path):
    make, shape, key, more = NETWORKS[label]
    torch.manual_seed(0)
    net = theirs.trained(make())
    state = net.state_dict()
    assert key in state, "the test's network has not the layout"
    wrap = NESTING.get(label.split()[0], NESTING["OTTT"])
    torch.save(wrap({k: v.float() for k, v in state.items()}), tmp_path / "official.pth")
    arch, arguments = suggested(tmp_path / "official.pth")
    if arch in ("ottt_vgg", "sltt_vgg", "osr_vgg", "osr_resnet"):
        arguments["input_size"] = list(shape[1:])
    loaded = load_model(tmp_path / "official.pth", arch=arch, arch_args=arguments | more, input_shape=shape, steps=STEPS)
    assert loaded.facts["keys"]
    x = 2 * torch.rand(STEPS, 2, *shape, dtype=torch.float64)
    net.load_state_dict({k: v.float() for k, v in state.items()})  # the file's values, in double precision
    wanted = run(net, x, lambda n, image, _: n(image))
    kit = loaded.model.double()
    found = run(kit, x, advance)
    assert torch.allclose(found, wanted, rtol=1e-12, atol=1e-12)
    assert wanted.std(0).max() > 1e-3, "every step the same: nothing was computed"
    if isinstance(kit, ResettableNetwork):
        kit.reset()


def test_ndots_checkpoint_holds_a_namespace_and_is_refused_until_trusted(tmp_path):
    net = theirs.trained(theirs.OtttVgg())
    content = {"model_arch": "online_spiking_vgg11_ws", "dataset": "cifar10", "model_state_dict": net.state_dict(), "epoch": 3}
    torch.save(content | {"args": argparse.Namespace(T=6, tau=2.0)}, tmp_path / "ndot.pth")
    with pytest.raises(CompileError) as error:
        load_model(tmp_path / "ndot.pth", arch="ndot_vgg")
    assert error.value.code == "SNN005"
    assert "argparse.Namespace" in str(error.value)
    assert "--trust-pickle" in str(error.value)
    arch, arguments = suggested(tmp_path / "ndot.pth", trust_pickle=True)
    for name in (arch, "ndot_vgg"):
        loaded = load_model(tmp_path / "ndot.pth", arch=name, arch_args=arguments, trust_pickle=True, input_shape=(2, 8, 8), steps=6)
        assert torch.equal(loaded.model.state_dict()["features.3.conv.gain"].double(), net.state_dict()["features.7.op.gain"])


def test_osrs_thresholds_follow_the_batch_until_they_are_calibrated(tmp_path):
    torch.save({"net": theirs.trained(theirs.OsrVgg()).float().state_dict()}, tmp_path / "osr.pth")
    arch, arguments = suggested(tmp_path / "osr.pth")
    loaded = load_model(tmp_path / "osr.pth", arch=arch, arch_args=arguments | {"input_size": [8, 8]}, input_shape=(2, 8, 8), steps=4)
    with pytest.raises(CompileError, match="SNN706"):
        loaded.model(torch.rand(1, 2, 8, 8), init=True)


def test_binarised_weights_are_as_good_as_latent_ones(tmp_path):
    """EM-PF's own script replaces the latent weights by mean|W| sign(W) before it evaluates; that function of itself is itself."""
    torch.manual_seed(0)
    net = theirs.trained(theirs.EmpfResNet())
    state = net.state_dict()
    binary = {k: v.abs().mean((1, 2, 3), keepdim=True) * v.sign() if v.dim() == 4 and k != "conv1.weight" else v for k, v in state.items()}
    outputs = []
    for name, values in (("latent", state), ("binary", binary)):
        torch.save({"model": values}, tmp_path / f"{name}.pth")
        arch, arguments = suggested(tmp_path / f"{name}.pth")
        loaded = load_model(tmp_path / f"{name}.pth", arch=arch, arch_args=arguments, input_shape=(2, 8, 8), steps=4)
        outputs.append(run(loaded.model, torch.linspace(0, 2, 4 * 128).reshape(4, 1, 2, 8, 8), advance))
    assert torch.allclose(*outputs, atol=1e-5)


def damaged(state, how):
    state = dict(state)
    if how == "missing":
        del state["features.7.op.gain"]
    elif how == "extra":
        state["features.8.scale"] = torch.ones(1)
    else:
        state["classifier.0.op.weight"] = torch.ones(3, 9)
    return state


@pytest.mark.parametrize(
    ("how", "shown"),
    [
        ("missing", "missing: features.3.conv.gain [5, 1, 1, 1]"),
        ("extra", "unexpected: features.8.scale [1]"),
        ("shape", "wrong shape: classifier.weight is [3, 9], the network needs [3, 5]"),
    ],
)
def test_loading_is_strict_and_shows_the_difference(how, shown, tmp_path):
    torch.save({"net": damaged(theirs.OtttVgg().state_dict(), how)}, tmp_path / "odd.pth")
    arguments = {"config": [4, 6, "A", 5], "in_channels": 2, "num_classes": 3, "input_size": [8, 8]}
    with pytest.raises(CompileError) as error:
        load_model(tmp_path / "odd.pth", arch="ottt_vgg", arch_args=arguments)
    assert error.value.code == "SNN136"
    assert shown in str(error.value)
    assert "renamed from the keys of OTTT's and NDOT's VGG" in str(error.value)


def test_weights_of_impossible_shapes_are_no_traceback(tmp_path):
    state = theirs.OtttVgg().state_dict() | {"features.3.op.weight": torch.ones(()), "classifier.0.op.weight": torch.ones(())}
    torch.save({"net": state}, tmp_path / "odd.pth")
    with pytest.raises(CompileError) as error:
        load_model(tmp_path / "odd.pth")
    assert error.value.code == "SNN138"


def test_a_clip_of_ternary_weights_that_is_not_1_is_refused(tmp_path):
    state = theirs.EmpfResNet(ternary=True).state_dict()
    state["layer1.0.conv1.0.weight_clip_val"] = torch.tensor([0.8])
    torch.save({"model": state}, tmp_path / "clip.pth")
    arch, arguments = suggested(tmp_path / "clip.pth")
    with pytest.raises(CompileError, match=r"unexpected: blocks\.0\.conv1\.0\.weight_clip_val"):
        load_model(tmp_path / "clip.pth", arch=arch, arch_args=arguments)

"""The networks of METHODS.md with randomised statistics, at published size and small."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from snncompile.online import OnlineRenorm, build_network, calibrate_thresholds

PIXELS = {"mean": [0.49, 0.48, 0.45], "std": [0.2, 0.2, 0.2]}
LEARNED = ("v_th", "alpha", "beta", "gamma", "bn_ratio", "mem_ratio", "tau", "vth", "leak", "vre", "conduct", "skipinit_gain")


@dataclass(frozen=True)
class Network:
    """How to build a network, and what it hears: ``small`` replaces arguments, ``size`` and ``small_size`` are the input's pixels."""

    factory: str
    parameters: int | None
    size: int
    steps: int
    arguments: dict[str, Any] = field(default_factory=dict)
    small: dict[str, Any] = field(default_factory=dict)
    small_size: int = 16
    layout: str = "step"
    channels: int = 3

    def build(self, *, small: bool) -> nn.Module:
        """In evaluation mode, every statistic and learned constant of a neuron random, so that nothing is what a fresh network has."""
        torch.manual_seed(0)
        arguments = {**self.arguments, **(self.small if small else {})}
        net = randomise(build_network(self.factory, **arguments)).eval()
        if self.factory.startswith("osr"):
            calibrate_thresholds(net, [torch.as_tensor(self.samples(2, small=small)[:, 0], dtype=torch.float32)], self.steps)
        return net

    def samples(self, count: int, *, small: bool) -> np.ndarray:
        """Images of bytes, or frames of counts, (N, 1, channels, H, W)."""
        size = self.small_size if small else self.size
        top = 255 if self.channels == 3 else 4
        return np.random.default_rng(0).integers(0, top + 1, (count, 1, self.channels, size, size)).astype(np.float64)


def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Random running statistics, gammas and betas; learned constants of neurons moved; biases and gains that start at 0 moved."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for m in net.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm):
                statistics = (m.running_mean, m.running_var, m.weight, m.bias)
            elif isinstance(m, OnlineRenorm):
                statistics = (m.run_mean, m.run_var, m.gamma, m.beta)
            else:
                for name in LEARNED:
                    p = getattr(m, name, None)
                    if isinstance(p, nn.Parameter):
                        p.add_(torch.rand(p.shape, generator=g) - 0.5)
                continue
            for values, (low, high) in zip(statistics, ((-0.3, 0.3), (0.4, 1.6), (0.6, 1.4), (-0.1, 0.5)), strict=True):
                values.uniform_(low, high, generator=g)
        for name, p in net.named_parameters():
            if not p.any():
                p.uniform_(-0.1, 0.3, generator=g) if name.endswith("bias") else p.normal_(0, 0.05, generator=g)
    return net


R18 = {"widths": [4, 8], "depths": [1, 1]}
NETWORKS = {
    "OTTT VGG-11-WS": Network(
        "ottt_vgg", 9_228_362, 32, 6, PIXELS, {"config": [4, "A", 8, 8], "input_size": [16, 16]}),
    "OTTT VGG-11-WS with feedback": Network(
        "ottt_vgg", 9_569_508, 32, 6, {**PIXELS, "feedback": True, "num_classes": 100},
        {"config": [4, "A", 8, 8], "input_size": [16, 16], "num_classes": 10}),
    "OTTT NF-ResNet-34": Network("nf_resnet", 21_797_688, 224, 4, PIXELS, {**R18, "num_classes": 10}, 32),
    "SLTT ResNet-18": Network("sltt_resnet", 11_176_906, 32, 6, PIXELS, R18),
    "OSR VGG-11": Network("osr_vgg", 9_231_114, 32, 4, PIXELS, {"config": [4, "A", 8], "input_size": [16, 16]}),
    "OSR ResNet-19": Network("osr_resnet", 14_669_834, 32, 4, PIXELS, {**R18, "hidden": 6, "input_size": [16, 16]}),
    "OSR SEW-ResNet-34": Network("osr_sew_resnet", 21_806_184, 224, 4, PIXELS, {"widths": [4, 8], "depths": [2, 2], "num_classes": 10}, 32),
    "OSR NF-ResNet-34": Network("osr_nf_resnet", 21_806_184, 224, 4, PIXELS, {**R18, "num_classes": 10}, 32),
    "EM-PF ResNet-18": Network("empf_resnet", None, 32, 4, {**PIXELS, "parallel": True}, R18),
    "EM-PF ResNet-18, Mem-BN": Network("empf_resnet", None, 32, 4, {**PIXELS, "mem_bn": True, "parallel": False}, R18),
    "EM-PF ResNet-34": Network(
        "empf_resnet", None, 224, 4, {**PIXELS, "depths": [3, 4, 6, 3], "num_classes": 1000, "stem": "7x7-pool"},
        {**R18, "num_classes": 10}, 32),
    "EM-PF VGG-13": Network(
        "empf_vgg", None, 64, 4,
        {**PIXELS, "config": [64, 64, "A", 128, 128, "A", 256, 256, "A", 512, 512, "A", 512, 512, "A"], "num_classes": 200,
         "in_channels": 3, "input_size": [64, 64], "classifier": "gap", "float_first": True, "steps": 4},
        {"config": [4, 4, "A", 8, "A"], "num_classes": 10, "input_size": [16, 16]}),
    "EM-PF VGG-SNN": Network(
        "empf_vgg", None, 48, 10, {}, {"config": [4, "A", 8, "A"], "input_size": [16, 16], "steps": 4}, channels=2),
    "TET VGG-SNN": Network("tet_vgg", 9_271_498, 48, 10, {}, {"config": [4, "A", 8], "input_size": [16, 16]}, layout="TB", channels=2),
    "TET ResNet-19": Network("tet_resnet", 12_630_858, 32, 4, PIXELS, {**R18, "stem": 3, "hidden": 6}, layout="TB"),
    "ASGL VGGSNN2": Network(
        "tet_vgg", 9_268_744, 48, 10, {"neuron": "asgl-constant", "bias": False}, {"config": [4, "A", 8], "input_size": [16, 16]},
        layout="TB", channels=2),
    "ASGL ResNet-18": Network(
        "tet_resnet", 11_220_166, 32, 4,
        {**PIXELS, "widths": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "hidden": 0, "num_classes": 100, "neuron": "asgl"},
        {**R18, "stem": 4}, layout="TB"),
    "GLIF ResNet-18": Network("glif_resnet", 11_347_456, 32, 4, PIXELS, {**R18, "hidden": 6}, layout="TB"),
    "GLIF ResNet-19": Network(
        "glif_resnet", 12_749_824, 32, 4, {**PIXELS, "widths": [128, 256, 512], "depths": [3, 3, 2]}, {**R18, "hidden": 6}, layout="TB"),
    "GLIF ResNet-18, membrane shortcut": Network("glif_ms_resnet", None, 224, 4, PIXELS, {**R18, "num_classes": 10}, 32, layout="TB"),
}  # fmt: skip
SMALL_STEPS = {"EM-PF VGG-SNN": 4}

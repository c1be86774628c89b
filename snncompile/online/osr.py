"""OSR's networks: VGG-11, post-activation ResNet-19 and SEW-ResNet-34, with online renormalisation and stabilised thresholds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from snncompile.errors import fail
from snncompile.online.neuron import OnlineLIF
from snncompile.online.ots import OTSLIF
from snncompile.online.registry import register_network
from snncompile.online.renorm import OnlineRenorm
from snncompile.online.resnet import BlockPlan, block_plans, initialise_convolutions
from snncompile.online.stack import build_stack, check_classes, plane
from snncompile.online.stages import InputNorm, input_norm
from snncompile.online.state import forget_all

NewNeuron = Callable[[], nn.Module]


def neurons(thresholds: str, steps: int, tau: float) -> NewNeuron:
    """What makes the neurons of a network: "fixed" OTS thresholds in eval mode, "online" ones, or "constant" 1 (OSR without OTS)."""
    if thresholds == "constant":
        return lambda: OnlineLIF(tau)
    if thresholds not in ("fixed", "online"):
        raise fail("SNN703", f"unknown thresholds {thresholds!r}", help='choose "fixed", "online" or "constant"')
    return lambda: OTSLIF(steps, tau=tau, fixed=thresholds == "fixed")


def synapse(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution with bias, padded to keep the size at stride 1."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)


def synapse_neuron(conv: nn.Conv2d, new_neuron: NewNeuron) -> nn.Sequential:
    """LIF(renorm(conv(x)))."""
    return nn.Sequential(conv, OnlineRenorm(conv.out_channels), new_neuron())


class OSRNetwork(nn.Module):
    """A network of ``body`` and ``classifier`` advanced by one time step per call.

        dW_ij = sum_t M_i[t] psi_i[t] s_j[t]          no trace; M passes the normalisation as ``Renormalise`` says

    Calling  ``net(x, init=True)`` on the first step of a sample, then ``net(x)``; each returns the step's logits, the decision is their sum
    Source   Zhu et al., "Online Stabilization of Spiking Neural Networks" (ICLR 2024)
    Shapes   x [B,in_channels,H,W]; y [B,num_classes]
    """

    def __init__(self, body: nn.Module, classifier: nn.Module, norm: InputNorm | None) -> None:
        super().__init__()
        self.norm, self.body, self.classifier = norm, body, classifier
        initialise_convolutions(self)

    def forward(self, x: Tensor, init: bool = False) -> Tensor:
        """Advance one step and return its logits."""
        if init:
            forget_all(self)
        y: Tensor = self.classifier(torch.flatten(self.body(x if self.norm is None else self.norm(x)), 1))
        return y


class PostActBlock(nn.Module):
    """y = LIF(renorm2(conv2(LIF(renorm1(conv1(x)))) + identity)),   identity = x or renorm(conv1x1(x)): the second comes after the add.

    Source   as ``OSRNetwork``, ResNet-19      Shapes   x [B,in,H,W]; y [B,out,H/stride,W/stride], spikes
    """

    def __init__(self, plan: BlockPlan, new_neuron: NewNeuron) -> None:
        super().__init__()
        self.first = synapse_neuron(synapse(plan.inputs, plan.outputs, 3, plan.stride), new_neuron)
        self.conv2 = synapse(plan.outputs, plan.outputs, 3)
        self.bn2 = OnlineRenorm(plan.outputs)
        self.neuron2 = new_neuron()
        self.downsample = None
        if not plan.keeps_shape:
            self.downsample = nn.Sequential(synapse(plan.inputs, plan.outputs, 1, plan.stride), OnlineRenorm(plan.outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step."""
        identity = x if self.downsample is None else self.downsample(x)
        y: Tensor = self.neuron2(self.bn2(self.conv2(self.first(x)) + identity))
        return y


class SEWBlock(nn.Module):
    """y = LIF(renorm(conv2(LIF(renorm(conv1(x)))))) + identity: spikes plus spikes, so integers; a downsample has its own neuron.

    Source   as ``OSRNetwork``, SEW-ResNet-34      Shapes   x [B,in,H,W]; y [B,out,H/stride,W/stride], integers 0, 1, 2, ...
    """

    def __init__(self, plan: BlockPlan, new_neuron: NewNeuron) -> None:
        super().__init__()
        self.first = synapse_neuron(synapse(plan.inputs, plan.outputs, 3, plan.stride), new_neuron)
        self.second = synapse_neuron(synapse(plan.outputs, plan.outputs, 3), new_neuron)
        down = synapse(plan.inputs, plan.outputs, 1, plan.stride)
        self.downsample = None if plan.keeps_shape else synapse_neuron(down, new_neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step."""
        y: Tensor = self.second(self.first(x)) + (x if self.downsample is None else self.downsample(x))
        return y


@register_network("osr_vgg")
def osr_vgg(
    *,
    config: Sequence[int | str] = (64, 128, "A", 256, 256, "A", 512, 512, "A", 512, 512),
    in_channels: int = 3,
    num_classes: int = 10,
    input_size: Sequence[int] = (32, 32),
    classifier: str | int = "gap",
    steps: int = 4,
    thresholds: str = "fixed",
    tau: float = 2.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pixel_scale: float = 1 / 255,
) -> OSRNetwork:
    """OSR's feedforward network; the defaults are its VGG-11 for CIFAR-10 (9,231,114 parameters)."""
    new_neuron = neurons(thresholds, steps, tau)
    stack = build_stack(config, in_channels, input_size, lambda i, o, first: synapse_neuron(synapse(i, o, 3), new_neuron))
    head, inputs = stack.head(classifier)
    last = nn.Linear(inputs, check_classes(num_classes))
    return OSRNetwork(nn.Sequential(*stack.stages, head), last, input_norm(mean, std, pixel_scale, in_channels))


@register_network("osr_resnet")
def osr_resnet(
    *,
    widths: Sequence[int] = (128, 256, 512),
    depths: Sequence[int] = (3, 3, 2),
    hidden: int = 256,
    in_channels: int = 3,
    num_classes: int = 10,
    input_size: Sequence[int] = (32, 32),
    steps: int = 4,
    thresholds: str = "fixed",
    tau: float = 2.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pixel_scale: float = 1 / 255,
) -> OSRNetwork:
    """OSR's post-activation residual network; the defaults are its ResNet-19 for CIFAR-10 (14,669,834 parameters).

    Two linear maps follow each other with a normalisation, but no neuron, between them. In the official code that normalisation never hears
    of a first step, so its running statistics stay 0 and 1; here it is treated like every other.
    """
    new_neuron = neurons(thresholds, steps, tau)
    plans = list(block_plans(widths[0] if widths else 0, widths, depths))
    height, width = (size // 2 ** len(widths) for size in plane(input_size))
    if min(height, width) < 1:
        raise fail("SNN703", f"an input of {list(input_size)} pixels is too small for {len(widths)} stages")
    stem = synapse_neuron(synapse(in_channels, widths[0], 3), new_neuron)
    body = nn.Sequential(stem, *(PostActBlock(plan, new_neuron) for plan in plans), nn.AvgPool2d(2))
    first = nn.Linear(widths[-1] * height * width, hidden)
    classifier = nn.Sequential(first, OnlineRenorm(hidden), nn.Linear(hidden, check_classes(num_classes)))
    return OSRNetwork(body, classifier, input_norm(mean, std, pixel_scale, in_channels))


@register_network("osr_sew_resnet")
def osr_sew_resnet(
    *,
    widths: Sequence[int] = (64, 128, 256, 512),
    depths: Sequence[int] = (3, 4, 6, 3),
    in_channels: int = 3,
    num_classes: int = 1000,
    steps: int = 4,
    thresholds: str = "fixed",
    tau: float = 2.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pixel_scale: float = 1 / 255,
) -> OSRNetwork:
    """OSR's residual network that adds spikes to spikes; the defaults are its SEW-ResNet-34 for ImageNet (21,806,184 parameters)."""
    new_neuron = neurons(thresholds, steps, tau)
    plans = list(block_plans(widths[0] if widths else 0, widths, depths))
    stem = synapse_neuron(synapse(in_channels, widths[0], 7, 2), new_neuron)
    blocks = (SEWBlock(plan, new_neuron) for plan in plans)
    body = nn.Sequential(stem, nn.MaxPool2d(3, 2, 1), *blocks, nn.AdaptiveAvgPool2d(1))
    last = nn.Linear(widths[-1], check_classes(num_classes))
    return OSRNetwork(body, last, input_norm(mean, std, pixel_scale, in_channels))

"""OTTT's normaliser-free residual network: a real-valued stream, kept in range by constants instead of batch statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snncompile.online.layers import ScaledWSConv2d
from snncompile.online.neuron import OnlineLIF, Scale
from snncompile.online.registry import register_network
from snncompile.online.resnet import BlockPlan, block_plans, initialise_convolutions
from snncompile.online.stack import check_classes
from snncompile.online.stages import InputNorm, input_norm
from snncompile.online.state import forget_all

ALPHA = 0.2


class NFBlock(nn.Module):
    """s = 2.74 LIF(x / beta);   y = gain * 0.2 * conv2(2.74 LIF(conv1(s))) + identity;   identity = x, or conv1x1(s) if the shape changes.

    beta^2 is the variance expected of x: 1, plus 0.2^2 for every block from the last change of shape on; a constant, not a parameter.
    Source   as ``NFResNet``
    Ranges   beta >= 1
    Shapes   x [B,in,H,W], y [B,out,H/stride,W/stride], real-valued; gain a scalar, 0 at first
    """

    def __init__(self, plan: BlockPlan, beta: float, tau: float, trace_leak: float | None) -> None:
        super().__init__()
        self.beta = beta
        self.neuron1, self.neuron2, self.scale = OnlineLIF(tau), OnlineLIF(tau), Scale(2.74)
        self.conv1 = ScaledWSConv2d(plan.inputs, plan.outputs, 3, stride=plan.stride, padding=1, trace_leak=trace_leak)
        self.conv2 = ScaledWSConv2d(plan.outputs, plan.outputs, 3, padding=1, trace_leak=trace_leak)
        self.downsample = None
        if not plan.keeps_shape:
            self.downsample = ScaledWSConv2d(plan.inputs, plan.outputs, 1, stride=plan.stride, trace_leak=trace_leak)
        self.skipinit_gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step."""
        s = self.scale(self.neuron1(x / self.beta))
        identity = x if self.downsample is None else self.downsample(s)
        y: Tensor = self.conv2(self.scale(self.neuron2(self.conv1(s))))
        return y * self.skipinit_gain * ALPHA + identity


class NFResNet(nn.Module):
    """Stem convolution and average pooling without neuron, blocks, global average of the stream, linear.

    Calling  ``net(x, init=True)`` on the first step of a sample, then ``net(x)``; each returns the step's logits, the decision is their sum
    Source   OTTT (Xiao et al., NeurIPS 2022), ImageNet; Brock et al., "Characterizing signal propagation ..." (ICLR 2021)
    Shapes   x [B,in_channels,H,W]; y [B,num_classes]
    """

    def __init__(
        self,
        widths: Sequence[int],
        depths: Sequence[int],
        *,
        in_channels: int,
        num_classes: int,
        tau: float,
        traced: bool,
        norm: InputNorm | None,
    ) -> None:
        super().__init__()
        plans = list(block_plans(widths[0] if widths else 0, widths, depths))
        leak = 1.0 - 1.0 / tau if traced else None
        self.norm = norm
        self.conv1 = ScaledWSConv2d(in_channels, widths[0], 7, stride=2, padding=3)
        self.pool = nn.AvgPool2d(3, 2, 1)
        self.blocks = nn.Sequential()
        variance = 1.0
        for plan in plans:
            self.blocks.append(NFBlock(plan, math.sqrt(variance), tau, leak))
            variance = (variance if plan.keeps_shape else 1.0) + ALPHA**2
        self.fc = nn.Linear(widths[-1], check_classes(num_classes))
        initialise_convolutions(self)
        nn.init.zeros_(self.fc.weight)

    def forward(self, x: Tensor, init: bool = False) -> Tensor:
        """Advance one step and return its logits."""
        if init:
            forget_all(self)
        x = self.blocks(self.pool(self.conv1(x if self.norm is None else self.norm(x))))
        y: Tensor = self.fc(x.mean(dim=(2, 3)))
        return y


@register_network("nf_resnet")
def nf_resnet(
    *,
    widths: Sequence[int] = (64, 128, 256, 512),
    depths: Sequence[int] = (3, 4, 6, 3),
    in_channels: int = 3,
    num_classes: int = 1000,
    tau: float = 2.0,
    traced: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pixel_scale: float = 1 / 255,
) -> NFResNet:
    """The normaliser-free residual network of OTTT; the defaults are its NF-ResNet-34 for ImageNet (21,797,688 parameters).

    ``traced=False`` leaves the spikes themselves as what synapses learn from: the gradient of SLTT.
    """
    norm = input_norm(mean, std, pixel_scale, in_channels)
    return NFResNet(widths, depths, in_channels=in_channels, num_classes=num_classes, tau=tau, traced=traced, norm=norm)

"""GLIF: neurons whose leak, input and reset are each a learned mixture of two kinds, per channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from snncompile.errors import fail
from snncompile.online.hdlif import too_many_steps
from snncompile.online.multistep import LoopedNeuron, OverTime, SequenceNetwork
from snncompile.online.registry import register_network
from snncompile.online.resnet import BlockPlan, block_plans, initialise_convolutions
from snncompile.online.stack import check_classes
from snncompile.online.stages import InputNorm, input_norm
from snncompile.online.surrogate import Rectangle, Spike

NORM_THRESHOLD = 0.5
SHARED = 1 / math.sqrt(2)
"""The share of each of two branches that are added."""


class GatedLIF(LoopedNeuron):
    """Gated leaky integrate-and-fire neuron, channel-wise, with soft gates.

        u[t] = (1 - A (1 - tau)) u[t-1] (1 - G s[t-1]) - (1 - A) leak + I[t] (1 - B (1 - g_t)) - (1 - G) Vre s[t-1]
        s[t] = 1 if u[t] > Vth (strictly) else 0

    A, B, G in (0, 1) weigh exponential against linear leak, conductance per step against none, and hard against soft reset; the resets are
    applied to the potential before it decays, except Vre, which is subtracted after. All eight parameters are sigmoids of what is stored.
    To the compiler (``snncompile.capture.membrane.with_state``) it is a neuron whose reset is not delayed, v[t] = u[t] where it is silent:

        leak' = 1 - A (1 - tau);   gain'[t] = 1 - B (1 - g_t);   bias' = -(1 - A) leak
        v[t] = (1 - G) u[t] - (1 - G) Vre / leak'  where s[t] = 1

    Source   GLIF: Yao et al., "GLIF: A Unified Gated Leaky Integrate-and-Fire Neuron for Spiking Neural Networks" (NeurIPS 2022),
             channel-wise; surrogate Rectangle(1)
    Shapes   alpha, beta, gamma, tau, vth, leak, vre [C]; conduct [T,C]; I, u, s of one step [B,C,H,W]
    Ranges   all eight in (0, 1), so 0 < leak' < 1
    Errors   SNN703 less than 1 step; SNN705 a step beyond T
    """

    def __init__(self, channels: int, steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise fail("SNN703", f"a neuron with parameters per time step needs at least 1 step, got {steps}")
        self.steps = steps
        gates, constants = {"alpha": 0.55, "beta": 0.65, "gamma": 0.55}, {"tau": 0.25, "vth": 0.5, "leak": 0.25 / steps, "vre": 0.5}
        for name, value in (gates | constants).items():
            self.register_parameter(name, nn.Parameter(torch.full((channels,), math.log(value / (1 - value)))))
        self.conduct = nn.Parameter(torch.zeros(steps, channels))

    def step(self, current: Tensor, state: tuple[Tensor, ...], t: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Advance one step; the state is u and s of the step before."""
        if t >= self.steps:
            raise too_many_steps(self.steps)
        names = ("alpha", "beta", "gamma", "tau", "vth", "leak", "vre")
        A, B, G, tau, vth, leak, vre = (torch.sigmoid(self.get_parameter(name))[:, None, None] for name in names)
        u, s = state or (torch.zeros_like(current), torch.zeros_like(current))
        g = torch.sigmoid(self.conduct[t])[:, None, None]
        u = (1 - A * (1 - tau)) * u * (1 - G * s) - (1 - A) * leak + current * (1 - B * (1 - g)) - (1 - G) * vre * s
        s = Spike.apply(u - vth, 0.0, Rectangle(1.0), True)
        return s, (u, s)


class TdBatchNorm(nn.BatchNorm2d):
    """y = alpha * 1/2 * (x - mu) / sqrt(var + eps) * w + b;  alpha = 1/sqrt(2) in front of an addition.

    Source   Zheng et al., "Going Deeper With Directly-Trained Larger Spiking Neural Networks" (AAAI 2021), with GLIF's threshold of 1/2
    Shapes   x, y [T*B,C,H,W]; mu, var, w, b [C], over time, batch and positions
    Ranges   alpha > 0; w, b any real numbers
    """

    def __init__(self, features: int, alpha: float = 1.0) -> None:
        super().__init__(features)
        self.factor = alpha * NORM_THRESHOLD

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [T*B,C,H,W]."""
        momentum = 0.1 if self.momentum is None else self.momentum
        weight = self.factor * self.weight
        return functional.batch_norm(x, self.running_mean, self.running_var, weight, self.bias, self.training, momentum, self.eps)


class GLIFBlock(nn.Module):
    """y = GLIF(tdbn(conv2(GLIF(tdbn(conv1(x))))) + identity);  identity = tdbn(x), or tdbn(conv1x1(x)) where the shape changes.

    Source   as ``GatedLIF``      Shapes   x [T,B,in,H,W]; y [T,B,out,H/stride,W/stride], spikes
    """

    def __init__(self, plan: BlockPlan, steps: int) -> None:
        super().__init__()
        conv1 = nn.Conv2d(plan.inputs, plan.outputs, 3, plan.stride, 1, bias=False)
        conv2 = nn.Conv2d(plan.outputs, plan.outputs, 3, 1, 1, bias=False)
        first, second = OverTime(conv1, TdBatchNorm(plan.outputs)), OverTime(conv2, TdBatchNorm(plan.outputs, SHARED))
        self.body = nn.Sequential(first, GatedLIF(plan.outputs, steps), second)
        down = [] if plan.keeps_shape else [nn.Conv2d(plan.inputs, plan.outputs, 1, plan.stride, bias=False)]
        self.downsample = OverTime(*down, TdBatchNorm(plan.outputs, SHARED))
        self.neuron = GatedLIF(plan.outputs, steps)

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes of all steps."""
        y: Tensor = self.neuron(self.body(x) + self.downsample(x))
        return y


class GLIFResNet(SequenceNetwork):
    """Post-activation residual network of gated neurons; the head is one linear map, or two with nothing between them, without biases.

    Calling and shapes as ``TETVGG``
    Source   as ``GatedLIF``
    """

    def __init__(
        self,
        widths: Sequence[int],
        depths: Sequence[int],
        *,
        hidden: int,
        in_channels: int,
        num_classes: int,
        steps: int,
        norm: InputNorm | None,
    ) -> None:
        super().__init__()
        plans = list(block_plans(widths[0] if widths else 0, widths, depths))
        self.norm = None if norm is None else OverTime(norm)
        stem = OverTime(nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False), TdBatchNorm(widths[0]))
        self.features = nn.Sequential(stem, GatedLIF(widths[0], steps), *(GLIFBlock(plan, steps) for plan in plans))
        sizes = [widths[-1], *([hidden] if hidden else []), check_classes(num_classes)]
        maps = (nn.Linear(i, o, bias=False) for i, o in pairwise(sizes))
        self.classifier = OverTime(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *maps)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of all steps."""
        y: Tensor = self.classifier(self.features(x if self.norm is None else self.norm(x)))
        return y


@register_network("glif_resnet")
def glif_resnet(
    *,
    widths: Sequence[int] = (64, 128, 256, 512),
    depths: Sequence[int] = (2, 2, 2, 2),
    hidden: int = 256,
    in_channels: int = 3,
    num_classes: int = 10,
    steps: int = 4,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pixel_scale: float = 1 / 255,
) -> GLIFResNet:
    """GLIF's channel-wise residual network; the defaults are its ResNet-18 for CIFAR-10; CIFAR-100 has ``hidden=0``.

    Parameters: 11,347,456 at T = 4; each time step more adds one conductance per channel.
    """
    norm = input_norm(mean, std, pixel_scale, in_channels)
    return GLIFResNet(widths, depths, hidden=hidden, in_channels=in_channels, num_classes=num_classes, steps=steps, norm=norm)

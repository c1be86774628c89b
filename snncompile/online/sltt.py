"""SLTT: networks whose error never travels through time. The rule is in the neuron (its state is cut off) and in ``train_batch``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snncompile.online.neuron import OnlineLIF
from snncompile.online.registry import register_network
from snncompile.online.resnet import BlockPlan, block_plans, initialise_convolutions
from snncompile.online.stack import build_stack, check_classes
from snncompile.online.stages import InputNorm, input_norm
from snncompile.online.state import ResettableNetwork
from snncompile.online.surrogate import Triangle


def sltt_neuron(tau: float = 1.1) -> OnlineLIF:
    """The neuron of SLTT: leak 1 - 1/tau = 1/11, threshold 1, soft reset, psi = max(0, 1 - |u - 1|).

        dW_ij = sum_t M_i[t] psi_i[t] s_j[t]           no trace: what a synapse gets now is what it learns from

    Back-propagation through time has, for a layer alone, the further terms of all tau < t

        M_i[t] psi_i[t] (prod over k = tau .. t-1 of leak (1 - threshold psi_i[k])) s_j[tau]

    SLTT drops them, which is exact as leak -> 0. SLTT-K sums over K random steps t only (``snncompile.online.rule.Rule``).
    Source   Meng et al., "Towards Memory- and Time-Efficient Backpropagation for Training Spiking Neural Networks" (ICCV 2023)
    Shapes   M, psi [B,out], s [B,in] of a dense layer; of a convolution summed over positions too
    Errors   SNN703 tau <= 1
    """
    return OnlineLIF(tau, surrogate=Triangle(1.0))


class PreActBlock(nn.Module):
    """s = LIF(bn1(x));   y = conv2(LIF(bn2(conv1(s)))) + shortcut(s).

    The shortcut carries spikes: as they are where the shape stays, else through a 1x1 convolution without normalisation.
    Source   as ``sltt_neuron``, its ResNet-18
    Shapes   x [B,in,H,W]; y [B,out,H/stride,W/stride], a real-valued current
    """

    def __init__(self, plan: BlockPlan, tau: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(plan.inputs)
        self.neuron1 = sltt_neuron(tau)
        self.conv1 = nn.Conv2d(plan.inputs, plan.outputs, 3, plan.stride, 1)
        self.bn2 = nn.BatchNorm2d(plan.outputs)
        self.neuron2 = sltt_neuron(tau)
        self.conv2 = nn.Conv2d(plan.outputs, plan.outputs, 3, 1, 1)
        self.shortcut = None if plan.keeps_shape else nn.Conv2d(plan.inputs, plan.outputs, 1, plan.stride)

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step."""
        s = self.neuron1(self.bn1(x))
        identity = s if self.shortcut is None else self.shortcut(s)
        y: Tensor = self.conv2(self.neuron2(self.bn2(self.conv1(s)))) + identity
        return y


class SLTTResNet(ResettableNetwork):
    """Pre-activation residual network: stem convolution alone, blocks, then bn - LIF - pooling - linear.

    Calling  see ``ResettableNetwork``; each call returns the step's logits, the decision is the argmax of their sum over t
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
        norm: InputNorm | None,
    ) -> None:
        super().__init__()
        self.norm = norm
        plans = list(block_plans(widths[0] if widths else 0, widths, depths))
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False)
        self.blocks = nn.Sequential(*(PreActBlock(plan, tau) for plan in plans))
        self.bn = nn.BatchNorm2d(widths[-1])
        self.neuron = sltt_neuron(tau)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(widths[-1], check_classes(num_classes))
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step and return its logits."""
        x = self.blocks(self.conv1(x if self.norm is None else self.norm(x)))
        y: Tensor = self.classifier(torch.flatten(self.pool(self.neuron(self.bn(x))), 1))
        return y


class SLTTVGG(ResettableNetwork):
    """Feedforward network: convolution (with bias) - bn - LIF stages, average pooling of spikes, a linear classifier.

    Calling and shapes as ``SLTTResNet``
    """

    def __init__(
        self,
        config: Sequence[int | str],
        *,
        in_channels: int,
        num_classes: int,
        input_size: Sequence[int],
        classifier: str | int,
        tau: float,
        norm: InputNorm | None,
    ) -> None:
        super().__init__()
        self.norm = norm
        stack = build_stack(
            config,
            in_channels,
            input_size,
            lambda i, o, first: nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), sltt_neuron(tau)),
        )
        self.features = nn.Sequential(*stack.stages)
        self.head, inputs = stack.head(classifier)
        self.classifier = nn.Linear(inputs, check_classes(num_classes))
        initialise_convolutions(self)
        nn.init.normal_(self.classifier.weight, 0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step and return its logits."""
        x = self.features(x if self.norm is None else self.norm(x))
        y: Tensor = self.classifier(torch.flatten(self.head(x), 1))
        return y


@register_network("sltt_resnet")
def sltt_resnet(
    *,
    widths: Sequence[int] = (64, 128, 256, 512),
    depths: Sequence[int] = (2, 2, 2, 2),
    in_channels: int = 3,
    num_classes: int = 10,
    tau: float = 1.1,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pixel_scale: float = 1 / 255,
) -> SLTTResNet:
    """SLTT's pre-activation residual network; the defaults are its ResNet-18 for CIFAR-10 (11,176,906 parameters)."""
    norm = input_norm(mean, std, pixel_scale, in_channels)
    return SLTTResNet(widths, depths, in_channels=in_channels, num_classes=num_classes, tau=tau, norm=norm)


@register_network("sltt_vgg")
def sltt_vgg(
    *,
    config: Sequence[int | str] = (64, "A", 128, "A", 256, 256, "A", 512, 512, "A", 512, 512, "A"),
    in_channels: int = 2,
    num_classes: int = 10,
    input_size: Sequence[int] = (48, 48),
    classifier: str | int = 7,
    tau: float = 1.1,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pixel_scale: float = 1 / 255,
) -> SLTTVGG:
    """SLTT's VGG; the defaults are its VGG-11-BN for DVS-CIFAR10 without dropout (9,476,298 parameters)."""
    return SLTTVGG(
        config,
        in_channels=in_channels,
        num_classes=num_classes,
        input_size=input_size,
        classifier=classifier,
        tau=tau,
        norm=input_norm(mean, std, pixel_scale, in_channels),
    )

"""EM-PF's networks: binary or ternary convolutions, graded neurons with parameters per step, real-valued residual streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snncompile.errors import fail
from snncompile.online.binary import CONVOLUTIONS
from snncompile.online.hdlif import HDLIF, ParallelHDLIF
from snncompile.online.registry import register_network
from snncompile.online.resnet import BlockPlan, block_plans
from snncompile.online.seca import SECA
from snncompile.online.stack import build_stack, check_classes
from snncompile.online.stages import InputNorm, input_norm
from snncompile.online.state import ResettableNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class EMPFOptions:
    """The variants of EM-PF.

    steps      T; every neuron has a leak and a threshold for each step
    weights    "binary", "ternary" or "float" convolutions (the first one is always float on static images)
    mem_bn     normalise the membrane of the neurons that have one
    parallel   every second neuron is stateless
    four_bit   spikes are rounded to multiples of 1/4 up to 15/4
    seca       0: none; 1: SECA-I, on I = bn(conv(s)); 2: SECA-II, on x + I (``EMPFBlock``; ``EMPFVGG`` has no x: 2 is the same as 1)
    gates      SECA's gates in eval mode: "live" (of the sample; no static network) or "fixed" (calibrated per step and channel)
    """

    steps: int = 4
    weights: str = "binary"
    mem_bn: bool = False
    parallel: bool = False
    four_bit: bool = True
    seca: int = 0
    gates: str = "live"

    def __post_init__(self) -> None:
        """Check the choices (SNN703)."""
        if self.weights not in CONVOLUTIONS:
            raise fail("SNN703", f"unknown kind of weights {self.weights!r}", help=f"choose one of {', '.join(CONVOLUTIONS)}")
        if self.seca not in (0, 1, 2):
            raise fail("SNN703", f"seca is 0 (none), 1 or 2, not {self.seca!r}")
        if self.gates not in ("live", "fixed"):
            raise fail("SNN703", f"unknown gates {self.gates!r}", help='choose "live" or "fixed"')

    def attention(self, channels: int) -> SECA:
        """SECA over so many channels."""
        return SECA(channels, steps=self.steps if self.gates == "fixed" else 0)

    def neuron(self, channels: int, *, second: bool) -> nn.Module:
        """The neuron of a first or second place."""
        if second and self.parallel:
            return ParallelHDLIF(self.steps, four_bit=self.four_bit)
        return HDLIF(self.steps, channels, mem_bn=self.mem_bn, four_bit=self.four_bit)

    def conv_bn(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
        """BN(BConv(.)), no bias."""
        conv = CONVOLUTIONS[self.weights](inputs, outputs, kernel, stride=stride, padding=kernel // 2)
        return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class EMPFBlock(nn.Module):
    """y = BN(BConv(act2(h))) + identity,   h = BN(BConv(act1(x))).

    identity is the real-valued x, or BN(BConv1x1(x)) of the same where the shape changes.
    SECA-I   h = A1(BN(BConv(act1 x))), y = A2(BN(BConv(act2 h))) + identity
    SECA-II  h = A1(x + BN(BConv(act1 x))) where the shape stays, y = A2(h + BN(BConv(act2 h))) + identity           (10)
    Source   EM-PF (arXiv 2410.07547), eqs. (9) and (10)
    Shapes   x [B,in,H,W]; y [B,out,H/stride,W/stride], real-valued
    """

    def __init__(self, plan: BlockPlan, options: EMPFOptions) -> None:
        super().__init__()
        self.seca = options.seca
        self.act1 = options.neuron(plan.inputs, second=False)
        self.conv1 = options.conv_bn(plan.inputs, plan.outputs, 3, plan.stride)
        self.act2 = options.neuron(plan.outputs, second=True)
        self.conv2 = options.conv_bn(plan.outputs, plan.outputs, 3)
        self.downsample = None if plan.keeps_shape else options.conv_bn(plan.inputs, plan.outputs, 1, plan.stride)
        self.attn1 = options.attention(plan.outputs) if self.seca == 1 or (self.seca == 2 and plan.keeps_shape) else None
        self.attn2 = options.attention(plan.outputs) if self.seca else None

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step."""
        h = self.conv1(self.act1(x))
        if self.attn1 is not None:
            h = self.attn1(x + h if self.seca == 2 else h)
        y: Tensor = self.conv2(self.act2(h))
        if self.attn2 is not None:
            y = self.attn2(h + y if self.seca == 2 else y)
        return y + (x if self.downsample is None else self.downsample(x))


class EMPFResNet(ResettableNetwork):
    """Residual network with a real-valued stream: float stem without neuron, blocks, global average of the stream, linear.

    Calling  see ``ResettableNetwork``; each call returns the step's logits, the decision is the argmax of their sum over the T steps
    Source   EM-PF (arXiv 2410.07547) and its code
    Shapes   x [B,in_channels,H,W]; y [B,num_classes]
    """

    def __init__(
        self,
        widths: Sequence[int],
        depths: Sequence[int],
        *,
        in_channels: int,
        num_classes: int,
        stem: str,
        options: EMPFOptions,
        norm: InputNorm | None,
    ) -> None:
        super().__init__()
        if stem not in ("3x3", "3x3-pool", "7x7-pool"):
            raise fail("SNN703", f"unknown stem {stem!r}", help='choose "3x3" (CIFAR), "3x3-pool" (200 classes) or "7x7-pool" (ImageNet)')
        plans = list(block_plans(widths[0] if widths else 0, widths, depths))
        self.norm = norm
        size, stride = (7, 2) if stem == "7x7-pool" else (3, 1)
        self.conv1 = nn.Conv2d(in_channels, widths[0], size, stride, size // 2, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.pool = None if stem == "3x3" else nn.MaxPool2d(3, 2, 1)  # of real-valued currents
        self.blocks = nn.Sequential(*(EMPFBlock(plan, options) for plan in plans))
        self.fc = nn.Linear(widths[-1], check_classes(num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step and return its logits."""
        x = self.bn1(self.conv1(x if self.norm is None else self.norm(x)))
        x = self.blocks(x if self.pool is None else self.pool(x))
        y: Tensor = self.fc(x.mean(dim=(2, 3)))
        return y


class EMPFVGG(ResettableNetwork):
    """Feedforward network of BN(BConv(.)) - [SECA] - neuron stages, average pooling of graded spikes, a linear classifier.

    Calling, source and shapes as ``EMPFResNet``
    """

    def __init__(
        self,
        config: Sequence[int | str],
        *,
        in_channels: int,
        num_classes: int,
        input_size: Sequence[int],
        classifier: str | int,
        float_first: bool,
        options: EMPFOptions,
        norm: InputNorm | None,
    ) -> None:
        super().__init__()
        self.norm = norm
        count = 0

        def stage(inputs: int, outputs: int, first: bool) -> nn.Module:
            nonlocal count
            count += 1
            conv = options.conv_bn(inputs, outputs, 3)
            if first and float_first:
                conv = nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
            attention = [options.attention(outputs)] if options.seca else []
            return nn.Sequential(*conv, *attention, options.neuron(outputs, second=count % 2 == 0))

        stack = build_stack(config, in_channels, input_size, stage)
        self.features = nn.Sequential(*stack.stages)
        self.head, inputs = stack.head(classifier)
        self.fc = nn.Linear(inputs, check_classes(num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step and return its logits."""
        x = self.features(x if self.norm is None else self.norm(x))
        y: Tensor = self.fc(torch.flatten(self.head(x), 1))
        return y


@register_network("empf_resnet")
def empf_resnet(
    *,
    widths: Sequence[int] = (64, 128, 256, 512),
    depths: Sequence[int] = (2, 2, 2, 2),
    in_channels: int = 3,
    num_classes: int = 10,
    stem: str = "3x3",
    steps: int = 4,
    weights: str = "binary",
    mem_bn: bool = False,
    parallel: bool = True,
    four_bit: bool = True,
    seca: int = 0,
    gates: str = "live",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pixel_scale: float = 1 / 255,
) -> EMPFResNet:
    """EM-PF's residual network; the defaults are ResNet-18 for CIFAR-10: binary weights, 4-bit spikes, 50 % parallel, T = 4."""
    return EMPFResNet(
        widths,
        depths,
        in_channels=in_channels,
        num_classes=num_classes,
        stem=stem,
        options=EMPFOptions(steps=steps, weights=weights, mem_bn=mem_bn, parallel=parallel, four_bit=four_bit, seca=seca, gates=gates),
        norm=input_norm(mean, std, pixel_scale, in_channels),
    )


@register_network("empf_vgg")
def empf_vgg(
    *,
    config: Sequence[int | str] = (64, 128, "A", 256, 256, "A", 512, 512, "A", 512, 512, "A"),
    in_channels: int = 2,
    num_classes: int = 10,
    input_size: Sequence[int] = (48, 48),
    classifier: str | int = "flatten",
    float_first: bool = False,
    steps: int = 10,
    weights: str = "binary",
    mem_bn: bool = True,
    parallel: bool = False,
    four_bit: bool = True,
    seca: int = 0,
    gates: str = "live",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pixel_scale: float = 1 / 255,
) -> EMPFVGG:
    """EM-PF's feedforward network; the defaults are its VGG-SNN for DVS-CIFAR10 (first convolution binary, Mem-BN, T = 10).

    VGG-13 for 200 classes is config 64,64,A,128,128,A,256,256,A,512,512,A,512,512,A with classifier "gap" and ``float_first``.
    """
    return EMPFVGG(
        config,
        in_channels=in_channels,
        num_classes=num_classes,
        input_size=input_size,
        classifier=classifier,
        float_first=float_first,
        options=EMPFOptions(steps=steps, weights=weights, mem_bn=mem_bn, parallel=parallel, four_bit=four_bit, seca=seca, gates=gates),
        norm=input_norm(mean, std, pixel_scale, in_channels),
    )

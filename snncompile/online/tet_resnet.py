"""Post-activation residual networks trained through time: TET's ResNet-19 and ASGL's ResNet-18."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from snncompile.errors import fail
from snncompile.online.multistep import LoopedNeuron, OverTime, SequenceNetwork
from snncompile.online.registry import register_network
from snncompile.online.resnet import BlockPlan, block_plans, initialise_convolutions
from snncompile.online.stack import check_classes
from snncompile.online.stages import InputNorm, input_norm
from snncompile.online.tet import NEURONS


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> OverTime:
    """bn(conv(.)) without bias, over all steps at once."""
    return OverTime(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))


class TETBlock(nn.Module):
    """y = LIF(bn(conv2(LIF(bn(conv1(x))))) + identity);  identity = x, or bn(conv1x1(x)) where the shape changes: spikes meet a current.

    Source   as ``TETResNet``      Shapes   x [T,B,in,H,W]; y [T,B,out,H/stride,W/stride], spikes
    """

    def __init__(self, plan: BlockPlan, neuron: Callable[[], LoopedNeuron]) -> None:
        super().__init__()
        self.conv1, self.neuron1 = conv_bn(plan.inputs, plan.outputs, 3, plan.stride), neuron()
        self.conv2, self.neuron2 = conv_bn(plan.outputs, plan.outputs, 3), neuron()
        self.downsample = None if plan.keeps_shape else conv_bn(plan.inputs, plan.outputs, 1, plan.stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes of all steps."""
        identity = x if self.downsample is None else self.downsample(x)
        y: Tensor = self.neuron2(self.conv2(self.neuron1(self.conv1(x))) + identity)
        return y


class TETResNet(SequenceNetwork):
    """Stem - bn - LIF, blocks, global average, one linear map or two with a neuron between them.

    Calling and shapes as ``TETVGG``
    Source   TET (Deng et al., ICLR 2022), ResNet-19; ASGL (Wang et al., ICML 2023), ResNet-18
    """

    def __init__(
        self,
        stem: int,
        widths: Sequence[int],
        depths: Sequence[int],
        *,
        hidden: int,
        in_channels: int,
        num_classes: int,
        neuron: Callable[[], LoopedNeuron],
        norm: InputNorm | None,
    ) -> None:
        super().__init__()
        self.norm = None if norm is None else OverTime(norm)
        blocks = [TETBlock(plan, neuron) for plan in block_plans(stem, widths, depths)]
        self.features = nn.Sequential(conv_bn(in_channels, stem, 3), neuron(), *blocks, OverTime(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        classes = check_classes(num_classes)
        maps = [OverTime(nn.Linear(widths[-1], hidden or classes))]
        self.classifier = nn.Sequential(*maps, neuron(), OverTime(nn.Linear(hidden, classes))) if hidden else maps[0]
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of all steps."""
        y: Tensor = self.classifier(self.features(x if self.norm is None else self.norm(x)))
        return y


@register_network("tet_resnet")
def tet_resnet(
    *,
    stem: int = 64,
    widths: Sequence[int] = (128, 256, 512),
    depths: Sequence[int] = (3, 3, 2),
    hidden: int = 256,
    in_channels: int = 3,
    num_classes: int = 10,
    neuron: str = "lif",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pixel_scale: float = 1 / 255,
) -> TETResNet:
    """TET's ResNet-19 for CIFAR-10 (12,630,858 parameters): Deng et al. (ICLR 2022).

    ASGL's ResNet-18 (11,220,166 with 100 classes) is stem 64, widths 64,128,256,512, depths 2,2,2,2, hidden 0, neuron "asgl".
    """
    if neuron not in NEURONS:
        raise fail("SNN703", f"unknown neuron {neuron!r}", help=f"choose one of {', '.join(NEURONS)}")
    return TETResNet(
        stem, widths, depths, hidden=hidden, in_channels=in_channels, num_classes=num_classes, neuron=NEURONS[neuron],
        norm=input_norm(mean, std, pixel_scale, in_channels),
    )  # fmt: skip

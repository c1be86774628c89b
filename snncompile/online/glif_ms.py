"""GLIF's residual network for ImageNet: the membrane shortcut, a real-valued stream that batch norms rescale on their way."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from snncompile.online.glif import SHARED, GatedLIF, TdBatchNorm
from snncompile.online.multistep import OverTime, SequenceNetwork
from snncompile.online.registry import register_network
from snncompile.online.resnet import BlockPlan, block_plans, initialise_convolutions
from snncompile.online.stack import check_classes
from snncompile.online.stages import InputNorm, input_norm


class GLIFMSBlock(nn.Module):
    """y = tdbn(conv2(GLIF(tdbn(conv1(GLIF(x)))))) + identity;  identity = tdbn(x), or tdbn(conv1x1(x)), of the real-valued stream.

    Source   as ``GatedLIF``
    Shapes   x [T,B,in,H,W]; y [T,B,out,H/stride,W/stride], real-valued
    """

    def __init__(self, plan: BlockPlan, steps: int) -> None:
        super().__init__()
        conv1 = nn.Conv2d(plan.inputs, plan.outputs, 3, plan.stride, 1, bias=False)
        conv2 = nn.Conv2d(plan.outputs, plan.outputs, 3, 1, 1, bias=False)
        self.body = nn.Sequential(
            GatedLIF(plan.inputs, steps), OverTime(conv1, TdBatchNorm(plan.outputs)),
            GatedLIF(plan.outputs, steps), OverTime(conv2, TdBatchNorm(plan.outputs, SHARED)),
        )  # fmt: skip
        down = [] if plan.keeps_shape else [nn.Conv2d(plan.inputs, plan.outputs, 1, plan.stride, bias=False)]
        self.downsample = OverTime(*down, TdBatchNorm(plan.outputs, SHARED))

    def forward(self, x: Tensor) -> Tensor:
        """Return the stream of all steps."""
        y: Tensor = self.body(x) + self.downsample(x)
        return y


class GLIFMSResNet(SequenceNetwork):
    """Stem 7x7, maximum pooling of the current, blocks, a last neuron, global average, linear.

    Calling and shapes as ``TETVGG``
    Source   as ``GatedLIF``
    """

    def __init__(
        self, widths: Sequence[int], depths: Sequence[int], *, in_channels: int, num_classes: int, steps: int, norm: InputNorm | None
    ) -> None:
        super().__init__()
        plans = list(block_plans(widths[0] if widths else 0, widths, depths))
        self.norm = None if norm is None else OverTime(norm)
        stem = OverTime(nn.Conv2d(in_channels, widths[0], 7, 2, 3, bias=False), TdBatchNorm(widths[0]), nn.MaxPool2d(3, 2, 1))
        self.features = nn.Sequential(stem, *(GLIFMSBlock(plan, steps) for plan in plans), GatedLIF(widths[-1], steps))
        self.classifier = OverTime(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], check_classes(num_classes)))
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of all steps."""
        y: Tensor = self.classifier(self.features(x if self.norm is None else self.norm(x)))
        return y


@register_network("glif_ms_resnet")
def glif_ms_resnet(
    *,
    widths: Sequence[int] = (64, 128, 256, 512),
    depths: Sequence[int] = (2, 2, 2, 2),
    in_channels: int = 3,
    num_classes: int = 1000,
    steps: int = 4,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pixel_scale: float = 1 / 255,
) -> GLIFMSResNet:
    """GLIF's ResNet-18 with membrane shortcuts, after Yao et al. (NeurIPS 2022); its stem and head follow common ImageNet practice."""
    norm = input_norm(mean, std, pixel_scale, in_channels)
    return GLIFMSResNet(widths, depths, in_channels=in_channels, num_classes=num_classes, steps=steps, norm=norm)

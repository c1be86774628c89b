"""OSR's pre-activation residual network with a real-valued stream."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from snncompile.online.osr import NewNeuron, OSRNetwork, neurons, synapse
from snncompile.online.registry import register_network
from snncompile.online.renorm import OnlineRenorm
from snncompile.online.resnet import BlockPlan, block_plans
from snncompile.online.stack import check_classes
from snncompile.online.stages import input_norm


def synapse_norm(conv: nn.Conv2d) -> nn.Sequential:
    """renorm(conv(x)), no neuron."""
    return nn.Sequential(conv, OnlineRenorm(conv.out_channels))


class PreActStreamBlock(nn.Module):
    """y = renorm(conv2(LIF(renorm(conv1(LIF(x)))))) + identity,   identity = x, or renorm(conv1x1(x)): of the real-valued stream itself.

    Source   as ``OSRNetwork``, "NF" ResNet-34
    Shapes   x [B,in,H,W]; y [B,out,H/stride,W/stride], real-valued
    """

    def __init__(self, plan: BlockPlan, new_neuron: NewNeuron) -> None:
        super().__init__()
        self.neuron1, self.first = new_neuron(), synapse_norm(synapse(plan.inputs, plan.outputs, 3, plan.stride))
        self.neuron2, self.second = new_neuron(), synapse_norm(synapse(plan.outputs, plan.outputs, 3))
        self.downsample = None if plan.keeps_shape else synapse_norm(synapse(plan.inputs, plan.outputs, 1, plan.stride))

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step."""
        y: Tensor = self.second(self.neuron2(self.first(self.neuron1(x)))) + (x if self.downsample is None else self.downsample(x))
        return y


@register_network("osr_nf_resnet")
def osr_nf_resnet(
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
    """OSR's "NF" ResNet-34 for ImageNet (21,806,184 parameters): maximum pooling of the real-valued stem current, then the stream.

    Zhu et al. (ICLR 2024); the calling convention is ``OSRNetwork``'s.
    """
    new_neuron = neurons(thresholds, steps, tau)
    plans = list(block_plans(widths[0] if widths else 0, widths, depths))
    stem = synapse_norm(synapse(in_channels, widths[0], 7, 2))
    blocks = (PreActStreamBlock(plan, new_neuron) for plan in plans)
    body = nn.Sequential(stem, nn.MaxPool2d(3, 2, 1), *blocks, nn.AdaptiveAvgPool2d(1))
    last = nn.Linear(widths[-1], check_classes(num_classes))
    return OSRNetwork(body, last, input_norm(mean, std, pixel_scale, in_channels))

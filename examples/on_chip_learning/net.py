"""The network of the on-chip learning examples: two strided convolutions, a dense layer, and a readout that can learn on the chip."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snncompile.online import OnlineLIF, ResettableNetwork, TracedConv2d, TracedLinear

LEAK = 0.5


class Learner(ResettableNetwork):
    """conv 3x3/2 - LIF - conv 3x3/2 - LIF - dense - LIF - readout without bias; tau = 2, soft reset. x [B,C,H,W] are raw values.

    quiet    bias of the dense layer at first: at -2 one neuron in five fires on images. The fewer fire together, the less does what one
             sample teaches move the logits of all others
    Calling  ``reset()`` before a sample, then once per step; the decision is the argmax of the summed outputs
    """

    def __init__(self, channels: int, size: tuple[int, int], features: int, classes: int, scale: float, quiet: float) -> None:
        super().__init__()
        self.scale = scale
        self.conv1, self.lif1 = TracedConv2d(channels, 8, 3, stride=2, padding=1), OnlineLIF(2.0)
        self.conv2, self.lif2 = TracedConv2d(8, 16, 3, stride=2, padding=1, trace_leak=LEAK), OnlineLIF(2.0)
        height, width = ((n + 3) // 4 for n in size)
        self.dense, self.lif3 = TracedLinear(16 * height * width, features, trace_leak=LEAK), OnlineLIF(2.0)
        self.readout = TracedLinear(features, classes, bias=False, trace_leak=LEAK)
        for module in (self.conv1, self.conv2, self.dense):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            with torch.no_grad():
                module.weight.mul_(1.5)
        nn.init.zeros_(self.readout.weight)
        nn.init.constant_(self.dense.bias, quiet)

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step and return its logits."""
        init = self.lif1.v is None
        x = self.lif1(self.conv1(x * self.scale, init))
        x = self.lif2(self.conv2(x, init))
        x = self.lif3(self.dense(torch.flatten(x, 1), init))
        y: Tensor = self.readout(x, init)
        return y


def make(
    channels: int = 1, height: int = 28, width: int = 28, features: int = 128, classes: int = 10, scale: float = 1 / 255,
    quiet: float = -2.0,
) -> Learner:  # fmt: skip
    """The network as the command line makes it: ``--arch net.py:make``."""
    return Learner(channels, (height, width), features, classes, scale, quiet)

"""What all residual networks share: the order of their blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from snncompile.errors import fail


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """One block: channels in and out, and the stride of its first convolution."""

    inputs: int
    outputs: int
    stride: int

    @property
    def keeps_shape(self) -> bool:
        """Whether the identity needs no convolution of its own."""
        return self.stride == 1 and self.inputs == self.outputs


def block_plans(stem: int, widths: Sequence[int], depths: Sequence[int], *, first_stride: int = 1) -> Iterator[BlockPlan]:
    """The blocks behind a stem of ``stem`` channels; every stage but the first (see ``first_stride``) begins by halving the map.

    Errors   SNN703 widths and depths that describe no network
    """
    if len(widths) != len(depths) or not widths or min((stem, *widths, *depths)) < 1:
        raise fail("SNN703", f"a residual network needs as many widths as depths, all positive; got {list(widths)} and {list(depths)}")
    inputs = stem
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for block in range(depth):
            stride = 1 if block else first_stride if stage == 0 else 2
            yield BlockPlan(inputs, width, stride)
            inputs = width


def initialise_convolutions(net: nn.Module) -> None:
    """He's initialisation for every convolution, fan out, as in the official code of these methods."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)

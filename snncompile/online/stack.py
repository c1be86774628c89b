"""What all VGG-style networks share: reading a configuration, following the map's size, and the head before the classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from snncompile.errors import fail

Config = Sequence[int | str]
"""Widths of 3x3 convolutions, and "A" for an average pooling by 2."""

ConvStage = Callable[[int, int, bool], nn.Module]
"""(in channels, out channels, whether it is the first) to a stage that keeps the map's size."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The stages of a configuration, and the map that leaves them: channels, height, width."""

    stages: nn.ModuleList
    channels: int
    height: int
    width: int

    def head(self, classifier: str | int) -> tuple[nn.Module, int]:
        """The pooling before the classifier and the number of features it leaves.

        "gap" averages the whole map, "flatten" leaves it, a number n averages it onto n x n (SLTT's 7 x 7, also from smaller maps)
        """
        if isinstance(classifier, int) and not isinstance(classifier, bool) and classifier > 0:
            return nn.AdaptiveAvgPool2d(classifier), self.channels * classifier**2
        if classifier == "gap":
            return nn.AdaptiveAvgPool2d(1), self.channels
        if classifier == "flatten":
            return nn.Identity(), self.channels * self.height * self.width
        raise fail("SNN703", f"unknown classifier {classifier!r}", help='choose "gap" or "flatten"')


def build_stack(config: Config, in_channels: int, input_size: Sequence[int], conv: ConvStage) -> Stack:
    """The stages of ``config`` for an input of height x width pixels (SNN703 a configuration that describes no network)."""
    channels, (height, width) = in_channels, plane(input_size)
    stages = nn.ModuleList()
    for item in config:
        if item == "A":
            stages.append(nn.AvgPool2d(2))
            height, width = height // 2, width // 2
        elif isinstance(item, int) and not isinstance(item, bool) and item > 0:
            stages.append(conv(channels, item, len(stages) == 0))
            channels = item
        else:
            raise fail("SNN703", f"{item!r} is no layer", help='a config lists channel counts and "A" for average pooling by 2')
    if len(stages) == 0 or isinstance(stages[0], nn.AvgPool2d):
        raise fail("SNN703", "a config starts with a convolution", notes=[f"config is {list(config)}"])
    if min(height, width) < 1:
        size = "x".join(str(n) for n in input_size)
        raise fail("SNN703", f"an input of {size} pixels is too small for the poolings of {list(config)}")
    return Stack(stages, channels, height, width)


def plane(input_size: Sequence[int]) -> tuple[int, int]:
    """Height and width in pixels (SNN703 if there are not two)."""
    if len(input_size) != 2:
        raise fail("SNN703", f"input_size is height and width in pixels, not {list(input_size)}")
    height, width = input_size
    return height, width


def check_classes(num_classes: int) -> int:
    """The number of classes, which must be at least 1 (SNN703)."""
    if num_classes < 1:
        raise fail("SNN703", f"the number of classes must be at least 1, is {num_classes}")
    return num_classes

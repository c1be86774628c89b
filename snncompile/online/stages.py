"""The stages of which the networks are made: input normalisation, and one spiking convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snncompile.errors import fail
from snncompile.online.layers import ScaledWSConv2d
from snncompile.online.neuron import OnlineLIF, Scale


class InputNorm(nn.Module):
    """Raw pixels to network input:  y = (x * scale - mean) / std,  per channel.

    Source   the input normalisation of each method's experiments
    Shapes   x, y [B,C,H,W], x in the data's own unit (0..255 for uint8 images, as float); mean, std: C numbers
    Note     the numbers belong to the architecture, not to the weights: they are in ``arch_args``, not in the state dict
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], scale: float = 1 / 255) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std) <= 0:
            raise fail("SNN703", f"input normalisation needs one mean and one positive std per channel, got {mean} and {std}")
        self.scale = scale
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised image."""
        return (x * self.scale - self.mean) / self.std


def input_norm(mean: Sequence[float] | None, std: Sequence[float] | None, scale: float, channels: int) -> InputNorm | None:
    """The normalisation a factory's arguments ask for; none without ``mean`` and ``std``, which must come together (SNN703)."""
    if (mean is None) != (std is None):
        raise fail("SNN703", "input normalisation needs both mean and std")
    if mean is None or std is None:
        return None
    norm = InputNorm(mean, std, scale)
    if norm.mean.numel() not in (1, channels):
        raise fail("SNN703", f"{norm.mean.numel()} means for {channels} input channels")
    return norm


class SpikingConv(nn.Module):
    """One stage:  y[t] = scale * LIF(WSConv3x3(x[t]) + feedback current).

    ``a`` is the trace of x where x's neurons keep it (NDOT); ``traced`` gives on what this stage's neurons keep, with the same gain.

    Source   OTTT (Xiao et al., NeurIPS 2022), VGG-11 with scaled weight standardisation
    Shapes   x [B,in,H,W]; y [B,out,H,W], values 0 or ``scale``
    """

    def __init__(self, in_channels: int, out_channels: int, *, neuron: OnlineLIF, scale: float, trace_leak: float | None) -> None:
        super().__init__()
        self.conv = ScaledWSConv2d(in_channels, out_channels, 3, padding=1, trace_leak=trace_leak)
        self.neuron = neuron
        self.scale = Scale(scale)

    def forward(self, x: Tensor, init: bool = False, feedback: Tensor | None = None, a: Tensor | None = None) -> Tensor:
        """Advance one step."""
        current = self.conv(x, init, a)
        if feedback is not None:
            current = current + feedback
        y: Tensor = self.scale(self.neuron(current, init))
        return y

    def traced(self) -> Tensor | None:
        """The trace of what this stage sent at this step, if its neurons keep one."""
        return None if self.neuron.trace is None else self.scale(self.neuron.trace)

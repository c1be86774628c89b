"""TET's network: feedforward, hard resets, trained through time with a loss at every step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snncompile.online.multistep import LoopedNeuron, OverTime
from snncompile.online.registry import register_network
from snncompile.online.resnet import initialise_convolutions
from snncompile.online.stack import build_stack, check_classes
from snncompile.online.stages import InputNorm, input_norm
from snncompile.online.surrogate import Spike, Surrogate, Triangle


class HardLIF(LoopedNeuron):
    """u[t] = leak v[t-1] + I[t];   s[t] = 1 if u[t] > threshold (strictly) else 0;   v[t] = (1 - s[t]) u[t].

    Source   TET (Deng et al., ICLR 2022): leak 1/2, threshold 1, ``Triangle(1)``; the error passes through the reset too
    """

    def __init__(self, leak: float = 0.5, threshold: float = 1.0, surrogate: Surrogate | None = None) -> None:
        super().__init__()
        self.leak, self.threshold, self.surrogate = leak, threshold, surrogate or Triangle(1.0)

    def step(self, current: Tensor, state: tuple[Tensor, ...], t: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Advance one step; the state is v."""
        v = state[0] if state else torch.zeros_like(current)
        u = self.leak * v + current
        s: Tensor = Spike.apply(u, self.threshold, self.surrogate, True)
        return s, ((1 - s) * u,)


class TETVGG(nn.Module):
    """Convolution (with bias) - bn - LIF stages, average pooling of spikes, a linear classifier of every step.

    Calling  ``net(x)`` with all steps at once; the decision is the argmax of the mean over t
    Shapes   x [T,B,in_channels,H,W]; y [T,B,num_classes]
    """

    def __init__(
        self,
        config: Sequence[int | str],
        *,
        in_channels: int,
        num_classes: int,
        input_size: Sequence[int],
        classifier: str | int,
        norm: InputNorm | None,
    ) -> None:
        super().__init__()
        self.norm = None if norm is None else OverTime(norm)
        stack = build_stack(
            config,
            in_channels,
            input_size,
            lambda i, o, first: nn.Sequential(OverTime(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o)), HardLIF()),
        )
        self.features = nn.Sequential(*(OverTime(stage) if isinstance(stage, nn.AvgPool2d) else stage for stage in stack.stages))
        head, inputs = stack.head(classifier)
        self.classifier = OverTime(head, nn.Flatten(), nn.Linear(inputs, check_classes(num_classes)))
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of all steps."""
        y: Tensor = self.classifier(self.features(x if self.norm is None else self.norm(x)))
        return y


@register_network("tet_vgg")
def tet_vgg(
    *,
    config: Sequence[int | str] = (64, 128, "A", 256, 256, "A", 512, 512, "A", 512, 512, "A"),
    in_channels: int = 2,
    num_classes: int = 10,
    input_size: Sequence[int] = (48, 48),
    classifier: str | int = "flatten",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pixel_scale: float = 1 / 255,
) -> TETVGG:
    """TET's feedforward network; the defaults are its VGG-SNN for DVS-CIFAR10 (9,271,498 parameters)."""
    return TETVGG(
        config,
        in_channels=in_channels,
        num_classes=num_classes,
        input_size=input_size,
        classifier=classifier,
        norm=input_norm(mean, std, pixel_scale, in_channels),
    )

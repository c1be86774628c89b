"""TET's network: feedforward, hard resets, trained through time with a loss at every step; optionally with Shortcut's auxiliary heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from snncompile.errors import fail
from snncompile.online.asgl import ASGLNeuron
from snncompile.online.multistep import LoopedNeuron, OverTime, SequenceNetwork
from snncompile.online.registry import register_network
from snncompile.online.resnet import initialise_convolutions
from snncompile.online.stack import build_stack, check_classes
from snncompile.online.stages import InputNorm, input_norm
from snncompile.online.surrogate import Dspike, Spike, Surrogate, Triangle


class HardLIF(LoopedNeuron):
    """u[t] = leak v[t-1] + I[t];   s[t] = 1 if u[t] > threshold (strictly) else 0;   v[t] = (1 - s[t]) u[t].

    Source   TET (Deng et al., ICLR 2022): leak 1/2, threshold 1, ``Triangle(1)``; the error passes through the reset too
    Shapes   I, s [T,B,C,H,W]; u, v of one step; v[-1] = 0
    Ranges   0 <= leak <= 1; threshold > 0
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


class TETVGG(SequenceNetwork):
    """Convolution (with bias) - bn - LIF stages, average pooling of spikes, a linear classifier of every step.

    Calling  ``net(x)`` with all steps at once; the decision is the argmax of the mean over t
    Shortcut ``shortcuts`` lists stages (poolings counted) behind which an auxiliary head, y_k = W_k GAP(x_k) + b_k, gives the loss a
             short way back. In training ``auxiliary`` holds their logits [T,B,num_classes]; in eval mode the heads do not run, so capture
             sees none. Guo et al., "Take A Shortcut Back" (NeurIPS 2024); how their losses are weighed says ``through_time``
    Source   TET (Deng et al., ICLR 2022), VGGSNN
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
        neuron: Callable[[], LoopedNeuron],
        bias: bool,
        shortcuts: Sequence[int],
        norm: InputNorm | None,
    ) -> None:
        super().__init__()
        self.norm = None if norm is None else OverTime(norm)
        stack = build_stack(
            config,
            in_channels,
            input_size,
            lambda i, o, first: nn.Sequential(OverTime(nn.Conv2d(i, o, 3, padding=1, bias=bias), nn.BatchNorm2d(o)), neuron()),
        )
        self.features = nn.Sequential(*(OverTime(stage) if isinstance(stage, nn.AvgPool2d) else stage for stage in stack.stages))
        head, inputs = stack.head(classifier)
        self.classifier = OverTime(head, nn.Flatten(), nn.Linear(inputs, check_classes(num_classes), bias=bias))
        widths = feature_widths(config, shortcuts)
        self.heads = nn.ModuleDict(
            {str(k): OverTime(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)) for k, width in widths.items()}
        )
        self.auxiliary: list[Tensor] = []
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of all steps."""
        x = x if self.norm is None else self.norm(x)
        self.auxiliary = []
        for k, stage in enumerate(self.features):
            x = stage(x)
            if self.training and str(k) in self.heads:
                self.auxiliary.append(self.heads[str(k)](x))
        y: Tensor = self.classifier(x)
        return y


def feature_widths(config: Sequence[int | str], stages: Sequence[int]) -> dict[int, int]:
    """The channels behind each of some stages of a configuration (SNN703 there is no such stage)."""
    if not all(0 <= k < len(config) for k in stages):
        raise fail("SNN703", f"shortcuts {list(stages)} name a stage that is not among the {len(config)} of the config")
    return {k: [int(item) for item in config[: k + 1] if item != "A"][-1] for k in stages}


NEURONS: dict[str, Callable[[], LoopedNeuron]] = {
    "lif": HardLIF,
    "dspike": lambda: HardLIF(threshold=0.5, surrogate=Dspike()),
    "asgl": ASGLNeuron,
    "asgl-constant": lambda: ASGLNeuron(learn_decay=False),
}


@register_network("tet_vgg")
def tet_vgg(
    *,
    config: Sequence[int | str] = (64, 128, "A", 256, 256, "A", 512, 512, "A", 512, 512, "A"),
    in_channels: int = 2,
    num_classes: int = 10,
    input_size: Sequence[int] = (48, 48),
    classifier: str | int = "flatten",
    neuron: str = "lif",
    bias: bool = True,
    shortcuts: Sequence[int] = (),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pixel_scale: float = 1 / 255,
) -> TETVGG:
    """TET's feedforward network; the defaults are its VGG-SNN for DVS-CIFAR10 (9,271,498 parameters).

    ``neuron``  "lif", or "dspike" for Li et al.'s surrogate (threshold 1/2), or "asgl" for neurons with a learned smoothing width and
                leak; "asgl-constant" keeps the leak. ASGL's VGGSNN2 is "asgl-constant" with bias=False (9,268,744 parameters)
    """
    if neuron not in NEURONS:
        raise fail("SNN703", f"unknown neuron {neuron!r}", help=f"choose one of {', '.join(NEURONS)}")
    return TETVGG(
        config,
        in_channels=in_channels,
        num_classes=num_classes,
        input_size=input_size,
        classifier=classifier,
        neuron=NEURONS[neuron],
        bias=bias,
        shortcuts=shortcuts,
        norm=input_norm(mean, std, pixel_scale, in_channels),
    )

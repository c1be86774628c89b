"""VGG-style online-trained spiking networks: convolution, LIF, gain, average pooling, a light classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from snncompile.online.layers import ScaledWSConv2d, TracedConv2d, TracedLinear
from snncompile.online.neuron import OnlineLIF
from snncompile.online.registry import register_network
from snncompile.online.stack import build_stack, check_classes
from snncompile.online.stages import InputNorm, SpikingConv, input_norm

VGG11: tuple[int | str, ...] = (64, 128, "A", 256, 256, "A", 512, 512, "A", 512, 512)
"""Configuration A of OTTT's VGG-11: widths of 3x3 convolutions, "A" an average pooling by 2."""


NeuronFactory = Callable[[float], OnlineLIF]
"""tau to a new neuron."""


class OTTTVGG(nn.Module):
    """A feedforward (or, with ``feedback``, recurrent) convolutional network advanced by one time step per call.

        y[t] = classifier(features(x[t])),     decision = argmax over classes of sum_t y[t]

    Calling  ``net(x, init=True)`` on the first step of a sample, then ``net(x)``; each returns the step's logits
    Source   OTTT (Xiao et al., NeurIPS 2022), VGG-11 with scaled weight standardisation; ``feedback`` is its variant with a plain
             3x3 convolution from the last feature map of step t-1, nearest-upsampled, added to the first convolution's current (t > 0)
    Neurons  ``neuron`` makes them: ``OnlineLIF`` for OTTT, ``NDOTLIF`` for NDOT, whose traces then travel beside the spikes in training
    Shapes   x [B,in_channels,H,W]; y [B,num_classes]
    Errors   SNN703 a configuration that describes no network
    """

    last_map: Tensor | None
    last_trace: Tensor | None

    def __init__(
        self,
        config: Sequence[int | str],
        *,
        in_channels: int,
        num_classes: int,
        input_size: Sequence[int],
        classifier: str,
        feedback: bool,
        tau: float,
        scale: float,
        norm: InputNorm | None,
        neuron: NeuronFactory,
    ) -> None:
        super().__init__()
        leak = neuron(tau).synapse_leak
        self.norm = norm
        # the first stage is fed by pixels, not spikes: nothing to trace
        stack = build_stack(
            config,
            in_channels,
            input_size,
            lambda i, o, first: SpikingConv(i, o, neuron=neuron(tau), scale=scale, trace_leak=None if first else leak),
        )
        self.features = stack.stages
        self.head, inputs = stack.head(classifier)
        self.classifier = TracedLinear(inputs, check_classes(num_classes), trace_leak=leak)
        first_width = next(item for item in config if isinstance(item, int))
        self.feedback = TracedConv2d(stack.channels, first_width, 3, padding=1, trace_leak=leak) if feedback else None
        self.last_map = self.last_trace = None
        self._initialise()

    def _initialise(self) -> None:
        """As in OTTT: He for the convolutions, normal 0.01 for the classifier, all biases 0, the feedback 0."""
        for module in self.modules():
            if isinstance(module, ScaledWSConv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.classifier.weight, 0, 0.01)
        if self.feedback is not None:
            nn.init.zeros_(self.feedback.weight)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, init: bool = False) -> Tensor:
        """Advance one step and return its logits, [B, num_classes]."""
        if self.norm is not None:
            x = self.norm(x)
        current = self._feedback_current(x, init)
        a: Tensor | None = None  # the trace of x, where neurons keep it
        for stage in self.features:
            if isinstance(stage, SpikingConv):
                x = stage(x, init, current, a)
                current, a = None, stage.traced()  # the feedback enters the first stage only
            else:
                x, a = stage(x), None if a is None else stage(a)
        if self.feedback is not None:
            self.last_map, self.last_trace = x.detach() if self.training else x, a
        y: Tensor = self.classifier(self._flat(x), init, None if a is None else self._flat(a))
        return y

    def _flat(self, x: Tensor) -> Tensor:
        return torch.flatten(self.head(x), 1)

    def _feedback_current(self, x: Tensor, init: bool) -> Tensor | None:
        if self.feedback is None:
            return None
        if init or self.last_map is None:
            if self.feedback.trace is not None:
                self.feedback.trace.a = None  # its first input arrives at t = 1
            return None
        size = x.shape[-2:]
        a = None if self.last_trace is None else functional.interpolate(self.last_trace, size=size, mode="nearest")
        y: Tensor = self.feedback(functional.interpolate(self.last_map, size=size, mode="nearest"), False, a)
        return y


@register_network("ottt_vgg")
def ottt_vgg(
    *,
    config: Sequence[int | str] = VGG11,
    in_channels: int = 3,
    num_classes: int = 10,
    input_size: Sequence[int] = (32, 32),
    classifier: str = "gap",
    feedback: bool = False,
    tau: float = 2.0,
    scale: float = 2.74,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pixel_scale: float = 1 / 255,
    neuron: NeuronFactory = OnlineLIF,
) -> OTTTVGG:
    """A VGG-style network; the defaults are OTTT's VGG-11-WS for CIFAR-10 (9,228,362 parameters).

    With ``mean`` and ``std`` (one number per channel) the network takes raw pixels: (x * pixel_scale - mean) / std comes first.
    """
    return OTTTVGG(
        config,
        in_channels=in_channels,
        num_classes=num_classes,
        input_size=input_size,
        classifier=classifier,
        feedback=feedback,
        tau=tau,
        scale=scale,
        norm=input_norm(mean, std, pixel_scale, in_channels),
        neuron=neuron,
    )

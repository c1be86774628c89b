"""ASGL: in training some spikes are replaced by the smooth step whose slope the error sees, and its width is learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from snncompile.errors import fail
from snncompile.online.multistep import LoopedNeuron


class AdaptiveSpike(nn.Module):
    """Spikes of x = u - threshold, with a learned smoothing width.

        S(x) = clamp(exp(a) x + 1/2, 0, 1)                       a learned, one per layer; the width of the ramp is exp(-a)
        s    = S(x) + m (H(x) - S(x)),   m ~ Bernoulli(1 - p)    in training: ds/dx = S'(x), ds/da = dS/da; the difference has no gradient
        s    = H(x) = 1 if x >= 0 else 0                         in eval mode; a and p leave no mark

    Source   Wang et al., "Adaptive Smoothing Gradient Learning for Spiking Neural Networks" (ICML 2023), rectangular variant
    Shapes   x, s any, equal
    Ranges   0 <= p <= 1 (0: always hard); width > 0
    Errors   SNN703 p outside [0, 1] or a width that is not positive
    """

    def __init__(self, width: float = 1.0, p: float = 0.2) -> None:
        super().__init__()
        if not 0 <= p <= 1 or width <= 0:
            raise fail("SNN703", f"smoothing needs a probability and a positive width, got p = {p:g} and width = {width:g}")
        self.p = p
        self.log_slope = nn.Parameter(torch.tensor(-math.log(width)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes, partly smooth in training."""
        hard = (x >= 0).to(x.dtype)
        if not self.training:
            return hard
        smooth = torch.clamp(torch.exp(self.log_slope) * x + 0.5, 0, 1)
        mask = torch.bernoulli(torch.full_like(x, 1 - self.p))
        return smooth + ((hard - smooth) * mask).detach()


class ASGLNeuron(LoopedNeuron):
    """u[t] = sigmoid(d) v[t-1] + I[t];   s[t] = spikes of u[t] - threshold;   v[t] = (1 - s[t]) u[t];   y[t] = threshold * s[t].

    The stored d is learned, one per layer, sigmoid(d) = 1/2 at first
    (and for ever without ``learn_decay``). The threshold is a constant (1/2 for DVS, 1 for CIFAR).
    Source   as ``AdaptiveSpike``
    Shapes   I, y [T,B,C,H,W]; u, s, v of one step; v[-1] = 0; d a scalar
    Ranges   0 < sigmoid(d) < 1; s 0 or 1 in eval mode, 0..1 in training
    """

    decay: Tensor

    def __init__(self, threshold: float = 0.5, *, width: float = 1.0, p: float = 0.2, learn_decay: bool = True) -> None:
        super().__init__()
        self.threshold = threshold
        if learn_decay:
            self.decay = nn.Parameter(torch.zeros(()))
        else:
            self.register_buffer("decay", torch.zeros(()), persistent=False)
        self.spike = AdaptiveSpike(width, p)

    def forward(self, currents: Tensor) -> Tensor:
        """Return the scaled spikes of all steps."""
        return self.threshold * super().forward(currents)

    def step(self, current: Tensor, state: tuple[Tensor, ...], t: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Advance one step; the state is v."""
        v = state[0] if state else torch.zeros_like(current)
        u = torch.sigmoid(self.decay) * v + current
        s: Tensor = self.spike(u - self.threshold)
        return s, ((1 - s) * u,)

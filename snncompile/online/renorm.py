"""OSR's normalisation: every time step is normalised by the running statistics of all steps, and the gradient still knows its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snncompile.online.state import Stateful

OSR_EPSILON = 1e-4
"""The constant under the root, as in the official configuration (not stored in its checkpoints)."""
AGREEMENT = 20.0
"""Running and step deviations further apart than this factor: the step is normalised by its own, as in the official code (50 for DVS)."""


class Renormalise(torch.autograd.Function):
    """Affine map with the running statistics forward, batch normalisation's derivative backward.

        y  = gamma (x - m) / d + beta                                 m, d: running mean and deviation
        dx = (gamma / d) (g - mean(g) - xh mean(g xh)),  xh = (x - mu) / sd        mu, sd: of this step's batch
        dgamma = sum g (x - m) / d;    dbeta = sum g

    dx is batch normalisation's own with gamma sd / d in place of gamma: as if y = (gamma sd / d) BN(x) + constant. (The official code takes
    sum g xh + sum g (mu - m) / d for dgamma, and gamma sd / d also at a step that was normalised by its own statistics; here is the
    derivative of what was computed.)
    Source   OSR (Zhu et al., ICLR 2024), eqs. (9) to (12)
    Shapes   x [B,C,...]; the others [C]; sums and means over all axes but C; sd, d > 0
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, mu: Tensor, sd: Tensor, m: Tensor, d: Tensor) -> Tensor:
        """Return the affine map of x."""
        ctx.save_for_backward(x, gamma, mu, sd, m, d)
        return per_channel(gamma / d, x) * (x - per_channel(m, x)) + per_channel(beta, x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """The three derivatives above."""
        x, gamma, mu, sd, m, d = ctx.saved_tensors
        axes = channel_axes(x)
        xh = (x - per_channel(mu, x)) / per_channel(sd, x)
        g_mean, g_xh_mean = g.mean(axes), (g * xh).mean(axes)
        dx = per_channel(gamma / d, x) * (g - per_channel(g_mean, x) - xh * per_channel(g_xh_mean, x))
        dgamma = (g * (x - per_channel(m, x))).sum(axes) / d
        return dx, dgamma, g.sum(axes), None, None, None, None


class OnlineRenorm(Stateful):
    """Normalisation whose inference is the same affine map at every step:  y = gamma (x - run_mean) / sqrt(run_var + 1e-4) + beta.

    Training  every step uses the running statistics (``Renormalise``); where they are more than a factor of 20 from the step's own, the
              step uses its own, so that a fresh network can start. The statistics over all steps of a batch, mean[mu_t] and
              mean[var_t + mu_t^2] - mean[mu_t]^2, enter the running ones (momentum 0.9) when the next batch begins, or at ``forget``.
    Source    OSR: Zhu et al., "Online Stabilization of Spiking Neural Networks" (ICLR 2024), "online spiking renormalization"
    Shapes    x, y [B,C] or [B,C,H,W]; gamma, beta, run_mean, run_var [C]
    Ranges    gamma, beta any real numbers; run_var >= 0; 0 <= momentum <= 1; agreement >= 1
    State     sums over the steps of the batch, plain attributes, without graph
    """

    run_mean: Tensor
    run_var: Tensor
    mean_sum: Tensor | None
    square_sum: Tensor | None

    def __init__(self, features: int, momentum: float = 0.9, agreement: float = AGREEMENT) -> None:
        super().__init__()
        self.momentum, self.agreement = momentum, agreement
        self.gamma, self.beta = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))
        self.register_buffer("run_mean", torch.zeros(features))
        self.register_buffer("run_var", torch.ones(features))
        self.mean_sum = self.square_sum = None
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        """Normalise one step; ``forget`` comes before the first of a batch."""
        if not self.training:
            scale = self.gamma / torch.sqrt(self.run_var + OSR_EPSILON)
            return per_channel(scale, x) * (x - per_channel(self.run_mean, x)) + per_channel(self.beta, x)
        axes = channel_axes(x)
        with torch.no_grad():
            mu, var = x.mean(axes), x.var(axes, correction=0)
            self._count(mu, var)
            sd, d = torch.sqrt(var + OSR_EPSILON), torch.sqrt(self.run_var + OSR_EPSILON)
            agree = bool(torch.maximum(sd / d, d / sd).max() <= self.agreement)
        y: Tensor = Renormalise.apply(x, self.gamma, self.beta, mu, sd, self.run_mean.clone() if agree else mu, d if agree else sd)
        return y

    def _count(self, mu: Tensor, var: Tensor) -> None:
        if self.mean_sum is None or self.square_sum is None:
            self.mean_sum, self.square_sum = torch.zeros_like(mu), torch.zeros_like(var)
        self.mean_sum = self.mean_sum + mu
        self.square_sum = self.square_sum + var + mu * mu
        self.count += 1

    def forget(self) -> None:
        """Let the steps since the last call enter the running statistics."""
        if self.mean_sum is not None and self.square_sum is not None:
            mean = self.mean_sum / self.count
            var = self.square_sum / self.count - mean * mean
            self.run_mean.lerp_(mean, 1 - self.momentum)
            self.run_var.lerp_(var, 1 - self.momentum)
        self.mean_sum = self.square_sum = None
        self.count = 0

    def train(self, mode: bool = True) -> OnlineRenorm:
        """Switch mode; leaving training ends the batch, so that its statistics are not lost."""
        if not mode:
            self.forget()
        return super().train(mode)


def per_channel(v: Tensor, x: Tensor) -> Tensor:
    """One number per channel, shaped to broadcast over [B,C,...]."""
    return v.view(1, -1, *(1,) * (x.dim() - 2))


def channel_axes(x: Tensor) -> tuple[int, ...]:
    """All axes but that of the channels."""
    return (0, *range(2, x.dim()))

"""The online LIF neuron, its surrogate derivative and the gain behind its spikes (OTTT)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snncompile.errors import fail


class SigmoidSpike(torch.autograd.Function):
    """Comparison with the threshold, with the derivative of a sigmoid.

        s   = 1 if u >= threshold else 0
        psi = alpha * sg * (1 - sg),  sg = sigmoid(alpha * (u - threshold))       used in place of ds/du

    Source   Xiao et al., "Online Training Through Time for Spiking Neural Networks" (NeurIPS 2022), sigmoid surrogate, alpha = 4
    Shapes   u and s have the same shape; threshold and alpha are plain numbers
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, threshold: float, alpha: float) -> Tensor:
        """Return the spikes in the dtype of ``u``."""
        ctx.save_for_backward(u)
        ctx.threshold, ctx.alpha = threshold, alpha
        return (u >= threshold).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Multiply the error by psi."""
        (u,) = ctx.saved_tensors
        sg = (u - ctx.threshold).mul_(ctx.alpha).sigmoid_()
        psi_over_alpha = torch.addcmul(sg, sg, sg, value=-1)  # sg - sg * sg
        return psi_over_alpha.mul_(grad).mul_(ctx.alpha), None, None


class OnlineLIF(nn.Module):
    """Leaky integrate-and-fire neuron whose backward stays within one time step.

        u[t] = (1 - 1/tau) * v[t-1] + I[t]                (1)   the input is not scaled by 1/tau
        s[t] = 1 if u[t] >= threshold else 0              (2)
        v[t] = u[t] - threshold * s[t]                    (3)   soft reset, same step
        psi[t] = alpha * sg * (1 - sg), sg = sigmoid(alpha * (u[t] - threshold))      in place of ds/du

    Source   OTTT (Xiao et al., NeurIPS 2022), eqs. of the LIF model; tau = 2, threshold = 1, alpha = 4 in the paper's experiments
    Shapes   I, u, v, s: any, all equal; v[-1] = 0
    State    ``v``: a plain attribute, no buffer; in training it is cut from the graph, so no error flows back in time
    Errors   SNN704 the state of another sample is in the way: a step without ``init=True`` has another shape
    """

    v: Tensor | None

    def __init__(self, tau: float = 2.0, threshold: float = 1.0, alpha: float = 4.0) -> None:
        super().__init__()
        if tau <= 1.0:
            raise fail("SNN703", f"tau must be greater than 1 time step, is {tau:g}", help="OTTT uses tau = 2, a leak of 1/2 a step")
        self.tau, self.threshold, self.alpha = tau, threshold, alpha
        self.v = None

    @property
    def leak(self) -> float:
        """The factor by which the membrane shrinks in one step: 1 - 1/tau."""
        return 1.0 - 1.0 / self.tau

    def forward(self, current: Tensor, init: bool = False) -> Tensor:
        """Advance one step; ``init=True`` starts a new sample from v = 0."""
        v = initial_state(current, self.v, init)
        u = self.leak * v + current
        if self.training:
            s: Tensor = SigmoidSpike.apply(u, self.threshold, self.alpha)
            self.v = u.detach() - self.threshold * s.detach()
        else:
            s = (u >= self.threshold).to(u.dtype)
            self.v = u - self.threshold * s
        return s

    def extra_repr(self) -> str:
        """Show the constants in ``print(net)``."""
        return f"tau={self.tau:g}, threshold={self.threshold:g}, alpha={self.alpha:g}"


class Scale(nn.Module):
    """A constant gain behind the spikes:  y = factor * s.

    Source   OTTT's networks without normalisation layers; 2.74 keeps the variance of the next current near 1
    Shapes   any
    """

    def __init__(self, factor: float = 2.74) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, s: Tensor) -> Tensor:
        """Return ``factor * s``."""
        return self.factor * s

    def extra_repr(self) -> str:
        """Show the factor in ``print(net)``."""
        return f"{self.factor:g}"


def initial_state(like: Tensor, state: Tensor | None, init: bool) -> Tensor:
    """The state to start this step from: zeros for a new sample, otherwise what the last step left (SNN704 if it has another shape)."""
    if init or state is None:
        return torch.zeros_like(like)
    if state.shape != like.shape:
        raise fail(
            "SNN704",
            f"the state left by the last step has shape {list(state.shape)}, this step needs {list(like.shape)}",
            help="call the network with init=True on the first step of every sample or batch",
        )
    return state

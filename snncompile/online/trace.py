"""Presynaptic traces and the two operations whose weight gradient reads them: the heart of OTTT."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from snncompile.online.state import Stateful, initial_state


class PresynapticTrace(Stateful):
    """Leaky sum of what a synapse has received:  a[t] = leak * a[t-1] + x[t] = sum over tau <= t of leak^(t - tau) x[tau],  a[-1] = 0.

    Source   OTTT (Xiao et al., NeurIPS 2022): the tracked presynaptic activity that replaces back-propagation through time. In a
             single layer of neurons whose reset is cut from the graph it is du[t] / dW, and the rule is back-propagation through time
    Shapes   x and a: any, equal
    Ranges   leak that of the neurons behind the synapse, 0 to 1
    Note     Kept where it is read, at the synapse. Pooling and gain are linear, so pooling the spikes' trace and tracing the pooled
             spikes are the same sum.
    """

    a: Tensor | None

    def __init__(self, leak: float) -> None:
        super().__init__()
        self.leak = leak
        self.a = None

    def forward(self, x: Tensor, init: bool = False) -> Tensor:
        """Advance the trace by one step and return it; it never carries a graph."""
        x = x.detach()
        self.a = self.leak * initial_state(x, self.a, init) + x
        return self.a

    def forget(self) -> None:
        """Start from a = 0 at the next step."""
        self.a = None

    def extra_repr(self) -> str:
        """Show the leak in ``print(net)``."""
        return f"leak={self.leak:g}"


class TracedConv2dFunction(torch.autograd.Function):
    """Convolution of ``x`` whose weight gradient is taken at the trace ``a``.

        y = W * x + b;     dL/dW_ij = sum_positions M_i psi_i a_j;     dL/db_i = sum M_i psi_i;     dL/dx = W^T (M psi)

    M psi is the gradient that arrives at y. Every formula is the convolution's own; only the input of the first is exchanged.
    Source   OTTT (Xiao et al., NeurIPS 2022): the gradient with the trace in place of the spike
    Shapes   x, a: [B,C,H,W]; weight [O,C/groups,kh,kw]; bias [O] or None
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        """Return the plain convolution of ``x``."""
        ctx.save_for_backward(a, weight)
        ctx.geometry = geometry
        stride, padding, dilation, groups = geometry
        return functional.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None, Tensor | None, None]:
        """The convolution's backward, given the trace as its input."""
        a, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        needs = [ctx.needs_input_grad[i] for i in (0, 2, 3)]
        no_output_padding = [0, 0]
        dx, dw, db = torch.ops.aten.convolution_backward(
            grad, a, weight, [weight.shape[0]], stride, padding, dilation, False, no_output_padding, groups, needs
        )
        return dx, None, dw, db, None


class TracedLinearFunction(torch.autograd.Function):
    """Matrix product with ``x`` whose weight gradient is taken at the trace ``a``.

        y = x W^T + b;     dL/dW = (M psi)^T a;     dL/db = sum M psi;     dL/dx = (M psi) W

    Source   as ``TracedConv2dFunction``
    Shapes   x, a: [B,N]; weight [O,N]; bias [O] or None
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the plain linear map of ``x``."""
        ctx.save_for_backward(a, weight)
        return functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None, Tensor | None]:
        """The three products above, each only where it is wanted."""
        a, weight = ctx.saved_tensors
        dx = grad @ weight if ctx.needs_input_grad[0] else None
        dw = grad.T @ a if ctx.needs_input_grad[2] else None
        db = grad.sum(0) if ctx.needs_input_grad[3] else None
        return dx, None, dw, db


Geometry = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]
"""Stride, padding, dilation and groups of a convolution."""

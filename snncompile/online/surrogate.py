"""Spikes, and what stands for their derivative in training: forward is a comparison, backward a smooth pulse around the threshold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snncompile.errors import fail

Surrogate = Callable[[Tensor], Tensor]
"""psi(x) of x = u - threshold, same shape; it may overwrite x."""


@dataclass(frozen=True, slots=True)
class Sigmoid:
    """psi = alpha * sg * (1 - sg),  sg = sigmoid(alpha * x).

    Source   Xiao et al., "Online Training Through Time for Spiking Neural Networks" (NeurIPS 2022), alpha = 4; NDOT and OSR take the same
    Shapes   x, psi any, equal; x = u - threshold in units of u
    Ranges   alpha > 0; 0 <= psi <= alpha / 4
    Errors   SNN703 alpha not positive
    """

    alpha: float = 4.0

    def __post_init__(self) -> None:
        """Check the slope."""
        positive(self, self.alpha)

    def __call__(self, x: Tensor) -> Tensor:
        """Return psi(x), overwriting x."""
        sg = x.mul_(self.alpha).sigmoid_()
        return torch.addcmul(sg, sg, sg, value=-1).mul_(self.alpha)  # alpha * (sg - sg * sg)


@dataclass(frozen=True, slots=True)
class Triangle:
    """psi = max(0, width - |x|) / width^2.

    Source   SLTT (Meng et al., ICCV 2023), there "piecewise quadratic" with width 1: max(0, 1 - |u - 1|); TET (Deng et al., ICLR 2022);
             EM-PF (arXiv 2410.07547), eq. (2), for what its neuron is compared with; ``HDLIF`` itself has no surrogate
    Shapes   x, psi any, equal; x = u - threshold in units of u
    Ranges   width > 0; 0 <= psi <= 1 / width
    Errors   SNN703 width not positive
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        """Check the width."""
        positive(self, self.width)

    def __call__(self, x: Tensor) -> Tensor:
        """Return psi(x), overwriting x."""
        return x.abs_().neg_().add_(self.width).clamp_(min=0).div_(self.width**2)


@dataclass(frozen=True, slots=True)
class Rectangle:
    """psi = 1[|x| < width / 2] / width.

    Source   Wu et al., STBP (2018); GLIF (Yao et al., NeurIPS 2022) with width 1
    Shapes   x, psi any, equal; x = u - threshold in units of u
    Ranges   width > 0; psi 0 or 1 / width
    Errors   SNN703 width not positive
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        """Check the width."""
        positive(self, self.width)

    def __call__(self, x: Tensor) -> Tensor:
        """Return psi(x), overwriting x."""
        return (x.abs_() < self.width / 2).to(x.dtype).div_(self.width)


@dataclass(frozen=True, slots=True)
class Boxcar:
    """psi = 1[|x| < half], height 1 whatever the width.

    Source   LTL (Yang et al., NeurIPS 2022), half = 0.2
    Shapes   x, psi any, equal; x = u - threshold in units of u
    Ranges   half > 0; psi 0 or 1
    Errors   SNN703 half not positive
    """

    half: float = 0.2

    def __post_init__(self) -> None:
        """Check the width."""
        positive(self, self.half)

    def __call__(self, x: Tensor) -> Tensor:
        """Return psi(x), overwriting x."""
        return (x.abs_() < self.half).to(x.dtype)


@dataclass(frozen=True, slots=True)
class Dspike:
    """psi = d/dx [ tanh(b * x) / (2 tanh(b * R)) + 1/2 ] for |x| <= R, else 0:   b * (1 - tanh(b x)^2) / (2 tanh(b R)).

    The temperature b goes from nearly linear (b -> 0) to the step itself (b -> infinity); over [-R, R] psi always integrates to 1.
    Source   Li et al., "Differentiable Spike: Rethinking Gradient-Descent for Training Spiking Neural Networks" (NeurIPS 2021), R = 1.
             ``tet_vgg`` puts it behind TET's comparison and reset (u > threshold, to 0); code of the same author fires at it, too
    Shapes   x, psi any, equal; x = u - threshold in units of u
    Ranges   b, R > 0; 0 <= psi <= b / (2 tanh(b R))
    Errors   SNN703 b or R not positive
    """

    b: float = 3.0
    R: float = 1.0

    def __post_init__(self) -> None:
        """Check the two constants."""
        positive(self, self.b, self.R)

    def __call__(self, x: Tensor) -> Tensor:
        """Return psi(x), overwriting x."""
        inside = x.abs() <= self.R
        slope = x.mul_(self.b).tanh_().square_().neg_().add_(1.0)
        return slope.mul_(self.b / (2 * math.tanh(self.b * self.R))).mul_(inside)


class Spike(torch.autograd.Function):
    """Comparison with the threshold, with a surrogate derivative.

        s   = 1 if u >= threshold else 0          (``strict``: u > threshold)
        psi = surrogate(u - threshold)            used in place of ds/du

    Source   Neftci, Mostafa and Zenke, "Surrogate Gradient Learning in Spiking Neural Networks" (IEEE Signal Processing Magazine 2019)
    Shapes   u and s have the same shape; threshold is a number or a tensor that broadcasts to u and gets no gradient
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, threshold: float | Tensor, surrogate: Surrogate, strict: bool = False) -> Tensor:
        """Return the spikes in the dtype of ``u``."""
        ctx.save_for_backward(u)
        ctx.threshold, ctx.surrogate = threshold, surrogate
        return fire(u, threshold, strict)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """Multiply the error by psi."""
        (u,) = ctx.saved_tensors
        return ctx.surrogate(u - ctx.threshold).mul_(grad), None, None, None


def positive(surrogate: object, *values: float) -> None:
    """Refuse a surrogate whose constants are not all positive and finite (SNN703)."""
    if not all(0 < value < math.inf for value in values):
        raise fail(
            "SNN703",
            f"{surrogate} is no surrogate: its constants must be positive",
            help="choose Sigmoid(4), Triangle(1), Rectangle(1), Boxcar(0.2) or Dspike(3)",
        )


def fire(u: Tensor, threshold: float | Tensor, strict: bool = False) -> Tensor:
    """The spikes alone, as eval mode computes them."""
    return (u > threshold if strict else u >= threshold).to(u.dtype)

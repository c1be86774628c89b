"""Convolutions with one bit or one trit a weight; training keeps real-valued latent weights behind them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class StraightThrough(torch.autograd.Function):
    """Use ``quantised`` in place of the latent weight; its gradient goes to the latent weight where |W| <= 1:  dL/dW = dL/dw 1[|W| <= 1].

    Source   EM-PF (arXiv 2410.07547), eq. (4)
    Shapes   latent and quantised: equal, any
    Ranges   of W any; outside [-1, 1] it learns no more
    """

    @staticmethod
    def forward(ctx: Any, latent: Tensor, quantised: Tensor) -> Tensor:
        """Return the quantised weight."""
        ctx.save_for_backward(latent)
        return quantised

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Pass the gradient on inside [-1, 1]."""
        (latent,) = ctx.saved_tensors
        return grad * (latent.abs() <= 1), None


class QuantisedConv2d(nn.Module):
    """Convolution without bias whose weight is a function of a latent weight; ``float`` uses the latent weight itself.

        y = w(W) * x,     dL/dW = dL/dw 1[|W| <= 1]  (4), in training of binary and ternary weights;  dL/dW = dL/dw of float ones

    Source   EM-PF (arXiv 2410.07547), eq. (4)
    Shapes   x [B,in,H,W]; weight [out,in,k,k], latent; y [B,out,H',W']
    """

    BITS = 32
    COUNTED_BITS = 32

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def quantise(self, latent: Tensor) -> Tensor:
        """The weight that the convolution uses, without gradient."""
        return latent

    def forward(self, x: Tensor) -> Tensor:
        """Return this step's current."""
        with torch.no_grad():
            weight = self.quantise(self.weight)
        if self.training and self.BITS < 32:
            weight = StraightThrough.apply(self.weight, weight)
        return functional.conv2d(x, weight, None, self.stride, self.padding)

    def extra_repr(self) -> str:
        """Show the shape in ``print(net)``."""
        out_channels, in_channels, kernel, _ = self.weight.shape
        return f"{in_channels}, {out_channels}, kernel_size={kernel}, stride={self.stride}, padding={self.padding}"


class BinaryConv2d(QuantisedConv2d):
    """w = mean|W| * sign(W), the mean over one output channel; sign(0) = 0.

    Source   EM-PF (arXiv 2410.07547), BConv, as AdamBNN's (Liu et al., ICML 2021)
    Ranges   w one of -scale, 0, scale of its channel; scale >= 0
    Shapes   W, w [out,in,k,k]; as ``QuantisedConv2d``
    """

    BITS = 1
    COUNTED_BITS = 2  # what the paper's Param(B) counts for it

    def quantise(self, latent: Tensor) -> Tensor:
        """Return scale times sign."""
        return latent.abs().mean(dim=(1, 2, 3), keepdim=True) * torch.sign(latent)


class TernaryConv2d(QuantisedConv2d):
    """With W clipped to [-1, 1]:  w = scale * sign(W) where |W| > 0.7 mean|W|, else 0;  scale = mean of |W| over those.

    Both means are over the whole layer.
    Source   EM-PF (arXiv 2410.07547), ternary variant, after ternary weight networks (Li et al., 2016)
    Ranges   w one of -scale, 0, scale of its layer; 0 <= scale <= 1
    Shapes   W, w [out,in,k,k]; as ``QuantisedConv2d``
    """

    BITS = 2
    COUNTED_BITS = 3

    def quantise(self, latent: Tensor) -> Tensor:
        """Return the weight of three values."""
        w = latent.clamp(-1, 1)
        keep = (w.abs() > 0.7 * w.abs().mean()).to(w.dtype)
        scale = (w.abs() * keep).sum() / keep.sum().clamp(min=1)
        return scale * torch.sign(w) * keep


CONVOLUTIONS: dict[str, type[QuantisedConv2d]] = {"float": QuantisedConv2d, "binary": BinaryConv2d, "ternary": TernaryConv2d}


def weight_bytes(net: nn.Module, *, counting: str = "packed") -> float:
    """Bytes of all weights and biases of convolutions and linear maps; batch norms and neurons are not counted.

    ``counting``  "packed": 1 bit a binary, 2 a ternary weight;  "paper": 2 and 3 bits, as Param(B) of EM-PF's tables;  "float": 32 bits all
    """
    total = 0.0
    for module in net.modules():
        if isinstance(module, QuantisedConv2d):
            bits = {"packed": module.BITS, "paper": module.COUNTED_BITS, "float": 32}[counting]
            total += module.weight.numel() * bits / 8
        elif isinstance(module, nn.Conv2d | nn.Linear):
            total += 4 * sum(parameter.numel() for parameter in module.parameters())
    return total

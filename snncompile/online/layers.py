"""Convolution and linear layers with optional presynaptic trace and scaled weight standardisation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from snncompile.online.trace import PresynapticTrace, TracedConv2dFunction, TracedLinearFunction

WS_EPSILON = 1e-4
"""The constant under the root of scaled weight standardisation, as in OTTT."""


class TracedConv2d(nn.Conv2d):
    """Convolution y[t] = W * x[t] + b that learns by the trace of its input:  dW = sum M psi a,  a[t] = leak a[t-1] + x[t].

    ``trace_leak=None`` leaves the ordinary gradient (dW = sum M psi x[t]): right for a layer fed by pixels, and for SLTT.
    In eval mode, and without gradients, only the convolution runs.
    Source   OTTT (Xiao et al., NeurIPS 2022)
    Shapes   x [B,in,H,W]; weight [out,in/groups,k,k]; bias [out]; y [B,out,H',W']
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = True,
        trace_leak: float | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias)
        self.trace = None if trace_leak is None else PresynapticTrace(trace_leak)

    def synaptic_weight(self) -> Tensor:
        """The weight that the convolution uses, [out, in/groups, k, k]."""
        return self.weight

    def forward(self, x: Tensor, init: bool = False, a: Tensor | None = None) -> Tensor:
        """Return this step's current; ``init=True`` starts the trace anew; a trace ``a`` of x kept elsewhere goes before the own one."""
        weight = self.synaptic_weight()
        padding = tuple(int(p) for p in self.padding)
        a = current_trace(self, x, init, a)
        if a is None:
            return functional.conv2d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)
        geometry = (self.stride, padding, self.dilation, self.groups)
        y: Tensor = TracedConv2dFunction.apply(x, a, weight, self.bias, geometry)
        return y


class ScaledWSConv2d(TracedConv2d):
    """``TracedConv2d`` with scaled weight standardisation.

        W~ = gain * (W - mean) / sqrt(var * fan_in + 1e-4)        mean, var over one output channel; var unbiased

    The bias is not standardised. The gradient with respect to W~ comes from the trace, the step from W~ to W and gain is exact.
    Source   Brock et al., "Characterizing signal propagation ..." (ICLR 2021), as used by OTTT
    Shapes   weight [out,in/groups,k,k], gain [out,1,1,1], bias [out]; fan_in = in/groups * k * k
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = True,
        trace_leak: float | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, groups=groups, bias=bias, trace_leak=trace_leak
        )
        self.gain = nn.Parameter(torch.ones(out_channels, 1, 1, 1))

    def synaptic_weight(self) -> Tensor:
        """The standardised weight W~."""
        return standardise(self.weight, self.gain)


class TracedLinear(nn.Linear):
    """Linear map y[t] = x[t] W^T + b that learns by the trace of its input:  dW = (M psi)^T a,  a[t] = leak a[t-1] + x[t].

    ``trace_leak=None`` leaves the ordinary gradient. In eval mode only the linear map runs.
    Source   OTTT (Xiao et al., NeurIPS 2022)
    Shapes   x [B,in]; weight [out,in]; bias [out]; y [B,out]
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True, trace_leak: float | None = None) -> None:
        super().__init__(in_features, out_features, bias)
        self.trace = None if trace_leak is None else PresynapticTrace(trace_leak)

    def synaptic_weight(self) -> Tensor:
        """The weight that the product uses, [out, in]."""
        return self.weight

    def forward(self, x: Tensor, init: bool = False, a: Tensor | None = None) -> Tensor:
        """Return this step's current; ``init=True`` starts the trace anew; a trace ``a`` of x kept elsewhere goes before the own one."""
        weight = self.synaptic_weight()
        a = current_trace(self, x, init, a)
        if a is None:
            return functional.linear(x, weight, self.bias)
        y: Tensor = TracedLinearFunction.apply(x, a, weight, self.bias)
        return y


class ScaledWSLinear(TracedLinear):
    """``TracedLinear`` with scaled weight standardisation:  W~ = gain * (W - mean) / sqrt(var * fan_in + 1e-4),  var unbiased.

    Source   as ``ScaledWSConv2d``
    Shapes   weight [out,in], gain [out,1], bias [out]; fan_in = in
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True, trace_leak: float | None = None) -> None:
        super().__init__(in_features, out_features, bias=bias, trace_leak=trace_leak)
        self.gain = nn.Parameter(torch.ones(out_features, 1))

    def synaptic_weight(self) -> Tensor:
        """The standardised weight W~."""
        return standardise(self.weight, self.gain)


def current_trace(layer: TracedConv2d | TracedLinear, x: Tensor, init: bool, given: Tensor | None) -> Tensor | None:
    """The trace that the weight gradient of this step reads: none in eval mode, else the given one, else the layer's own, if it has one."""
    if not layer.training:
        return None
    if given is not None or layer.trace is None:
        return given
    a: Tensor = layer.trace(x, init)
    return a


def standardise(weight: Tensor, gain: Tensor) -> Tensor:
    """W~ = gain * (W - mean) / sqrt(var * fan_in + 1e-4), statistics over all axes but the first, var with Bessel's correction.

    The compiler computes it once, when it captures the network: what a chip holds is W~ (and a learning chip changes W~, not W).
    Source   as ``ScaledWSConv2d``
    Shapes   weight [out,...], gain broadcastable [out,1,...]; fan_in = the product of all axes of weight but the first
    """
    axes = tuple(range(1, weight.dim()))
    fan_in = math.prod(weight.shape[1:])
    mean = weight.mean(dim=axes, keepdim=True)
    var = weight.var(dim=axes, correction=1, keepdim=True)
    return gain * (weight - mean) / torch.sqrt(var * fan_in + WS_EPSILON)

"""NDOT: OTTT's networks with a trace whose decay is read off the presynaptic neuron's own dynamics."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from snncompile.online.neuron import OnlineLIF
from snncompile.online.registry import register_network
from snncompile.online.state import initial_state
from snncompile.online.vgg import ottt_vgg


class NDOTLIF(OnlineLIF):
    """OTTT's neuron that, in training, also keeps the graded trace of its own spikes.

        e[t]    = clamp( (u[t] - Vth s[t]) / (u[t-1] - Vth s[t-1]), -leak, leak ) = clamp( v[t] / v[t-1], -leak, leak )
        ahat[t] = e[t-1] * ahat[t-1] + s[t],     ahat[-1] = 0
        dW_ij   = sum_t M_i[t] psi_i[t] ahat_j[t]

    e is the leak where its denominator is 0, as at t = 0. With e = leak throughout this is OTTT. e differs from neuron to neuron and from
    step to step and may be negative, so the trace belongs to the neuron: pooling and gain act on the trace as they do on the spikes.

    The official code deviates (modules/neuron.py): it subtracts Vth s once more from the v that the reset has already lowered, takes e[t]
    for e[t-1], and at t = 0 divides by what the batch before left behind. Here is the paper's formula.

    Source   Jiang et al., "NDOT: Neuronal Dynamics-based Online Training for Spiking Neural Networks" (ICML 2024)
    Shapes   I, v, s, e, ahat: any, all equal
    Ranges   -leak <= e <= leak; ahat is a real number of either sign
    State    ``v``; in training also ``decay`` = e of the last step and ``trace`` = ahat, both without graph
    """

    decay: Tensor | None

    def __init__(self, tau: float = 2.0) -> None:
        super().__init__(tau)
        self.decay = self.trace = None

    @property
    def synapse_leak(self) -> None:
        """None: the synapses keep no traces."""
        return None

    def forward(self, current: Tensor, init: bool = False) -> Tensor:
        """Advance one step; in training the trace advances too."""
        if not self.training:
            self.decay = self.trace = None
            return super().forward(current, init)
        before, decay, trace = (initial_state(current, state, init) for state in (self.v, self.decay, self.trace))
        s = super().forward(current, init)
        self.trace = decay * trace + s.detach()
        self.decay = bounded_ratio(initial_state(current, self.v), before, self.leak)
        return s

    def forget(self) -> None:
        """Start from v = 0 and no trace at the next step."""
        super().forget()
        self.decay = self.trace = None


def bounded_ratio(after: Tensor, before: Tensor, bound: float) -> Tensor:
    """NDOT's e = clamp(after / before, -bound, bound), and ``bound`` where ``before`` is 0.

    Source   as ``NDOTLIF``      Shapes   after, before, e any, equal      Ranges   bound > 0, the leak; -bound <= e <= bound
    """
    at_zero = before == 0
    return torch.where(at_zero, bound, after / torch.where(at_zero, 1.0, before)).clamp(-bound, bound)


ndot_vgg = register_network("ndot_vgg")(partial(ottt_vgg, neuron=NDOTLIF))
"""OTTT's networks with NDOT's neurons: the same arguments, parameters, calling convention and, in eval mode, the same operations."""

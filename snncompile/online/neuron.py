"""The online LIF neuron and the gain behind its spikes (OTTT, SLTT)."""

from __future__ import annotations

from torch import Tensor, nn

from snncompile.errors import fail
from snncompile.online.state import Stateful, initial_state
from snncompile.online.surrogate import Sigmoid, Spike, Surrogate, fire


class OnlineLIF(Stateful):
    """Leaky integrate-and-fire neuron whose backward stays within one time step.

        u[t] = (1 - 1/tau) * v[t-1] + I[t]                (1)   the input is not scaled by 1/tau
        s[t] = 1 if u[t] >= threshold else 0              (2)
        v[t] = u[t] - threshold * s[t]                    (3)   soft reset, same step
        psi[t] = surrogate(u[t] - threshold)                    in place of ds/du

    Source   OTTT (Xiao et al., NeurIPS 2022), eqs. of the LIF model; tau = 2, threshold = 1 and ``Sigmoid(4)`` in the paper's experiments.
             SLTT (Meng et al., ICCV 2023) is the same neuron with tau = 1.1 (a leak of 1/11) and ``Triangle(1)``
    Shapes   I, u, v, s: any, all equal; v[-1] = 0
    Ranges   tau in time steps, > 1, so that 0 < leak < 1; threshold in units of u
    State    ``v``: a plain attribute, no buffer; in training it is cut from the graph, so no error flows back in time
    Trace    ``trace`` is None here: the trace of these spikes is kept where it is read (see ``PresynapticTrace``), unlike NDOT's
    Errors   SNN703 tau <= 1; SNN704 the state of another sample is in the way: a step without ``init=True`` has another shape
    """

    v: Tensor | None
    trace: Tensor | None = None

    def __init__(self, tau: float = 2.0, threshold: float = 1.0, surrogate: Surrogate | None = None) -> None:
        super().__init__()
        if tau <= 1.0:
            raise fail("SNN703", f"tau must be greater than 1 time step, is {tau:g}", help="OTTT uses tau = 2, a leak of 1/2 a step")
        self.tau, self.threshold = tau, threshold
        self.surrogate: Surrogate = surrogate or Sigmoid()
        self.v = None

    @property
    def leak(self) -> float:
        """The factor by which the membrane shrinks in one step: 1 - 1/tau."""
        return 1.0 - 1.0 / self.tau

    @property
    def synapse_leak(self) -> float | None:
        """The leak of the traces that the synapses reading these spikes keep; None where the neuron keeps the trace itself."""
        return self.leak

    def forward(self, current: Tensor, init: bool = False) -> Tensor:
        """Advance one step; ``init=True`` starts a new sample from v = 0."""
        v = initial_state(current, self.v, init)
        u = self.leak * v + current
        if self.training:
            s: Tensor = Spike.apply(u, self.threshold, self.surrogate)
            self.v = u.detach() - self.threshold * s.detach()
        else:
            s = fire(u, self.threshold)
            self.v = u - self.threshold * s
        return s

    def forget(self) -> None:
        """Start from v = 0 at the next step."""
        self.v = None

    def extra_repr(self) -> str:
        """Show the constants in ``print(net)``."""
        return f"tau={self.tau:g}, threshold={self.threshold:g}, {self.surrogate}"


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

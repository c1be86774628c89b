"""OTS: a layer's threshold follows its membrane's mean and deviation from step to step; calibrated, it is a table of T numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from snncompile.errors import fail
from snncompile.online.approximation import DEVIATION, Approximation, relative_deviation
from snncompile.online.rule import advance
from snncompile.online.state import Stateful, initial_state
from snncompile.online.surrogate import Sigmoid, Spike, fire


class OTSLIF(Stateful):
    """Leaky integrate-and-fire neuron with an online threshold stabiliser.

        u[t] = (1 - 1/tau) v[t-1] + I[t];    s[t] = 1 if u[t] >= theta[t] else 0;    v[t] = u[t] - theta[t] s[t]
        theta[t] = mean(u[t]) + r std(u[t]),    r = (1 - mean(u[0])) / std(u[0]),    so theta[0] = 1

    mean and std (unbiased) run over the whole layer *and the batch*: a sample's result depends on its neighbours in the batch. That is how
    the method trains; ``fixed=True`` uses ``theta``, a buffer of T numbers filled by ``calibrate``, and is static and capturable.
    The paper's eq. (4) resets to zero; its code subtracts the threshold, and so does this.

    Source   OSR/OTS (Zhu et al., ICLR 2024), "online threshold stabilizer"
    Shapes   I, u, v, s any, all equal; theta [T]; spread []
    State    ``v``, ``ratio`` (r) and the step counter ``t``: plain attributes, v cut from the graph in training
    Ranges   tau > 1; theta any real number
    Errors   SNN705 with fixed thresholds: a step beyond T; SNN706 they were never calibrated
    """

    theta: Tensor
    spread: Tensor
    v: Tensor | None
    ratio: Tensor | None
    threshold: Tensor | None

    def __init__(self, steps: int, *, tau: float = 2.0, fixed: bool = True) -> None:
        super().__init__()
        self.steps, self.tau, self.fixed = steps, tau, fixed
        self.register_buffer("theta", torch.full((steps,), float("nan")))
        self.register_buffer("spread", torch.tensor(float("nan")))
        self.surrogate = Sigmoid()
        self.calibrated = False
        self.v = self.ratio = self.threshold = None
        self.t = 0

    def forward(self, current: Tensor) -> Tensor:
        """Advance one step; ``forget`` comes before the first."""
        u = (1.0 - 1.0 / self.tau) * initial_state(current, self.v) + current
        theta = self._fixed_threshold() if self.fixed and not self.training else self._stabilised(u)
        if self.training:
            s: Tensor = Spike.apply(u, theta, self.surrogate)
            self.v = u.detach() - theta * s.detach()
        else:
            s = fire(u, theta)
            self.v = u - theta * s
        self.threshold = theta
        self.t += 1
        return s

    @torch.no_grad()
    def _stabilised(self, u: Tensor) -> Tensor:
        mean, std = u.mean(), u.std()
        if self.ratio is None:
            self.ratio = (1.0 - mean) / std
        return mean + std * self.ratio

    def _fixed_threshold(self) -> Tensor:
        if not self.calibrated:
            raise fail(
                "SNN706",
                "the thresholds of this network follow its batch and were never fixed",
                help="run snncompile.online.calibrate_thresholds(net, batches, steps) on training images before you use or save it",
            )
        if self.t >= self.steps:
            raise fail(
                "SNN705",
                f"this network has thresholds for T = {self.steps} time steps and was asked for one more",
                help="pass init=True on the first step of every sample, and run it for the T it was built for",
            )
        return self.theta[self.t]

    def forget(self) -> None:
        """Start from v = 0 and step 0."""
        self.v = self.ratio = self.threshold = None
        self.t = 0

    def approximation(self) -> Approximation | None:
        """What fixed thresholds stand in for; nothing where they follow the batch."""
        if not self.fixed:
            return None
        return Approximation("thresholds that follow the batch (OTS), fixed per time step by calibration", float(self.spread), DEVIATION)

    def train(self, mode: bool = True) -> OTSLIF:
        """Switch mode; on leaving training, see whether there are thresholds to use."""
        if not mode:
            self.calibrated = not bool(self.theta.isnan().any())
        return super().train(mode)

    def extra_repr(self) -> str:
        """Show the constants in ``print(net)``."""
        return f"steps={self.steps}, tau={self.tau:g}, fixed={self.fixed}"


@contextmanager
def online_thresholds(net: nn.Module) -> Iterator[list[OTSLIF]]:
    """Inside, thresholds follow the batch also in eval mode, as in the official code: to calibrate, and to measure the gap."""
    neurons = [module for module in net.modules() if isinstance(module, OTSLIF)]
    before = [neuron.fixed for neuron in neurons]
    for neuron in neurons:
        neuron.fixed = False
    try:
        yield neurons
    finally:
        for neuron, fixed in zip(neurons, before, strict=True):
            neuron.fixed = fixed


@torch.no_grad()
def calibrate_thresholds(net: nn.Module, batches: Iterable[Tensor], steps: int) -> None:
    """Fix theta[t] of every layer at its mean over some batches, in eval mode; the network is left in eval mode.

        theta[t] = mean over the batches of (mean(u[t]) + r std(u[t])),   theta[0] = 1

    Source   as ``OTSLIF``; the method itself has no such step: it is an approximation, and ``spread`` its size
    Shapes   batches: tensors [B,C,H,W], each shown at every step; larger ones resemble training more
    Errors   SNN706 no batch at all, or a layer whose membrane does not vary, so that it has no deviation to follow
    """
    net.eval()
    with online_thresholds(net) as neurons:
        totals = [torch.zeros_like(neuron.theta) for neuron in neurons]
        squares = [torch.zeros_like(neuron.theta) for neuron in neurons]
        count = 0
        for batch in batches:
            count += 1
            for t in range(steps):
                advance(net, batch, t == 0)
                for total, square, neuron in zip(totals, squares, neurons, strict=True):
                    if neuron.threshold is not None:
                        total[t] += neuron.threshold
                        square[t] += neuron.threshold**2
    if count == 0:
        raise fail("SNN706", "thresholds cannot be calibrated without a batch")
    silent = [k for k, total in enumerate(totals) if not bool(total.isfinite().all())]
    if silent:
        raise fail("SNN706", f"the membranes of neuron layers {silent} do not vary over the batch", help="calibrate on more, real samples")
    for total, square, neuron in zip(totals, squares, neurons, strict=True):
        neuron.theta.copy_(total / count)
        neuron.spread.copy_(relative_deviation(total, square, count))
        neuron.calibrated = True

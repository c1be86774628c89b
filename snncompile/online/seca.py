"""SECA: channel attention computed from the same step's currents (EM-PF); calibrated, it is a table of T numbers per channel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from snncompile.errors import fail
from snncompile.online.approximation import DEVIATION, Approximation, relative_deviation
from snncompile.online.rule import advance
from snncompile.online.state import Stateful


class SECA(Stateful):
    """I' = I * sigmoid(conv1d_5(GAP(I))): each channel is weighted by what its own and four neighbouring channels carry.

    The gate of a step depends on the sample, which no static network can express. With ``steps`` the module also has ``gates``, a buffer
    that ``calibrate_gates`` fills with the gates' mean per step and channel, and uses it in eval mode: static and capturable, an
    approximation, which the compiler lists with ``spread``, the root mean square deviation of the live gates of the calibration samples
    from the fixed ones, relative to the latter's root mean square. ``held``, they are used in training too, so that the network learns to
    live with them.

    Source   EM-PF (arXiv 2410.07547), eq. (9)
    Shapes   I, I' [B,C,H,W]; the convolution runs along the channels, kernel 5, padding 2, with bias: 6 parameters; gates [T,C]; spread []
    Ranges   every gate in (0, 1)
    State    the step counter ``t`` and ``gate``, the gate [B,C] of the last live step
    Errors   SNN705 with fixed gates: a step beyond T; SNN706 they were never calibrated
    """

    gates: Tensor | None
    spread: Tensor
    gate: Tensor | None

    def __init__(self, channels: int = 0, *, steps: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 5, padding=2)
        self.steps, self.fixed = steps, steps > 0
        self.register_buffer("gates", torch.full((steps, channels), float("nan")) if steps > 0 else None)
        self.register_buffer("spread", torch.tensor(float("nan")) if steps > 0 else None)
        self.calibrated, self.held = False, False
        self.gate, self.t = None, 0

    def forward(self, current: Tensor) -> Tensor:
        """Return the weighted currents."""
        if self.fixed and (self.held or not self.training):
            gate = self._fixed_gate()
            self.t += 1
            return current * gate[:, None, None]
        live: Tensor = self.conv(current.mean(dim=(2, 3)).unsqueeze(1)).sigmoid().squeeze(1)
        self.gate, self.t = live.detach(), self.t + 1
        return current * live[:, :, None, None]

    def _fixed_gate(self) -> Tensor:
        if self.gates is None or not self.calibrated:
            raise fail(
                "SNN706",
                "the gates of this network follow its samples and were never fixed",
                help="run snncompile.online.calibrate_gates(net, batches, steps) on training images before you use or save it",
            )
        if self.t >= self.steps:
            raise fail(
                "SNN705",
                f"this network has gates for T = {self.steps} time steps and was asked for one more",
                help="call reset() before every sample, and run it for the T it was built for",
            )
        return self.gates[self.t]

    def approximation(self) -> Approximation | None:
        """What fixed gates stand in for; nothing where they follow the sample."""
        if not self.fixed:
            return None
        return Approximation("channel attention (SECA), fixed per channel and time step by calibration", float(self.spread), DEVIATION)

    def forget(self) -> None:
        """Start from step 0."""
        self.gate, self.t = None, 0

    def train(self, mode: bool = True) -> SECA:
        """Switch mode; on leaving training, see whether there are gates to use."""
        if not mode and self.gates is not None:
            self.calibrated = not bool(self.gates.isnan().any())
        return super().train(mode)

    def extra_repr(self) -> str:
        """Show the choice in ``print(net)``."""
        return f"gates={'fixed' if self.fixed else 'live'}"


@contextmanager
def live_gates(net: nn.Module) -> Iterator[list[SECA]]:
    """Inside, gates follow the sample also in eval mode, as the method defines them: to calibrate, and to measure the gap."""
    attention = [module for module in net.modules() if isinstance(module, SECA) and module.gates is not None]
    for module in attention:
        module.fixed = False
    try:
        yield attention
    finally:
        for module in attention:
            module.fixed = True


@torch.no_grad()
def calibrate_gates(net: nn.Module, batches: Iterable[Tensor], steps: int) -> None:
    """Fix the gate of every step and channel at its mean over some samples, in eval mode; the network is left in eval mode.

        gates[t,c] = mean over the samples of sigmoid(conv1d_5(GAP(I[t])))_c

    Source   as ``SECA``; the method itself has no such step: it is an approximation, and ``spread`` its size
    Shapes   batches: tensors [B,C,H,W], each shown at every step
    Errors   SNN706 no batch at all
    """
    net.eval()
    with live_gates(net) as attention:
        totals = [torch.zeros_like(seca.gates) for seca in attention if seca.gates is not None]
        squares = [torch.zeros_like(total) for total in totals]
        count = 0
        for batch in batches:
            count += len(batch)
            for t in range(steps):
                advance(net, batch, t == 0)
                for total, square, seca in zip(totals, squares, attention, strict=True):
                    if seca.gate is not None:
                        total[t] += seca.gate.sum(0)
                        square[t] += (seca.gate**2).sum(0)
    if count == 0:
        raise fail("SNN706", "gates cannot be calibrated without a batch")
    for total, square, seca in zip(totals, squares, attention, strict=True):
        if seca.gates is not None:
            seca.gates.copy_(total / count)
            seca.spread.copy_(relative_deviation(total, square, count))
            seca.calibrated = True

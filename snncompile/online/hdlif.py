"""EM-PF's neuron: graded ReLU firing, clamp to the threshold, leak and threshold learned per step, optional normalised membrane."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snncompile.errors import fail
from snncompile.online.state import Stateful, initial_state

GRID, TOP = 4, 15
"""4-bit spikes: multiples of 1/4 from 0 to 15/4."""


class HDLIF(Stateful):
    """Hybrid-driven leaky integrate-and-fire neuron.

        m[t]  = lam_t v[t-1] + I[t],               lam_t = sigmoid(alpha[t]), theta_t = sigmoid(v_th[t])          (1), (5)
        mh[t] = a_t m[t] + b_t BN_t(m[t]),         a_t = sigmoid(mem_ratio[t]), b_t = sigmoid(bn_ratio[t])        (6)  Mem-BN; else mh = m
              = k_t m[t] + c_t in eval mode,       k_t = a_t + b_t g_t / sd_t, c_t = b_t (o_t - g_t mu_t / sd_t)  (7)
        s[t]  = relu(mh[t] - theta_t)                                                                             (3)
        v[t]  = mh[t] - s[t] = min(mh[t], theta_t)                                                                (3)
        y[t]  = s[t], or clamp(round(4 s[t]), 0, 15) / 4 with ``four_bit``      round half to even; the reset uses the unrounded s

    Training, one step at a time (v is cut from the graph):
        dL/dm = 1[mh > theta] dL/ds           (4), times a + b dBN/dm with Mem-BN;  rounding passes the error on unchanged, also above 15/4
        dL/dlam_t = sum dL/dm v[t-1];    dL/dtheta_t = -sum 1[mh > theta] dL/ds     (5)
    What is cut off would carry dv/dm = 1 - 1[mh > theta]: nothing where a neuron fires at every step (theorem 4.2).

    Source   EM-PF (arXiv 2410.07547; v3 "HD-LIF", CVPR 2026), eqs. (1) to (7)
    Ranges   lam, theta, a, b in (0, 1), 1/2 at first; k any real number (not positive where g <= -a sd / b), so |k lam| may exceed 1
    Shapes   I, v, s [B,C,H,W]; alpha, v_th, bn_ratio, mem_ratio [T]; BN_t: T batch norms over C channels, eps 1e-5
    State    ``v`` and the step counter ``t``, plain attributes; v[-1] = 0
    Errors   SNN703 less than 1 step; SNN705 a step beyond the T the parameters are for; SNN704 the state of another batch
    """

    v: Tensor | None

    def __init__(self, steps: int, channels: int, *, mem_bn: bool = False, four_bit: bool = False) -> None:
        super().__init__()
        if steps < 1:
            raise fail("SNN703", f"a neuron with parameters per time step needs at least 1 step, got {steps}")
        self.steps, self.four_bit = steps, four_bit
        self.v_th = nn.Parameter(torch.zeros(steps))
        self.alpha = nn.Parameter(torch.zeros(steps))
        self.bn: nn.ModuleList | None = None
        if mem_bn:
            self.bn_ratio, self.mem_ratio = nn.Parameter(torch.zeros(steps)), nn.Parameter(torch.zeros(steps))
            self.bn = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(steps))
        self.v, self.t = None, 0

    def forward(self, current: Tensor) -> Tensor:
        """Advance one step and return the graded spikes."""
        t = self.t
        if t >= self.steps:
            raise too_many_steps(self.steps)
        m = torch.sigmoid(self.alpha[t]) * initial_state(current, self.v) + current
        if self.bn is not None:
            m = self._normalised(m, self.bn[t], torch.sigmoid(self.mem_ratio[t]), torch.sigmoid(self.bn_ratio[t]))
        s = torch.relu(m - torch.sigmoid(self.v_th[t]))
        v = m - s
        self.v, self.t = v.detach() if self.training else v, t + 1
        return quantised(s, self.training) if self.four_bit else s

    def _normalised(self, m: Tensor, bn: nn.Module, a: Tensor, b: Tensor) -> Tensor:
        """Eq. (6) in training; in eval mode eq. (7), the same function as one affine map."""
        if self.training or not isinstance(bn, nn.BatchNorm2d) or bn.running_var is None or bn.running_mean is None:
            y: Tensor = a * m + b * bn(m)
            return y
        over_sd = bn.weight / torch.sqrt(bn.running_var + bn.eps)
        k, c = a + b * over_sd, b * (bn.bias - over_sd * bn.running_mean)
        return k[:, None, None] * m + c[:, None, None]

    def forget(self) -> None:
        """Start from v = 0 and step 0."""
        self.v, self.t = None, 0

    def extra_repr(self) -> str:
        """Show the constants in ``print(net)``."""
        return f"steps={self.steps}, four_bit={self.four_bit}"


class ParallelHDLIF(nn.Module):
    """The stateless neuron that computes all steps independently, hence in parallel:  s[t] = relu(I[t] - theta), theta = sigmoid(v_th[0]).

    Training  dL/dI = 1[I > theta] dL/ds;   dL/dtheta = -sum 1[I > theta] dL/ds, of all steps that learn
    Source   EM-PF (arXiv 2410.07547), "parallel" neurons; half of all neurons in its networks. The text of v3 has s = 1[I >= theta],
             its code the graded spike that is here
    Shapes   I, s any; v_th [T], of which the official code reads v_th[0] at every step (it never advances the counter of this branch);
             the others are kept so that checkpoints correspond, and get no gradient
    """

    def __init__(self, steps: int, *, four_bit: bool = False) -> None:
        super().__init__()
        self.four_bit = four_bit
        self.v_th = nn.Parameter(torch.zeros(steps))

    def forward(self, current: Tensor) -> Tensor:
        """Return the graded spikes of this step."""
        s = torch.relu(current - torch.sigmoid(self.v_th[0]))
        return quantised(s, self.training) if self.four_bit else s

    def extra_repr(self) -> str:
        """Show the constants in ``print(net)``."""
        return f"four_bit={self.four_bit}"


def quantised(s: Tensor, training: bool) -> Tensor:
    """q = clamp(round(4 s), 0, 15) / 4, ties to even; in training with the derivative 1 everywhere, also above 15/4 (straight-through).

    Source   EM-PF (arXiv 2410.07547), 4-bit spikes      Shapes   s, q any, equal      Ranges   0 <= q <= 15/4, multiples of 1/4
    """
    q = torch.clamp(torch.round(s * GRID), 0, TOP) / GRID
    return s + (q - s).detach() if training else q


def too_many_steps(steps: int) -> Exception:
    """The error of a sample longer than the parameters (SNN705)."""
    return fail(
        "SNN705",
        f"this network has parameters for T = {steps} time steps and was asked for one more",
        help="call reset() before every sample, and run it for the T it was trained with",
    )

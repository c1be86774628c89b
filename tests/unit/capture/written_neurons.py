"""Neurons as users write them: the same few models in many spellings, and networks around them."""

from __future__ import annotations

import torch
from torch import nn


class Spelling(nn.Module):
    """A neuron whose ``charge_fire_reset`` returns (spike, next state); the state lives in ``self.v``."""

    def __init__(self) -> None:
        super().__init__()
        self.v: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        v = torch.zeros_like(x) if self.v is None else self.v
        s, self.v = self.charge_fire_reset(v, x)
        return s

    def charge_fire_reset(self, v: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError


class SoftGe(Spelling):
    def charge_fire_reset(self, v, x):
        u = 0.5 * v + x
        s = (u >= 1.0).float()
        return s, u - s


class SoftInPlace(Spelling):
    def charge_fire_reset(self, v, x):
        v = v.mul(0.5).add_(x)
        s = v.ge(1.0).to(x)
        v -= s
        return s, v


class HardWhere(Spelling):
    def charge_fire_reset(self, v, x):
        u = torch.lerp(v, x, 0.25)
        s = torch.where(u > 0.3, 1.0, 0.0)
        return s, torch.where(u > 0.3, torch.tensor(-0.1), u)


class HardMask(Spelling):
    def charge_fire_reset(self, v, x):
        u = v + (x - v) / 2.0
        fired = u >= 0.4
        return fired.float(), u.masked_fill(fired, 0.0)


class HardProduct(Spelling):
    def charge_fire_reset(self, v, x):
        u = torch.add(x, v, alpha=0.75)
        s = torch.heaviside(u - 0.6, torch.tensor(0.0))
        return s, (1 - s) * u


class LessThan(Spelling):
    def charge_fire_reset(self, v, x):
        u = 0.9 * v + x
        quiet = (u < 0.7).float()
        s = 1.0 - quiet
        return s, u * quiet


class ThresholdOnTheLeft(Spelling):
    def charge_fire_reset(self, v, x):
        u = 0.5 * v + x
        s = torch.le(torch.full_like(u, 0.8), u).float()
        return s, u - 0.8 * s


class GradedClamp(Spelling):
    def charge_fire_reset(self, v, x):
        m = 0.6 * v + x
        s = torch.relu(m - 0.5)
        return s, m - s


class GradedMinimum(Spelling):
    def charge_fire_reset(self, v, x):
        m = 0.6 * v + x
        return torch.clamp(m - 0.5, min=0.0), torch.minimum(m, torch.tensor(0.5))


class PerChannel(Spelling):
    def __init__(self) -> None:
        super().__init__()
        self.leak = nn.Parameter(torch.tensor([2.0, -1.0, 0.5, 0.0, 1.0]))
        self.theta = nn.Parameter(torch.tensor([0.3, 0.6, 0.5, 1.0, 0.8]))

    def charge_fire_reset(self, v, x):
        u = v * self.leak.sigmoid().view(1, -1, 1, 1) + x
        s = (u - self.theta.view(1, -1, 1, 1) >= 0).float()
        return s, u - s * self.theta.view(1, -1, 1, 1)


class PerStep(Spelling):
    """Learnable leak and threshold per step, as in EM-PF; knows exactly six steps."""

    def __init__(self) -> None:
        super().__init__()
        self.leaks = nn.Parameter(torch.linspace(-1, 1, 6))
        self.thetas = nn.Parameter(torch.linspace(0, 0.5, 6))
        self.t = 0

    def charge_fire_reset(self, v, x):
        u = v * self.leaks[self.t].sigmoid() + x
        s = (u >= self.thetas[self.t].sigmoid()).float()
        self.t += 1
        return s, u - s


class LateHardReset(nn.Module):
    """The reset is applied at the next charge, from the spike before: LTL's spelling."""

    def __init__(self) -> None:
        super().__init__()
        self.u = self.s = None

    def forward(self, x):
        if self.u is None:
            self.u, self.s = torch.zeros_like(x), torch.zeros_like(x)
        self.u = 0.9 * self.u * (1.0 - self.s) + x
        self.s = (self.u > 0.6).float()
        return self.s


class LateSoftReset(nn.Module):
    """The reset is recomputed from the membrane before: snnTorch's spelling."""

    def __init__(self) -> None:
        super().__init__()
        self.u = None

    def forward(self, x):
        u = torch.zeros_like(x) if self.u is None else self.u
        reset = (u - 0.5 > 0).float()
        self.u = 0.8 * u + x - reset * 0.5
        return (self.u - 0.5 > 0).float()


class Cuba(nn.Module):
    """A synaptic current in front of the membrane."""

    def __init__(self) -> None:
        super().__init__()
        self.i = self.v = None

    def forward(self, x):
        if self.v is None:
            self.i, self.v = torch.zeros_like(x), torch.zeros_like(x)
        self.i = 0.5 * self.i + x
        m = 0.75 * self.v + self.i
        s = (m >= 1.0).float()
        self.v = m - s
        return s


class LateCuba(nn.Module):
    """The membrane takes the current of the step before: Norse's order."""

    def __init__(self) -> None:
        super().__init__()
        self.i = self.v = None

    def forward(self, x):
        if self.v is None:
            self.i, self.v = torch.zeros_like(x), torch.zeros_like(x)
        m = 0.75 * self.v + 0.5 * self.i
        self.i = 0.5 * self.i + x
        s = (m >= 0.5).float()
        self.v = m * (1 - s)
        return s


class MembraneBatchNorm(nn.Module):
    """MP-BN: the normalised membrane is compared and carried (EM-PF's Mem-BN), one channel with a negative factor."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(5)
        with torch.no_grad():
            self.bn.weight.copy_(torch.tensor([0.5, 1.0, 0.8, -0.6, 0.7]))
            self.bn.bias.copy_(torch.tensor([0.1, 0.0, -0.1, 0.2, 0.0]))
            self.bn.running_mean.copy_(torch.tensor([0.1, 0.2, 0.0, 0.1, -0.1]))
        self.v = None

    def forward(self, x):
        v = torch.zeros_like(x) if self.v is None else self.v
        m = 0.5 * v + x
        mh = 0.4 * self.bn(m) + 0.3 * m
        s = (mh >= 0.3).float()
        self.v = mh - 0.3 * s
        return s


NEURONS = [
    SoftGe, SoftInPlace, HardWhere, HardMask, HardProduct, LessThan, ThresholdOnTheLeft, GradedClamp, GradedMinimum, PerChannel, PerStep,
    LateHardReset, LateSoftReset, Cuba, LateCuba, MembraneBatchNorm,
]  # fmt: skip


class Around(nn.Module):
    """Convolution, the neuron, a residual second neuron, pooling, a dense readout."""

    def __init__(self, neuron: type[nn.Module], seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(2, 5, 3, padding=1)
        self.first = neuron()
        self.mix = nn.Conv2d(5, 5, 1)
        self.second = neuron()
        self.pool = nn.AvgPool2d(2)
        self.fc = nn.Linear(5 * 9, 4)

    def forward(self, x):
        s = self.first(self.conv(x))
        s = self.second(self.mix(s) + s)
        return self.fc(self.pool(s).flatten(1))


class FourBit(Spelling):
    """EM-PF's 4-bit spikes: rounded to quarters, half to even, at most 15 of them; reset by the spike before rounding."""

    def charge_fire_reset(self, v, x):
        m = 0.5 * v + x
        s = torch.relu(m - 0.5)
        return torch.clamp(torch.round(4 * s), 0, 15) / 4, m - s


class FourBitStateless(nn.Module):
    """EM-PF's parallel neuron with 4-bit spikes."""

    def forward(self, x):
        return torch.clamp(torch.round(torch.relu(x - 0.3) * 4), 0, 15) / 4


NEURONS += [FourBit, FourBitStateless]


class NegativeLeak(Spelling):
    """What leaks over changes its sign."""

    def charge_fire_reset(self, v, x):
        m = -0.5 * v + x
        s = (m >= 0.4).float()
        return s, m - 0.4 * s


class InhibitoryInput(Spelling):
    """The input lowers the membrane, the bias raises it."""

    def charge_fire_reset(self, v, x):
        m = 0.75 * v - x + 0.3
        s = (m > 0.5).float()
        return s, torch.where(s > 0, torch.zeros_like(m), m)


NEURONS += [NegativeLeak, InhibitoryInput]

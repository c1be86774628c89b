"""Modules of which every step runs its own: batch norms per time step, as in membrane and temporal normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from snncompile.capture.capture import capture
from snncompile.capture.check import check_capture
from snncompile.ir.linear_ops import Affine
from snncompile.ir.neuron import Neuron


def random_statistics(net, seed=0):
    g = torch.Generator().manual_seed(seed)
    for m in net.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.running_mean.uniform_(-0.3, 0.3, generator=g)
            m.running_var.uniform_(0.4, 1.6, generator=g)
            with torch.no_grad():
                m.weight.uniform_(-0.5, 1.5, generator=g)
                m.bias.uniform_(-0.2, 0.4, generator=g)
    return net.eval()


class MembraneNorms(nn.Module):
    """One batch norm of the membrane per step, and one counter."""

    def __init__(self, steps=4, channels=3):
        super().__init__()
        self.bn = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(steps))
        self.v, self.t = 0.0, 0

    def forward(self, x):
        m = 0.5 * (self.bn[self.t](0.5 * self.v + x) + 0.5 * self.v + x) if self.t else 0.5 * (self.bn[0](x) + x)
        s = torch.relu(m - 0.4)
        self.v, self.t = m - s, self.t + 1
        return s


class CurrentNorms(nn.Module):
    """One batch norm of the current per step, named one by one."""

    def __init__(self, steps=4, channels=3):
        super().__init__()
        for t in range(steps):
            self.add_module(f"bn_{t}", nn.BatchNorm2d(channels))
        self.v, self.t = 0.0, 0

    def forward(self, x):
        v = 0.5 * self.v + getattr(self, f"bn_{self.t}")(x)
        s = (v >= 0.6).float()
        self.v, self.t = v * (1 - s), self.t + 1
        return s


class Stacked(nn.Module):
    def __init__(self, neuron):
        super().__init__()
        self.layers = nn.ModuleList([nn.Sequential(nn.Conv2d(c, 3, 3, padding=1), neuron()) for c in (2, 3, 3)])
        self.fc = nn.Linear(3 * 16, 2)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.fc(x.flatten(1))


@pytest.mark.parametrize("neuron", [MembraneNorms, CurrentNorms])
def test_one_batch_norm_per_step_becomes_constants_per_step(neuron):
    torch.manual_seed(0)
    net = random_statistics(Stacked(neuron))
    captured = capture(net, input_shape=(2, 4, 4), steps=4)
    x = np.random.default_rng(0).uniform(0, 2, (3, 4, 2, 4, 4))
    record = check_capture(captured, net, x)
    assert (record.populations, record.differing_spikes) == (3, 0)
    assert record.membrane_error < 1e-6
    varying = [getattr(n, f) for n in captured.graph.of(Neuron, Affine) for f in n.time_fields if getattr(n, f) is not None]
    assert sum(a.shape[0] == 4 and not np.array_equal(a[0], a[1]) for a in varying) >= 3

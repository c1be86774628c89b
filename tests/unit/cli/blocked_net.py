"""A network with a blocker of every kind; the comments name them, so that a test finds their lines."""

import torch
from torch import nn


class LIF(nn.Module):
    def __init__(self):
        super().__init__()
        self.v = 0.0

    def forward(self, x):
        self.v = 0.5 * self.v + x
        s = (self.v >= 1).float()
        self.v = self.v - s
        return s


class Rounding(nn.Module):
    """Its membrane is rounded in the middle of its update."""

    def __init__(self):
        super().__init__()
        self.v = torch.zeros(1)

    def forward(self, x):
        self.v = self.v + 0.1 * torch.floor(self.v * self.v) + x  # neuron
        s = (self.v >= 1).float()
        self.v = self.v * (1 - s)
        return s


class Gated(nn.Module):
    """A cell of PyTorch with its state."""

    def __init__(self):
        super().__init__()
        self.cell, self.h = nn.GRUCell(8, 8), None

    def forward(self, x):
        self.h = self.cell(x, self.h)  # cell
        return self.h


class Net(nn.Module):
    def __init__(self, damaged=True):
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 3, padding=1)
        self.a, self.b, self.c, self.d, self.e = nn.Linear(32, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.n1, self.n2, self.n3, self.n4 = LIF(), LIF(), Rounding(), LIF()
        self.gated = Gated()
        if damaged:
            with torch.no_grad():
                self.b.weight[0, 0] = float("nan")

    def forward(self, x):
        x = self.conv(x[:, None])  # conv3d
        x = self.n1(self.a(x.flatten(1)))
        x = x + 0.1 * torch.randn_like(x)  # random
        if x.sum().item() > 1e9:  # decision
            x = x * 2
        x = torch.softmax(x, -1)  # softmax
        x = self.n2(self.b(x))
        x = self.n3(self.c(self.gated(x)))
        x = x.sort()[0]  # sort
        x = self.n4(self.d(x))
        return torch.log_softmax(self.e(x), -1)  # logits

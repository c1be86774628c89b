"""Step functions with their states as arguments and results, and how both of PyTorch's exporters write them."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn


class Dense(nn.Module):
    """Two layers; subtraction, and a reset to zero."""

    inputs: ClassVar = {"x": (1, 12), "mem1_in": (1, 10), "mem2_in": (1, 4)}
    outputs = ("spk", "mem1_out", "mem2_out")

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(12, 10), nn.Linear(10, 4)

    def forward(self, x, mem1, mem2):
        mem1 = 0.9 * mem1 + self.fc1(x)
        spk1 = (mem1 > 1.0).float()
        mem1 = mem1 - spk1 * 1.0
        mem2 = 0.8 * mem2 + self.fc2(spk1)
        spk2 = (mem2 >= 0.3).float()
        return spk2, mem1, torch.where(spk2 > 0, torch.zeros_like(mem2), mem2)


class Convolution(nn.Module):
    """Batch norm, pooling, grouped convolution, a leaky readout."""

    inputs: ClassVar = {"image": (1, 1, 10, 10), "v1": (1, 4, 10, 10), "v2": (1, 4, 2, 2), "syn": (1, 5)}
    outputs = ("logits", "v1_next", "v2_next", "syn_next")

    def __init__(self):
        super().__init__()
        self.c1, self.bn, self.pool = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.AvgPool2d(2)
        self.c2, self.fc = nn.Conv2d(4, 4, 3, groups=2, stride=2), nn.Linear(16, 5)
        self.bn.running_mean.uniform_(-0.2, 0.2)
        self.bn.running_var.uniform_(0.1, 0.3)

    def forward(self, x, v1, v2, syn):
        v1 = v1 * 0.5 + self.bn(self.c1(x))
        z = (v1 >= 1.0).to(x.dtype)
        v1 = (1 - z) * v1
        v2 = v2 - (v2 - self.c2(self.pool(z))) / 2.0
        z2 = (v2 > 0.3).float()
        v2 = v2 - 0.3 * z2
        syn = 0.9 * syn + self.fc(torch.flatten(z2, 1))
        return syn * 2.0, v1, v2, syn


class Recurrent(nn.Module):
    """The spikes come back one step later, through weights."""

    inputs: ClassVar = {"x": (1, 6), "prev_spk": (1, 8), "prev_mem": (1, 8)}
    outputs = ("out", "new_spk", "new_mem")

    def __init__(self):
        super().__init__()
        self.fc, self.ring, self.out = nn.Linear(6, 8), nn.Linear(8, 8, bias=False), nn.Linear(8, 3)

    def forward(self, x, spk, mem):
        mem = 0.75 * mem + self.fc(x) + self.ring(spk)
        spk = (mem - 0.5 >= 0).float()
        mem = mem * (1.0 - spk)
        return self.out(spk), spk, mem


class Counted(nn.Module):
    """Thresholds and leaks per step, read at a counter that is a state of its own; a leak is negative."""

    inputs: ClassVar = {"x": (1, 6), "v_in": (1, 4), "t_in": ()}
    outputs = ("s", "v_out", "t_out")

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 4)
        self.register_buffer("theta", torch.tensor([0.4, 0.8, 0.2, 1.0, 0.6, 0.5]))
        self.register_buffer("leak", torch.tensor([0.5, -0.25, 0.75, 0.5, -0.5, 0.25]))

    def forward(self, x, v, t):
        v = self.leak[t] * v + self.fc(x)
        s = (v >= self.theta[t]).float()
        return s, v - 0.5 * s, t + 1


class WholeLoop(nn.Module):
    """All steps in one call, time axis first."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        v, out = torch.zeros(x.shape[1], 4), []
        for frame in x:
            v = 0.5 * v + self.fc(frame)
            s = (v >= 0.5).float()
            v = v - 0.5 * s
            out.append(s)
        return torch.stack(out)


def export(model: nn.Module, path: Path, exporter: str, *, inputs=None, outputs=None, args=None, **options) -> Path:
    """Write a model with PyTorch's ``new`` or ``old`` exporter."""
    inputs = inputs if inputs is not None else model.inputs
    args = args or tuple(torch.rand(shape) if k == 0 else torch.zeros(shape) for k, shape in enumerate(inputs.values()))
    new = {"dynamo": True, "external_data": False, "verbose": False} if exporter == "new" else {"dynamo": False}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), args, path, input_names=list(inputs), output_names=list(outputs or model.outputs), **new, **options)
    return path

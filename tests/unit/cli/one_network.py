"""One small network in every form that the command line takes; its weights lie on a lattice, so that all forms are the same network.

u = v / 2 + W x      s = u > theta      v = 0 where s        twice, 8 inputs, 6 and 5 neurons, 6 steps
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1] / "importers"))

STEPS = 6
SOURCE = '''
import numpy as np
import torch
from torch import nn


class Neuron(nn.Module):
    def __init__(self):
        super().__init__()
        self.v = 0.0

    def forward(self, x):
        u = 0.5 * self.v + x
        s = (u > 20.0).float()
        self.v = u * (1 - s)
        return s


class Net(nn.Module):
    def __init__(self, bias=0.0):
        super().__init__()
        rng = np.random.default_rng(3)
        self.fc1, self.n1 = nn.Linear(8, 6, bias=False), Neuron()
        self.fc2, self.n2 = nn.Linear(6, 5, bias=bool(bias)), Neuron()
        for layer, shape in ((self.fc1, (6, 8)), (self.fc2, (5, 6))):
            layer.weight.data = torch.as_tensor(2.0 * rng.integers(-5, 12, shape)).float()
        if bias:
            nn.init.constant_(self.fc2.bias, bias)

    def forward(self, x):
        return self.n2(self.fc2(self.n1(self.fc1(x))))


def make(bias=0.0):
    return Net(bias).eval()


class Step(Net):
    """The same with its states outside, for torch.onnx.export."""

    def forward(self, x, v1, v2):
        u1 = 0.5 * v1 + self.fc1(x)
        s1 = (u1 > 20.0).float()
        u2 = 0.5 * v2 + self.fc2(s1)
        s2 = (u2 > 20.0).float()
        return s2, u1 * (1 - s1), u2 * (1 - s2)


def make_step(bias=0.0):
    return Step(bias).eval()
'''
MODEL = ("--arch", "net.py:make", "--input-shape", "8", "--steps", str(STEPS))


def write_all(folder: Path) -> None:
    """net.py, weights.pt, net.onnx, net.nir, net.net, net.snn, spikes.npz; louder.pt has a fault in its second layer."""
    from net_files import cuba, dense, plain, write_net
    from user_project import snn

    from snncompile.capture.factory import build

    (folder / "net.py").write_text(SOURCE)
    make = f"{folder / 'net.py'}:make"
    model, step = build(make), build(f"{make}_step")
    torch.save(model.state_dict(), folder / "weights.pt")
    torch.save({k: 2.5 * v if k == "fc2.weight" else v for k, v in model.state_dict().items()}, folder / "louder.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch says that its older exporter is old
        torch.onnx.export(
            step, (torch.zeros(1, 8), torch.zeros(1, 6), torch.zeros(1, 5)), folder / "net.onnx", dynamo=False,
            input_names=["x", "v1_in", "v2_in"], output_names=["s", "v1_out", "v2_out"],
        )  # fmt: skip
    weights = [layer.weight.detach().numpy() for layer in (model.fc1, model.fc2)]
    write_net(folder / "net.net", [plain("input", 8), *(dense(w, cuba(20, 4096, 2048)) for w in weights)], STEPS)
    np.savez(folder / "spikes.npz", x=np.random.default_rng(0).random((12, STEPS, 8)) < 0.4)
    built = ("--arch", make, *MODEL[2:])
    for command in (
        ("convert", folder / "weights.pt", *built, "-o", folder / "net.nir"),
        ("export", folder / "weights.pt", *built, "--data", folder / "spikes.npz", "--no-lava", "-o", folder / "net.snn"),
    ):
        answer = snn("-q", *command)
        assert answer.status == 0, answer.err

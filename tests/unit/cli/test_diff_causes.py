"""Faults in a user's network, one per cause: ``diff`` finds each where it is and names it, and its folder shows the difference alone."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from user_project import snn

STEPS = 6
SOURCE = """
import numpy as np
import torch
from torch import nn


class Neuron(nn.Module):
    def __init__(self, leak=0.5, theta=1.0, strict=False, hard=False, graded=0.0, most=15):
        super().__init__()
        self.leak, self.theta, self.strict, self.hard, self.graded, self.most, self.v = leak, theta, strict, hard, graded, most, 0.0

    def forward(self, x):
        m = self.leak * self.v + x
        if self.graded:
            s = torch.relu(m - self.theta)
            self.v = m - s
            return torch.clamp(torch.round(s / self.graded), 0, self.most) * self.graded
        s = (m > self.theta if self.strict else m >= self.theta).float()
        self.v = m * (1 - s) if self.hard else m - self.theta * s
        return s


class Net(nn.Module):
    def __init__(self, lattice=0.0, bias=0.25, gain=1.0, late=False, bits=0, **second):
        super().__init__()
        rng = np.random.default_rng(3)
        self.fc1, self.n1 = nn.Linear(8, 6), Neuron()
        self.fc2, self.n2 = nn.Linear(6, 5, bias=bias != 0), Neuron(**second)
        self.fc3, self.late, self.gain, self.before = nn.Linear(5, 3, bias=False), late, gain, 0.0
        for layer in (self.fc1, self.fc2, self.fc3):
            w = rng.normal(0.15, 0.5, layer.weight.shape)
            w = np.rint(w / lattice) * lattice if lattice else w
            w = np.rint(w * 2**bits) / 2**bits if bits and layer is self.fc2 else w
            layer.weight.data = torch.as_tensor(w).float()
        self.fc1.bias.data[:] = 0.125
        if bias:
            self.fc2.bias.data[:] = bias

    def forward(self, x):
        s = self.n1(self.fc1(x))
        if self.late:
            s, self.before = self.before + 0.0 * s, s
        return self.fc3(self.n2(self.fc2(self.gain * s)))
"""
FAULTS = {
    "weight rounding": ({}, {"bits": 5}),
    "payload rounding": ({"graded": 0.0625}, {"graded": 0.25}),
    "leak rounding": ({}, {"leak": 0.501}),
    "saturation": ({"graded": 0.125, "most": 15}, {"graded": 0.125, "most": 5}),
    "reset kind": ({}, {"hard": True}),
    "`>` against `>=`": ({"lattice": 0.25}, {"lattice": 0.25, "strict": True}),
    "hop misalignment": ({}, {"late": True}),
    "missing bias": ({}, {"bias": 0}),
    "input scaling": ({}, {"gain": 2.74}),
}  # fmt: skip
"""The right network and the wrong one, as arguments of the factory."""


@pytest.fixture(autouse=True)
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(SOURCE)
    np.savez("x.npz", x=np.random.default_rng(0).random((40, STEPS, 8)) < 0.4)


def compare(a, b, right, wrong, data="x.npz", *more):
    made = ("--arch", "nets.py:Net", "--input-shape", 8, "--steps", STEPS, "--arch-args", json.dumps(right))
    own = ("--arch-b", "nets.py:Net", "--arch-args-b", json.dumps(wrong))
    answer = snn("-q", "diff", a, b, "--data", data, *made, *(own if wrong is not None else ()), "--json", *more)
    assert answer.status == 1, answer.err
    return answer.json


def confirmed(found):
    assert found["explanation"]["left"] == 0 < found["explanation"]["events"]
    return [c["cause"] for c in found["explanation"]["causes"] if c["confirmed"]]


def reproduced(found):
    """What the folder's script prints, run on its own: payload and membranes of both sides, by side."""
    script = Path(found["reproduction"]) / "reproduce.py"
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    rows = {}
    for line in run.stdout.splitlines():
        label, _, values = line.partition(" {")
        rows[label] = ast.literal_eval("{" + values)
    return rows


@pytest.mark.parametrize("cause", FAULTS)
def test_a_fault_of_each_cause_is_found_named_and_reproduced(cause):
    right, wrong = FAULTS[cause]
    found = compare(":captured", ":pytorch", right, wrong)
    at = found["first_divergence"]
    assert (at["population"], confirmed(found)) == ("n2", [cause])
    assert [p["name"] for p in found["populations"] if p["differing"]] == ["n2"], "one difference must not cascade"
    assert at["location"]["file"].endswith("nets.py")
    assert {"membrane before the reset", "payload"} <= set(at["values"])
    assert any(key.startswith("from ") for key in at["values"]), "the inputs are shown"
    rows = reproduced(found)
    for side, key in ((found["a"], 0), (found["b"], 1)):
        seen = rows[side] if f"{side} recorded" not in rows else rows[f"{side} recorded"]
        payload = seen["n2"] if "n2" in seen else seen["payload"]
        assert payload == pytest.approx(at["values"]["payload"][key]), "the folder shows what was found"
    assert any(one != pytest.approx(two, rel=1e-9) for one, two in at["values"].values()), "it is a difference"


def test_what_the_quantiser_does_to_samples_is_found_named_and_reproduced():
    """Payload rounding and saturation where samples enter: a bundle for inputs of 0..1 gets finer ones, and larger ones."""
    np.savez("fine.npz", x=np.random.default_rng(0).uniform(0, 1, (8, 1, 8)))
    made = ("--arch", "nets.py:Net", "--input-shape", 8, "--steps", STEPS)
    answer = snn("-q", "export", *made, "--input-range", "0,1", "--no-lava", "-o", "net.snn")
    assert answer.status == 0, answer.err
    found = compare(":folded", "net.snn", {}, None, "fine.npz")
    assert (found["first_divergence"]["population"], confirmed(found)) == ("x", ["payload rounding"])
    np.savez("large.npz", x=np.full((8, 1, 8), 3.0))
    found = compare(":folded", "net.snn", {}, None, "large.npz")
    assert found["first_divergence"]["population"] == "x"
    assert confirmed(found) == ["saturation"]

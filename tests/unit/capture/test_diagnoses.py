"""Randomness, decisions on values and state that outlives a sample are found, and named with their line."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from snncompile.capture.capture import capture
from snncompile.errors import CompileError

KEPT: dict[str, torch.Tensor] = {}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2, self.v = nn.Linear(6, 8), nn.Linear(8, 3), None
        with torch.no_grad():
            self.fc1.weight.mul_(3)

    def fire(self, i):
        v = torch.zeros(1, 8) if self.v is None else self.v
        m = 0.5 * v + i
        s = (m >= 0.5).float()
        self.v = m - 0.5 * s
        return s

    def forward(self, x):
        return self.fc2(self.fire(self.fc1(x)))


class NumPyNoise(Net):
    def forward(self, x):
        return self.fc2(self.fire(self.fc1(x) + float(np.random.rand())))


class PythonNoise(Net):
    def forward(self, x):
        return self.fc2(self.fire(self.fc1(x) + random.random()))


class NumPyBranch(Net):
    def forward(self, x):
        s = self.fire(self.fc1(x))
        return self.fc2(s) if s.numpy().sum() > 4 else self.fc2(1 - s)


class RoundTrip(Net):
    def forward(self, x):
        i = self.fc1(x)
        return self.fc2(self.fire(torch.from_numpy(np.maximum(i.detach().numpy(), 0.1))))


class ItemBranch(Net):
    def forward(self, x):
        s = self.fire(self.fc1(x))
        return self.fc2(s) * (2.0 if s.sum().item() > 4 else 1.0)


class Global(Net):
    def forward(self, x):
        self.v = KEPT.get("v")
        s = self.fire(self.fc1(x))
        KEPT["v"] = self.v
        return self.fc2(s)


class ClassAttribute(Net):
    kept: dict[str, torch.Tensor] = {}  # noqa: RUF012 - the mistake

    def forward(self, x):
        self.v = self.kept.get("v")
        s = self.fire(self.fc1(x))
        self.kept["v"] = self.v
        return self.fc2(s)


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        (NumPyNoise, "SNN116", "numpy.random.rand"),
        (PythonNoise, "SNN116", "random.random"),
        (NumPyBranch, "SNN112", "takes values out of its tensors"),
        (RoundTrip, "SNN112", "takes values out of its tensors"),
        (ItemBranch, "SNN112", "decides by the value"),
        (Global, "SNN128", "keeps state in 'KEPT'"),
        (ClassAttribute, "SNN128", "keeps state in 'ClassAttribute.kept'"),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_what_makes_a_trace_untrue_is_named(model, code, words):
    KEPT.clear()
    with pytest.raises(CompileError) as caught:
        capture(model(), input_shape=(6,), steps=5)
    assert caught.value.code == code
    assert words in str(caught.value)
    assert code == "SNN128" or "test_diagnoses.py:" in str(caught.value)
    assert caught.value.diagnostics[0].help


def test_a_network_in_the_middle_of_a_sample_is_named_with_its_state():
    net = Net().eval()
    net(torch.rand(1, 6))
    with pytest.raises(CompileError, match="holds the state of an earlier run: v") as caught:
        capture(net, input_shape=(6,), steps=5)
    assert caught.value.code == "SNN129"
    net.v = None
    assert capture(net, input_shape=(6,), steps=5).graph.outputs


def test_leftovers_that_the_first_step_overwrites_do_no_harm():
    class Initialised(Net):
        def forward(self, x, init=False):
            if init:
                self.v = None
            return super().forward(x)

    net = Initialised().eval()
    net(torch.rand(1, 6))
    assert capture(net, input_shape=(6,), steps=5).driver.first_kwarg == "init"


def test_leftovers_of_another_batch_size_are_named():
    class Batched(Net):
        def fire(self, i):
            v = torch.zeros_like(i) if self.v is None else self.v
            m = 0.5 * v + i
            s = (m >= 0.5).float()
            self.v = torch.cat([m - 0.5 * s]).reshape(i.shape)
            return s

    net = Batched().eval()
    net(torch.rand(4, 6))
    net.v = net.v.reshape(4, 8)
    with pytest.raises(CompileError, match="an earlier run: v"):
        capture(net, input_shape=(6,), steps=5)


def test_what_is_no_network_is_refused():
    with pytest.raises(CompileError) as caught:
        capture(3.0, input_shape=(6,), steps=5)  # type: ignore[arg-type]
    assert caught.value.code == "SNN126"

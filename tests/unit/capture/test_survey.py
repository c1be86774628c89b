"""A survey names everything that stands between a network and the chip, at once."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import snncompile
from snncompile.capture.survey import Verdict
from snncompile.checking import check

STEPS = 4


class LIF(nn.Module):
    def __init__(self, leak=0.5):
        super().__init__()
        self.leak, self.v = leak, 0.0

    def forward(self, x):
        self.v = self.leak * self.v + x
        s = (self.v >= 1).float()
        self.v = self.v - s
        return s


class Rounding(nn.Module):
    def __init__(self):
        super().__init__()
        self.v = torch.zeros(1)

    def forward(self, x):
        self.v = self.v + 0.1 * torch.floor(self.v * self.v) + x
        s = (self.v >= 1).float()
        self.v = self.v * (1 - s)
        return s


class FiveBlockers(nn.Module):
    """A decision, a random draw, a norm between neurons, a neuron that rounds; a norm and a softmax that the host can compute."""

    def __init__(self):
        super().__init__()
        self.pre, self.norm = nn.LayerNorm(12), nn.LayerNorm(16)
        self.a, self.b, self.c, self.d = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.n1, self.n2, self.n3 = LIF(), Rounding(), LIF()

    def forward(self, x):
        x = self.norm(self.n1(self.a(self.pre(x))))
        x = nn.functional.dropout(x, 0.5, training=True)
        if x.sum() > 1e9:
            x = x * 0
        x = self.n3(self.c(self.n2(self.b(x))))
        return torch.softmax(self.d(x), -1)


def test_every_blocker_is_listed_with_its_line_and_way_out():
    found = check(FiveBlockers(), input_shape=(12,), steps=STEPS)
    assert sorted(d.code for d in found.blockers) == ["SNN112", "SNN116", "SNN120", "SNN121", "SNN121", "SNN121"]
    assert all(d.loc is not None and d.help for d in found.blockers)
    refused = [(o.name, o.verdict) for o in found.operations if o.verdict in (Verdict.HOST, Verdict.IMPOSSIBLE)]
    assert refused[:3] == [("pre", Verdict.HOST), ("norm", Verdict.IMPOSSIBLE), ("n2", Verdict.IMPOSSIBLE)]
    assert refused[3][1] is Verdict.HOST
    kept = {o.name: o.verdict for o in found.operations if o.verdict in (Verdict.NATIVE, Verdict.CUSTOM)}
    assert kept == {
        "a": Verdict.NATIVE, "b": Verdict.NATIVE, "c": Verdict.NATIVE, "d": Verdict.NATIVE, "n1": Verdict.CUSTOM, "n3": Verdict.CUSTOM,
    }  # fmt: skip


def test_operations_come_in_the_order_in_which_they_run():
    names = [o.name for o in check(FiveBlockers(), input_shape=(12,), steps=STEPS).operations]
    assert [n for n in names if n in "abcd" or n in ("n1", "n2", "n3")] == ["a", "n1", "b", "n2", "c", "n3", "d"]


def test_what_the_target_refuses_is_listed_beside_what_the_capture_refuses():
    net = nn.Sequential(nn.Linear(6, 5), LIF(leak=9.0), nn.Softmax(-1), nn.Linear(5, 5), LIF(leak=12.0), nn.Linear(5, 2))
    found = check(net, input_shape=(6,), steps=STEPS)
    assert sorted(d.code for d in found.blockers) == ["SNN121", "SNN303", "SNN303"]


@pytest.mark.parametrize("repeat", [3, 9])
def test_as_many_blockers_as_there_are(repeat):
    layers = [part for _ in range(repeat) for part in (nn.Linear(4, 4), LIF(), nn.LayerNorm(4))]
    found = check(nn.Sequential(*layers, nn.Linear(4, 4), LIF(), nn.Linear(4, 2)), input_shape=(4,), steps=STEPS)
    assert [d.code for d in found.blockers] == ["SNN121"] * repeat
    assert sum(o.verdict is Verdict.IMPOSSIBLE for o in found.operations) == repeat


def test_a_network_without_blockers_compiles():
    net = nn.Sequential(nn.Linear(6, 5), LIF(), nn.Linear(5, 2))
    found = check(net, input_shape=(6,), steps=STEPS)
    assert found.ok
    assert [(o.operation, o.verdict.value) for o in found.operations] == [
        ("linear", "native"), ("neuron", "custom neuron program"), ("linear", "native"),
    ]  # fmt: skip
    assert snncompile.compile(net, input_shape=(6,), steps=STEPS, input_range=(0, 1, 0)).result.populations


def test_a_network_that_cannot_be_run_has_that_one_blocker():
    found = check(nn.Linear(6, 2), input_shape=(7,), steps=STEPS)
    assert [d.code for d in found.blockers] == ["SNN113"]
    assert found.operations == ()


def test_weights_that_are_no_numbers_do_not_hide_the_rest():
    net = nn.Sequential(nn.Linear(6, 5), LIF(), nn.Softmax(-1), nn.Linear(5, 5), LIF(), nn.Linear(5, 2))
    with torch.no_grad():
        net[0].weight[0, 0] = float("nan")
    assert {"SNN125", "SNN121"} <= {d.code for d in check(net, input_shape=(6,), steps=STEPS).blockers}


def test_rows_are_plain_data():
    found = check(FiveBlockers(), input_shape=(12,), steps=STEPS)
    rows = json.loads(json.dumps([o.to_json() for o in found.operations]))
    assert {tuple(row) for row in rows} == {("name", "operation", "verdict", "note", "location")}


class Adaptive(nn.Module):
    """Its threshold is a Python number at the first step, so that step's constants differ from those of all others."""

    def __init__(self):
        super().__init__()
        self.v = self.w = 0.0

    def forward(self, x):
        self.v = 0.5 * self.v + x
        h = 1.0 + 1.5 * self.w
        s = (self.v > h).float()
        self.v, self.w = self.v - s * h, 0.75 * self.w + 0.25 * s
        return s


@pytest.mark.parametrize("steps", [1, 2, 4, 9])
def test_a_first_step_with_constants_of_its_own_is_in_nobodys_way(steps):
    torch.manual_seed(0)
    found = check(nn.Sequential(nn.Linear(5, 6), Adaptive(), nn.Linear(6, 3)), input_shape=(5,), steps=steps)
    assert found.ok, found.blockers

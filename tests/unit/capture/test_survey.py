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
    assert [n for n in names if n in ("a", "b", "c", "d", "n1", "n2", "n3")] == ["a", "n1", "b", "n2", "c", "n3", "d"]


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


class Gates(nn.Module):
    """PyTorch's recurrent cells between neurons, and a module of the user's with two lines that cannot be deployed."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.gru, self.lstm, self.attention = nn.GRU(8, 8), nn.LSTMCell(8, 8), nn.MultiheadAttention(8, 2)
        self.n1, self.n2, self.n3, self.odd = LIF(), LIF(), LIF(), Odd()
        self.h = self.s = None

    def forward(self, x):
        y, self.h = self.gru(self.n1(self.a(x))[None], self.h)
        self.s = self.lstm(self.n2(self.b(y[0])), self.s)
        x = self.attention(self.s[0], self.s[0], self.s[0])[0]
        return self.d(self.n3(self.odd(self.c(x))))


class Odd(nn.Module):
    def forward(self, x):
        x = torch.softmax(x, -1)
        return x.sort()[0]


def test_the_gates_of_a_recurrent_layer_are_one_blocker_and_two_lines_of_a_module_are_two():
    found = check(Gates(), input_shape=(6,), steps=STEPS)
    rows = [(o.name, o.operation) for o in found.operations if o.verdict is Verdict.IMPOSSIBLE]
    assert [name for name, _ in rows] == ["gru", "lstm", "attention", "odd", "odd"]
    assert rows[0][1] == "unsafe_split, mul, add, tanh, sub"
    assert [o for name, o in rows if name == "odd"] == ["_softmax.default", "sort.default"]
    assert [d.message for d in found.blockers][:2] == [
        "5 operations of module 'gru' have no place in a spiking network on a chip: unsafe_split, mul, add, tanh, sub",
        "5 operations of module 'lstm' have no place in a spiking network on a chip: unsafe_split, sigmoid, tanh, mul, add",
    ]
    assert len(found.blockers) == 5
    assert all(d.loc is not None and d.help for d in found.blockers)


LEFT = {"v": torch.zeros(1, 5)}


class Remembering(nn.Module):
    """Every answer depends on all earlier ones."""

    def __init__(self):
        super().__init__()
        self.a, self.n, self.d = nn.Linear(6, 5), LIF(), nn.Linear(5, 2)

    def forward(self, x):
        LEFT["v"] = LEFT["v"] + self.a(x)
        return torch.softmax(self.d(self.n(LEFT["v"])), -1)


def test_state_that_outlives_a_sample_is_listed_beside_the_rest():
    found = check(Remembering(), input_shape=(6,), steps=STEPS)
    assert "SNN128" in [d.code for d in found.blockers]
    assert "state outside the network" in [o.operation for o in found.operations]


def test_what_the_target_refuses_has_its_verdict_too():
    net = nn.Sequential(nn.Linear(6, 5), LIF(leak=9.0), nn.Linear(5, 2))
    found = check(net, input_shape=(6,), steps=STEPS)
    (blocker,) = found.blockers
    (row,) = [o for o in found.operations if o.verdict is Verdict.IMPOSSIBLE]
    assert (row.note, row.way_out, row.operation) == (blocker.message, blocker.help, "neuron")


def test_rows_are_plain_data():
    found = check(FiveBlockers(), input_shape=(12,), steps=STEPS)
    rows = json.loads(json.dumps([o.to_json() for o in found.operations]))
    assert {tuple(row) for row in rows} == {("name", "operation", "verdict", "note", "location", "way_out")}


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


class Volume(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.lif = nn.Conv3d(1, 2, 3), LIF()

    def forward(self, x):
        return self.lif(self.conv(x[:, None])).flatten(1)


def test_what_only_the_capture_can_refuse_is_a_blocker_too():
    torch.manual_seed(0)
    found = check(Volume(), input_shape=(3, 4, 4), steps=STEPS)
    assert [d.code for d in found.blockers] == ["SNN121"]
    assert found.blockers[0].loc.file.endswith("test_survey.py")

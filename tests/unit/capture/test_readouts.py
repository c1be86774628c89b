"""Loops inside forward that make their own readout, of every length; states and outputs in odd containers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from agreement import agrees
from torch import nn

import snncompile
from snncompile.capture.capture import capture
from snncompile.errors import CompileError


class Loop(nn.Module):
    def __init__(self, kind: str = "", dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.kind = nn.Linear(6, 8), nn.Linear(8, 3), kind
        self.to(dtype)

    def forward(self, x):
        v, total, out = torch.zeros(len(x), 8).to(x), torch.zeros(len(x), 3).to(x), []
        for frame in x.unbind(1):
            m = 0.7 * v + self.a(frame)
            s = (m >= 0.5).to(m)
            v = m - 0.5 * s
            y = self.b(s)
            out.append(y)
            total += y
        return {
            "stack": lambda: torch.stack(out, 1), "cat": lambda: torch.cat([o.unsqueeze(1) for o in out], 1), "sum": lambda: total,
            "mean": lambda: total / x.shape[1], "python sum": lambda: sum(out), "last": lambda: y, "head": lambda: torch.relu(self.b(v)),
            "two": lambda: (torch.stack(out, 1), total), "maximum": lambda: torch.stack(out, 1).max(1).values,
        }[self.kind]()  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "reduced"), [("sum", "sum"), ("mean", "mean"), ("python sum", "sum"), ("last", "last"), ("stack", ""), ("cat", "")]
)
@pytest.mark.parametrize("steps", [1, 4, 100])
def test_what_a_loop_adds_up_is_its_readout(kind, reduced, steps):
    captured = agrees(Loop(kind), (6,), layout="BT", steps=steps)
    assert captured.driver.reduced == (reduced,)
    assert captured.rolled.traced == 4


@pytest.mark.parametrize(("kind", "readout"), [("sum", "sum"), ("mean", "mean"), ("last", "last"), ("stack", "sum")])
def test_logits_are_what_the_network_itself_returns(kind, readout):
    made = snncompile.compile(Loop(kind), input_shape=(6,), steps=5, layout="BT", input_range=(0.0, 1.0, 0.0))
    assert made.readout == readout
    asked = snncompile.compile(Loop("mean"), input_shape=(6,), steps=5, layout="BT", input_range=(0.0, 1.0, 0.0), readout="last")
    assert asked.readout == "last"


def test_a_head_behind_the_loop_is_the_readout_of_every_step():
    assert agrees(Loop("head"), (6,), layout="BT", steps=5).driver.reduced == ("last",)


def test_a_sequence_and_its_sum_are_two_outputs():
    assert agrees(Loop("two"), (6,), layout="BT", steps=5).driver.reduced == ("", "sum")


def test_a_thousand_steps_are_captured_from_four():
    assert agrees(Loop("mean"), (6,), layout="BT", steps=1000).rolled.traced == 4


def test_a_maximum_over_time_is_refused_at_its_line():
    with pytest.raises(CompileError, match="works along the time axis") as caught:
        capture(Loop("maximum"), input_shape=(6,), steps=4, layout="BT")
    assert caught.value.code == "SNN123"
    assert "test_readouts.py:" in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_loops_in_other_precisions(dtype):
    agrees(Loop("stack", dtype), (6,), layout="BT", steps=5)


@dataclass
class State:
    v: torch.Tensor
    spikes: int = 0


class InAndOut(nn.Module):
    """A state in a dataclass goes in and out of every call."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x, state=None):
        state = State(torch.zeros(len(x), 8)) if state is None else state
        m = 0.7 * state.v + self.a(x)
        s = (m >= 0.5).float()
        return self.b(s), replace(state, v=m - 0.5 * s)


class Kept(InAndOut):
    """The same state in an attribute; the output is a dataclass."""

    def __init__(self) -> None:
        super().__init__()
        self.state = None

    def forward(self, x):
        y, self.state = super().forward(x, self.state)
        return State(y)


def test_a_dataclass_that_goes_in_and_out_is_state():
    captured = agrees(InAndOut(), (6,))
    assert captured.driver.carried is not None
    assert [n.reset.value for n in captured.graph.nodes if n.kind == "neuron"] == ["subtract"]


def test_a_dataclass_as_attribute_and_as_output():
    agrees(Kept(), (6,))


class Mixed(InAndOut):
    def forward(self, x):
        return self.b((self.a(x) >= 0.5).float())


def test_a_network_that_mixes_precisions_is_told_so():
    with pytest.raises(CompileError, match="mixes precisions") as caught:
        capture(Mixed().double(), input_shape=(6,), steps=3)
    assert caught.value.code == "SNN113"
    assert "test_readouts.py:" in str(caught.value)

"""State that goes in and out of every call, plain functions, delays in lists, precisions other than float32, long loops."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import snntorch
import torch
from agreement import agrees
from torch import nn

from snncompile.capture.capture import capture
from snncompile.capture.check import check_capture
from snncompile.errors import CompileError
from snncompile.ir.linear_ops import Delay
from snncompile.ir.neuron import Neuron


def lif(v, i):
    m = 0.5 * v + i
    s = (m >= 0.5).to(m.dtype)
    return s, m - 0.5 * s


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2, self.v = nn.Linear(6, 8), nn.Linear(8, 3), None
        with torch.no_grad():
            self.fc1.weight.mul_(3)

    def fire(self, x):
        v = torch.zeros(len(x), 8, dtype=x.dtype) if self.v is None else self.v
        s, self.v = lif(v, self.fc1(x))
        return s


class OneState(Base):
    def forward(self, x, state=None):
        s, state = lif(torch.zeros(len(x), 8) if state is None else state, self.fc1(x))
        return self.fc2(s), state


class StateOfManyKinds(Base):
    def forward(self, x, state=None):
        v = torch.zeros(len(x), 8) if state is None else state["layer"][0]
        s, v = lif(v, self.fc1(x))
        return self.fc2(s), {"layer": (v, None), "spikes": s}


class TwoMembranes(Base):
    def __init__(self) -> None:
        super().__init__()
        self.lif1, self.lif2 = snntorch.Leaky(beta=0.8), snntorch.Leaky(beta=0.7)

    def forward(self, x, mem1, mem2):
        spk, mem1 = self.lif1(self.fc1(x), mem1)
        spk, mem2 = self.lif2(self.fc2(spk), mem2)
        return spk, mem1, mem2


class Packed(Base):
    def init_state(self, batch):
        return torch.full((batch, 8), 0.2), torch.zeros(batch, 3)

    def forward(self, x, v, out):
        s, v = lif(v, self.fc1(x))
        out = 0.9 * out + self.fc2(s)
        return out, (v, out)


class KeyedState(Base):
    def forward(self, x, v=None):
        s, v = lif(torch.zeros(len(x), 8) if v is None else v, self.fc1(x))
        return {"logits": self.fc2(s), "spikes": s, "v": v}


@pytest.mark.parametrize("model", [OneState, StateOfManyKinds, TwoMembranes, Packed, KeyedState], ids=lambda m: m.__name__)
def test_state_that_goes_in_and_out_is_state_and_no_output(model):
    captured = agrees(model(), (6,))
    assert list(captured.graph.outputs) == (["logits", "spikes"] if model is KeyedState else ["out"])
    assert captured.decisions[0].what == "state that goes in and out of every call"


def test_a_first_state_comes_from_the_networks_own_method():
    first = next(n for n in agrees(Packed(), (6,)).graph.nodes if isinstance(n, Neuron))
    assert first.v_init.flat[0] == pytest.approx(0.2)


def test_an_optional_argument_that_is_no_state_is_left_alone():
    class Masked(Base):
        def forward(self, x, mask=None):
            s = self.fire(x)
            return self.fc2(s if mask is None else s * mask), s

    captured = capture(Masked(), input_shape=(6,), steps=4)
    assert captured.decisions == ()
    assert list(captured.graph.outputs) == ["out0", "out1"]


def test_a_function_without_modules_is_captured():
    torch.manual_seed(0)
    w, u = torch.randn(8, 6), torch.randn(3, 8)

    def network(x, v=None):
        s, v = lif(torch.zeros(len(x), 8) if v is None else v, x @ w.T)
        return s @ u.T, v

    agrees(network, (6,))


def listed(delay):
    class Listed(Base):
        def forward(self, x):
            if self.v is None:
                self.past = [torch.zeros(1, 8) for _ in range(delay)]
            self.past.append(self.fire(x))
            return self.fc2(self.past.pop(0))

    return Listed


class Queue(Base):
    def __init__(self) -> None:
        super().__init__()
        self.past = deque(maxlen=3)

    def forward(self, x):
        self.past.append(self.fire(x))
        return self.fc2(self.past[0] if len(self.past) == 3 else torch.zeros_like(self.past[0]))


class Growing(Base):
    def __init__(self) -> None:
        super().__init__()
        self.past = []

    def forward(self, x):
        self.past.append(self.fire(x))
        return self.fc2(self.past[-1] + 0.5 * self.past[-3] if len(self.past) > 2 else self.past[-1])


@pytest.mark.parametrize(("model", "delays"), [(listed(2), 2), (listed(4), 4), (Queue, 2), (Growing, 2)])
def test_spikes_kept_in_python_lists_are_delays(model, delays):
    assert len(agrees(model(), (6,), steps=10).graph.of(Delay)) == delays


@pytest.mark.parametrize("first", ["zeros", "nothing"])
def test_the_input_of_the_step_before_is_read_through_a_delay(first):
    class Differences(Base):
        last = None

        def forward(self, x):
            if self.last is None:
                self.last = torch.zeros_like(x) if first == "zeros" else None
            change = x if self.last is None else x - self.last
            self.last = x
            return self.fc2(self.fire(change))

    assert len(agrees(Differences(), (6,)).graph.of(Delay)) == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_networks_in_other_precisions_are_captured(dtype):
    class Plain(Base):
        def forward(self, x):
            return self.fc2(self.fire(x))

    captured = agrees(Plain().to(dtype), (6,))
    assert captured.driver.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    assert bool(captured.decisions) is (dtype is not torch.float64)


class Loop(Base):
    def forward(self, x):
        v, out = torch.zeros(x.shape[1], 8), []
        for frame in x:
            s, v = lif(v, self.fc1(frame))
            out.append(self.fc2(s))
        return torch.stack(out)


@pytest.mark.parametrize("steps", [1, 4, 100])
def test_a_loop_in_forward_is_captured_from_a_few_steps(steps):
    captured = agrees(Loop(), (6,), layout="TB", steps=steps)
    assert captured.rolled.traced == 4


def test_a_loop_over_a_thousand_steps_with_a_mean_at_its_end_is_captured_from_a_few():
    class Mean(Loop):
        def forward(self, x):
            return super().forward(x).mean(0)

    captured = capture(Mean(), input_shape=(6,), layout="TB", steps=1000)
    assert captured.rolled.traced == 4
    assert captured.driver.reduced == ("mean",)


def test_states_made_for_one_sample_are_run_sample_by_sample():
    class Buffered(Base):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("m", torch.zeros(1, 8))

        def forward(self, x):
            s = (self.m.mul_(0.5).add_(self.fc1(x)) > 0.5).float()
            self.m[s.bool()] = 0.0
            return self.fc2(s)

    agrees(Buffered(), (6,))


class TwoEars(Base):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(4, 8)

    def forward(self, left, right):
        v = torch.zeros(len(left), 8) if self.v is None else self.v
        s, self.v = lif(v, self.fc1(left) + self.other(right))
        return self.fc2(s)


def test_a_network_with_two_inputs_names_them_after_forwards_parameters():
    assert agrees(TwoEars(), [(6,), (4,)]).inputs == ("left", "right")
    assert agrees(TwoEars(), {"right": (4,), "left": (6,)}).inputs == ("right", "left")


def test_two_inputs_with_a_time_axis():
    class Both(TwoEars):
        def forward(self, left, right):
            v, out = torch.zeros(left.shape[1], 8), []
            for a, b in zip(left, right, strict=True):
                s, v = lif(v, self.fc1(a) + self.other(b))
                out.append(self.fc2(s))
            return torch.stack(out)

    agrees(Both(), {"left": (6,), "right": (4,)}, layout="TB")


def test_an_input_that_nothing_reads_is_named():
    class Deaf(TwoEars):
        def forward(self, left, right):
            return self.fc2(self.fire(left)) + 0 * right.sum() if right is None else self.fc2(self.fire(left))

    with pytest.raises(CompileError, match="depends on its input 'right'"):
        capture(Deaf(), input_shape=[(6,), (4,)], steps=4)


def test_samples_for_one_of_two_inputs_are_not_enough():
    net = TwoEars()
    captured = capture(net, input_shape=[(6,), (4,)], steps=3)
    with pytest.raises(CompileError, match=f"no samples for the network's input '{captured.inputs[1]}'") as caught:
        check_capture(captured, net, {captured.inputs[0]: np.zeros((1, 3, 6), dtype=np.float32)})
    assert caught.value.code == "SNN127"


class MembraneOut(Base):
    """A neuron called ``out``, of which the network gives the membrane: the output's label is the population's name."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.v = 0.0

        def forward(self, x):
            _, self.v = lif(self.v, x)
            return self.v

    def __init__(self) -> None:
        super().__init__()
        self.out = self.Last()

    def forward(self, x):
        return self.out(self.fc2(self.fire(x)))


def test_an_output_is_not_mistaken_for_the_population_of_its_name():
    captured = agrees(MembraneOut(), (6,))
    assert captured.graph.outputs == {"out_value": "out.v"}
    agrees(OneState(), (6,))

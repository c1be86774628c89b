"""One neuron in many spellings that mean the same arithmetic: each is captured as PyTorch runs it, spikes and membranes."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from agreement import agrees
from torch import nn

from snncompile.ir.neuron import Fire, Neuron, Reset
from snncompile.ir.program import NeuronProgram

H = 0.5


class Written(nn.Module):
    """Two dense layers around ``function(v, x) -> (spike, next v)``."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.function, self.v = nn.Linear(6, 8), nn.Linear(8, 3), function, None

    def forward(self, x):
        i = self.a(x)
        v = torch.zeros_like(i) if self.v is None else self.v
        s, self.v = self.function(v, i)
        return self.b(s)


class Surrogate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, alpha=2.0, *, scale=None):
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None, None


def plain(v: torch.Tensor, x: torch.Tensor, h: float) -> tuple[torch.Tensor, torch.Tensor]:
    m = 0.7 * v + x
    s = (m > h).to(x)
    return s, m - h * s


with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # scripting is on its way out of PyTorch
    scripted = torch.jit.script(plain)


def charge(v, x):
    return 0.7 * v + x


def masked(m, how):
    s = m > H
    if how == "fill":
        m.masked_fill_(s, 0.0)
    elif how == "assign":
        m[s] = 0.1
    elif how == "subtract":
        m[s] -= H
    else:
        m[s] *= 0.25
    return s.float(), m


def written(m, whole):
    s = (m > H).float()
    if whole:
        m[:] = m - s * H
    else:
        m.copy_(m - s * H)
    return s, m


def straight_through(m):
    soft = torch.sigmoid(5 * (m - H))
    s = (m > H).float()
    s = (s - soft).detach() + soft
    return s, m - s * H


def with_reset(m, s):
    return s, m - H * s


def truth(m, s):
    return s.float(), torch.where(s, m - H, m)


CLAMPS = {
    "torch.minimum": lambda m: torch.minimum(m, torch.full_like(m, H)), "torch.clamp": lambda m: torch.clamp(m, max=H),
    "torch.where": lambda m: torch.where(m > H, H, m), "relu": lambda m: m - torch.relu(m - H),
    "fmin": lambda m: torch.fmin(m, torch.tensor(H)),
}  # fmt: skip
BOUNDS = {"clamp": lambda m: m.clamp(-0.2, H), "hardtanh": lambda m: nn.functional.hardtanh(m, -0.2, H)}
SUBTRACTING = {
    "heaviside": lambda v, x: with_reset(m := charge(v, x), torch.heaviside(m - H, torch.zeros(1))),
    "sign, then relu": lambda v, x: with_reset(m := charge(v, x), torch.relu(torch.sign(m - H))),
    "sign between bounds": lambda v, x: with_reset(m := charge(v, x), torch.sign(m - H).clamp(0, 1)),
    "sign compared": lambda v, x: with_reset(m := charge(v, x), (torch.sign(m - H) > 0).float()),
    "relu compared": lambda v, x: with_reset(m := charge(v, x), (torch.relu(m - H) > 0).float()),
    "ceil between bounds": lambda v, x: with_reset(m := charge(v, x), torch.ceil(m - H).clamp(0, 1)),
    "sigmoid above a half": lambda v, x: with_reset(m := charge(v, x), (torch.sigmoid(4 * (m - H)) > 0.5).float()),
    "sigmoid rounded": lambda v, x: with_reset(m := charge(v, x), torch.round(torch.sigmoid(4 * (m - H)))),
    "tanh above zero": lambda v, x: with_reset(m := charge(v, x), (torch.tanh(m - H) > 0).float()),
    "straight through": lambda v, x: straight_through(charge(v, x)),
    "times one": lambda v, x: with_reset(m := charge(v, x), (m > H) * 1.0),
    "to": lambda v, x: with_reset(m := charge(v, x), (m > H).to(m)),
    "through float64": lambda v, x: with_reset(m := charge(v, x), (m > H).double().float()),
    "type_as": lambda v, x: with_reset(m := charge(v, x), (m > H).type_as(m)),
    "where on truth": lambda v, x: truth(m := charge(v, x), m > H),
    "logical_and": lambda v, x: truth(m := charge(v, x), torch.logical_and(m > H, torch.ones_like(m, dtype=torch.bool))),
    "addcmul": lambda v, x: with_reset(m := torch.addcmul(x, v, torch.tensor(0.7)), (m > H).float()),
    "addcdiv": lambda v, x: with_reset(m := torch.addcdiv(x, v, torch.tensor(2.0)), (m > H).float()),
    "nan_to_num": lambda v, x: with_reset(m := torch.nan_to_num(charge(v, x)), (m > H).float()),
    "einsum": lambda v, x: with_reset(m := charge(v, torch.einsum("bi,ij->bj", x, 1.5 * torch.eye(8))), (m > H).float()),
    "mask, subtract": lambda v, x: masked(charge(v, x), "subtract"),
    "copy_": lambda v, x: written(torch.empty_like(x).copy_(charge(v, x)), False),
    "assigned as a whole": lambda v, x: written(charge(v, x), True),
    "in place": lambda v, x: with_reset(m := v.clone().mul_(0.7).add_(x), (m > H).float()),
    "autograd function": lambda v, x: with_reset(m := charge(v, x), Surrogate.apply(m - H, 3.0)),
    "scripted": lambda v, x: scripted(v, x, H),
}  # fmt: skip
SETTING = {
    "mask, fill": lambda v, x: masked(charge(v, x), "fill"),
    "mask, assign": lambda v, x: masked(charge(v, x), "assign"),
    "mask, multiply": lambda v, x: masked(charge(v, x), "multiply"),
    "lerp": lambda v, x: (s := ((m := torch.lerp(v, x, 0.3)) > H).float(), torch.lerp(m, torch.zeros_like(m), s)),
    "mul_": lambda v, x: (s := ((m := charge(v, x)) > H).float(), m.mul_(1 - s)),
    "not": lambda v, x: ((s := (m := charge(v, x)) > H).float(), m * ~s),
}


def neuron(function: Any) -> Neuron:
    (found,) = agrees(Written(function), (6,), steps=9).graph.of(Neuron)
    assert isinstance(found, Neuron)
    return found


@pytest.mark.parametrize("name", CLAMPS)
@pytest.mark.parametrize("strict", [True, False])
def test_a_membrane_that_a_binary_spike_clamps_is_set_to_its_threshold(name, strict):
    def clamped(v, x):
        m = charge(v, x)
        return (m > H if strict else m >= H).float(), CLAMPS[name](m)

    found = neuron(clamped)
    assert found.reset is Reset.SET
    assert float(found.reset_value.flat[0]) == H


CHOSEN = {
    "m > h, h, m": lambda m, h: torch.where(m > h, h, m),
    "m >= h, h, m": lambda m, h: torch.where(m >= h, h, m),
    "m < h, m, h": lambda m, h: torch.where(m < h, m, h),
    "m <= h, m, h": lambda m, h: torch.where(m <= h, m, h),
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("name", CHOSEN)
@pytest.mark.parametrize("limit", [lambda m: H, lambda m: torch.full_like(m, H)], ids=["number", "tensor"])
def test_the_smaller_of_two_chosen_by_another_comparison_than_the_spikes(name, strict, limit):
    def clamped(v, x):
        m = charge(v, x)
        return (m > H if strict else m >= H).float(), CHOSEN[name](m, limit(m))

    found = neuron(clamped)
    assert (found.reset, float(found.reset_value.flat[0]), found.fire) == (Reset.SET, H, Fire.STEP_GT if strict else Fire.STEP_GE)


def test_a_choice_that_is_not_by_the_values_themselves_stays_one():
    """where(m > h, m, 0) is no maximum."""
    found = neuron(lambda v, x: (((m := charge(v, x)) > H).float(), torch.where(m > H, torch.zeros_like(m), m)))
    assert (found.reset, float(found.reset_value.flat[0])) == (Reset.SET, 0.0)


@pytest.mark.parametrize("name", BOUNDS)
def test_both_bounds_of_a_membrane_are_its_reset_and_its_floor(name):
    found = neuron(lambda v, x: (((m := charge(v, x)) > H).float(), BOUNDS[name](m)))
    assert (found.reset, float(found.reset_value.flat[0])) == (Reset.SET, H)
    assert found.v_min is not None
    assert float(found.v_min.flat[0]) == pytest.approx(-0.2)


@pytest.mark.parametrize("name", SUBTRACTING)
def test_spellings_of_a_reset_by_subtraction(name):
    found = neuron(SUBTRACTING[name])
    assert found.reset is Reset.SUBTRACT
    assert float(found.theta.flat[0]) == pytest.approx(H)


@pytest.mark.parametrize("name", SETTING)
def test_spellings_of_a_reset_to_a_value(name):
    assert neuron(SETTING[name]).reset is Reset.SET


class Adapting(nn.Module):
    """An adaptive threshold; with a negative leak the membrane of the step before counts against the comparison."""

    def __init__(self, leak, follows):
        super().__init__()
        self.leak, self.follows, self.v, self.a = leak, follows, torch.zeros(1), torch.zeros(1)

    def forward(self, x):
        theta = 1 + 0.3 * self.a
        m = self.leak * self.v + x
        s = (m >= theta).float()
        self.v = m - s * (theta if self.follows else 1)
        self.a = 0.9 * self.a + s
        return s


@pytest.mark.parametrize("follows", [False, True])
@pytest.mark.parametrize("leak", [0.5, -0.5])
def test_an_adaptive_threshold_beside_a_leak_of_either_sign(leak, follows):
    (found,) = agrees(Adapting(leak, follows), (6,), steps=9).graph.of(Neuron)
    assert isinstance(found, Neuron)
    assert found.adapt_jump is not None
    assert float(found.leak.flat[0]) == leak
    assert float(found.adapt_jump.flat[0]) == pytest.approx(0.3)
    assert found.adapt_reset is follows


def test_a_graded_spike_beside_a_comparison_keeps_its_two_populations():
    torch.manual_seed(0)
    a, b = nn.Linear(6, 8), nn.Linear(16, 3)
    graph = agrees(lambda x: b(torch.cat([torch.relu(a(x) - H), (a(x) > H).float()], 1)), (6,)).graph
    assert len(graph.of(Neuron)) == 2


@pytest.mark.parametrize(
    "function",
    [
        lambda v, x: ((torch.sign((m := charge(v, x)) - H) + 1) / 2, m),
        lambda v, x: (s := ((m := charge(v, x)) > H).float() - (m < -H).float(), m - H * s),
    ],
    ids=["half a spike at the threshold", "ternary"],
)
def test_what_is_no_spike_is_a_program_of_its_own(function):
    assert agrees(Written(function), (6,), steps=9).graph.of(NeuronProgram)

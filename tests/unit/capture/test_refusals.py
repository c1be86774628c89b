"""What cannot be captured faithfully is refused, with the reason and the user's line; what looks odd but is right is taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import snncompile
from snncompile.capture.capture import capture
from snncompile.errors import CompileError


class Written(nn.Module):
    """Two dense layers around a function of the user's."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.function, self.a, self.b = function, nn.Linear(6, 8), nn.Linear(8, 3)
        self.v, self.t = None, 0

    def forward(self, x):
        return self.function(self, x)

    def lif(self, i):
        v = torch.zeros_like(i) if self.v is None else self.v
        m = 0.5 * v + i
        s = (m >= 0.3).float()
        self.v = m - 0.3 * s
        return s


def truth_values(net, x):
    return net.b(net.lif(net.a(x.bool().float())))


def whole_currents(net, x):
    return net.b(net.lif((net.a(x) * 3).int().float()))


def padded_with_a_half(net, x):
    return net.b(functional.pad(net.lif(net.a(x))[:, 1:7], (1, 1), value=0.5))


def unchanged(net, x):
    return x


def random(net, x):
    return net.b(net.lif(net.a(x) + torch.randn(8)))


def branch(net, x):
    s = net.lif(net.a(x))
    return net.b(s) if s.sum() > 2 else net.b(1 - s)


def softmax(net, x):
    return net.b(torch.softmax(net.lif(net.a(x)), dim=1))


def rounding(net, x):
    i = net.a(x)
    v = torch.zeros_like(i) if net.v is None else net.v
    m = torch.floor(v * v) + i
    s = (m >= 0.3).float()
    net.v = m * (1 - s)
    return net.b(s)


REFUSED = [
    (truth_values, "SNN121", "_to_copy"),
    (whole_currents, "SNN120", "not affine"),
    (padded_with_a_half, "SNN121", "padding with 0.5"),
    (unchanged, "SNN114", "is its input"),
    (random, "SNN116", "random numbers in evaluation mode"),
    (branch, "SNN112", "decides by the value"),
    (softmax, "SNN121", "softmax"),
    (rounding, "SNN120", "a program has no operation 'floor.default'"),
]


@pytest.mark.parametrize(("function", "code", "words"), REFUSED, ids=lambda v: getattr(v, "__name__", ""))
def test_what_has_no_faithful_form_is_refused_at_its_line(function, code, words):
    with pytest.raises(CompileError) as caught:
        capture(Written(function), input_shape=(6,), steps=4)
    assert caught.value.code == code
    assert words in str(caught.value)
    if code not in ("SNN114",):
        assert "test_refusals.py:" in str(caught.value)
    assert caught.value.diagnostics[0].help


def test_weights_that_are_no_numbers_are_named():
    net = Written(lambda net, x: net.b(net.lif(net.a(x))))
    with torch.no_grad():
        net.a.weight[0, 0] = float("nan")
    with pytest.raises(CompileError, match=r"'a\.weight' holds NaN"):
        capture(net, input_shape=(6,), steps=4)


def where_on_a_float_spike(net, x):
    i = net.a(x)
    v = torch.zeros_like(i) if net.v is None else net.v
    m = 0.5 * v + i
    s = (m >= 0.3).float()
    net.v = torch.where(s > 0, torch.zeros_like(m), m)
    return net.b(s)


def masked_assignment(net, x):
    i = net.a(x)
    v = torch.zeros_like(i) if net.v is None else net.v
    v = 0.5 * v + i
    s = (v >= 0.3).float()
    v[s > 0] = 0.0
    net.v = v
    return net.b(s)


def spikes_cast_to_int(net, x):
    return net.b(net.lif(net.a(x)).int().float())


def shuffled(net, x):
    return net.b(net.lif(net.a(x)).view(-1, 2, 4).transpose(1, 2).reshape(-1, 8))


@pytest.mark.parametrize("function", [where_on_a_float_spike, masked_assignment, spikes_cast_to_int, shuffled], ids=lambda f: f.__name__)
def test_odd_spellings_that_are_right_compile_and_agree_with_pytorch(function):
    x = np.random.default_rng(0).uniform(0, 2, (4, 1, 6))
    compiled = snncompile.compile(Written(function), input_shape=(6,), steps=5, calibration=x)
    assert len(compiled.result.populations) == 2


def test_a_change_after_the_first_steps_is_seen():
    def later(net, x):
        net.t += 1
        return net.b(net.lif(net.a(x) + (0.0 if net.t <= 4 else 0.2)))

    captured = capture(Written(later), input_shape=(6,), steps=6)
    assert captured.rolled.per_step
    assert captured.rolled.traced == 6


def never(i, net, limit):
    """A neuron with this threshold, reset by subtraction."""
    m = (torch.zeros_like(i) if net.v is None else net.v) + i
    s = (m >= limit).float()
    net.v = m - s * limit
    return s


@pytest.mark.parametrize("limit", [float("nan"), float("inf")])
def test_a_threshold_that_makes_everything_nan_is_said_with_its_line(limit):
    net = Written(lambda net, x: net.b(never(net.a(x), net, limit)))
    with pytest.raises(CompileError, match="computes NaN or infinity in step") as caught:
        capture(net, input_shape=(6,), steps=5)
    assert caught.value.code == "SNN125"
    assert caught.value.diagnostics[0].loc.file.endswith("test_refusals.py")


@pytest.mark.parametrize(
    "given",
    [
        (1.0, 0.0, 0.0),
        (0.0, float("inf"), 0.0),
        (float("nan"), 1.0, 0.0),
        (0.0, 1.0, -1.0),
        (0.0, 1.0, 2.0),
        (0.0, 1.0, 0.3),
        (0.0, 1.0, 20.0),
        (0.0,),
        (0.0, 1.0, 0.0, 0.0),
        ("low", "high"),
        ((0.0, 1.0), 1.0),
        1.0,
    ],
)
def test_an_input_range_that_is_none_is_refused(given):
    net = Written(lambda net, x: net.b(net.lif(net.a(x))))
    with pytest.raises(CompileError) as caught:
        snncompile.compile(net, input_shape=(6,), steps=3, input_range=given)
    assert caught.value.code == "SNN207"
    assert snncompile.check(net, input_shape=(6,), steps=3, input_range=given).blockers[0].code == "SNN207"


def test_a_range_without_a_grid_has_none():
    net = Written(lambda net, x: net.b(net.lif(net.a(x))))
    two, three = (snncompile.compile(net, input_shape=(6,), steps=3, input_range=given) for given in ((0, 1), (0.0, 1.0, 0.0)))
    assert two.settings["input_range"] == three.settings["input_range"] == [0.0, 1.0, 0.0]
    assert two.result.notes == three.result.notes
    assert snncompile.check(net, input_shape=(6,), steps=3, input_range=(0, 1)).blockers == ()


def test_a_grid_may_be_written_down_rounded():
    net = Written(lambda net, x: net.b(net.lif(net.a(x))))
    made = snncompile.compile(net, input_shape=(6,), steps=3, input_range=(0.0, 1.0, 0.00392))
    assert "256 levels, as declared" in made.result.notes[0]


@pytest.mark.parametrize(
    ("layer", "running"), [(nn.Linear(9, 2), "module '2.1' was running, Linear(in_features=9, out_features=2, bias=True)"),
                           (nn.Sequential(nn.Linear(9, 2)), "module '2.1.0' was running, Linear(in_features=9, out_features=2, bias=True)")]
)  # fmt: skip
def test_a_layer_that_cannot_be_run_is_named_by_its_path(layer, running):
    """Within nn.Sequential there is no line of the user's to point at."""
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Sequential(nn.Linear(5, 5), layer))
    with pytest.raises(CompileError) as caught:
        capture(net, input_shape=(4,), steps=3)
    assert caught.value.code == "SNN113"
    assert running in caught.value.diagnostics[0].notes

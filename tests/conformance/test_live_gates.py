"""Channel attention (SECA): by calibrated gates, exactly on the chip, or with its gates on the host, the choice's effect stated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import snncompile
from snncompile.errors import CompileError
from snncompile.ir.program import IntProgram
from snncompile.online import SECA, calibrate_gates
from snncompile.pipeline import original
from snncompile.target import load_target
from snncompile.verify import Program, verify

STEPS = 3


class LIF(nn.Module):
    def __init__(self):
        super().__init__()
        self.v = None

    def forget(self):
        self.v = None

    def forward(self, x):
        v = x if self.v is None else 0.5 * self.v + x
        s = (v >= 0.4).float()
        self.v = v - 0.4 * s
        return s


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.attention, self.lif = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), SECA(6, steps=STEPS), LIF()
        self.fc = nn.Linear(6 * 36, 4)
        with torch.no_grad():
            self.attention.conv.weight.copy_(torch.tensor([[[2.0, -3.0, 6.0, 1.0, -2.0]]]))

    def forward(self, x, init=False):
        if init:
            self.attention.forget()
            self.lif.forget()
        return self.fc(self.lif(self.attention(self.norm(self.conv(x)))).flatten(1))


def network():
    net = Net().eval()
    x = (np.random.default_rng(0).random((12, 1, 6, 6)) * np.linspace(0.2, 4, 12)[:, None, None, None]).astype(np.float32)
    calibrate_gates(net, [torch.tensor(x)], STEPS)
    return net, x


def compiled(net, x, seca):
    return snncompile.compile(net, input_shape=(1, 6, 6), steps=STEPS, calibration=x, seca=seca)


def checked(net, x, program, backends):
    made = Program(graph=program.result.graph, schedule=program.schedule, populations=program.result.populations)
    found = verify(made, {"x": x[:, None]}, original=original(program, net, x[:, None]), backends=backends, timeout_s=240)
    assert found.ok, found.failures
    assert all(r.differing_bits == 0 for r in found.backends)
    return found


def attention_line(program):
    (line,) = [d for d in program.decisions if "SECA" in d.what]
    return line


def test_calibrated_gates_are_the_default_and_their_effect_is_measured():
    net, x = network()
    program = compiled(net, x, "calibrated")
    assert not program.result.graph.of(IntProgram)
    assert "seca" not in program.settings
    assert program.stand_ins
    effect = attention_line(program).effect
    assert "12 samples" in effect
    assert "apart by 0.0e+00" not in effect  # these samples differ in brightness, and so do their gates


def test_exact_gates_follow_the_sample_on_every_executor():
    net, x = network()
    program = compiled(net, x, "exact")
    gate, product = program.result.graph.of(IntProgram)
    assert [i.op for i in gate.instructions] == ["table"]
    assert [i.op for i in product.instructions] == ["mul"]
    assert not program.stand_ins
    assert program.settings["seca"] == "exact"
    assert "2 neuron programs" in attention_line(program).value or "on the chip" in attention_line(program).value
    found = checked(net, x, program, ("reference", "onnx", "lava"))
    assert found.dynamics.populations[product.name].compared == 12 * STEPS * 6 * 36
    assert net.attention.fixed  # the user's network is left as it is


def test_gates_on_the_host_are_the_same_integers_later():
    net, x = network()
    exact, host = compiled(net, x, "exact"), compiled(net, x, "host")
    gate = exact.result.graph.of(IntProgram)[0].name
    assert host.schedule.host == (gate,)
    latency = load_target("loihi2-sim").host_latency
    assert host.schedule.total_hops == exact.schedule.total_hops + 2 * latency
    assert f"{gate} (on the host)" in host.schedule.describe()
    assert str(latency) in attention_line(host).value
    for mine, theirs in zip(exact.result.graph.nodes, host.result.graph.nodes, strict=True):
        assert mine.name == theirs.name
    assert host.result.graph.by_name[gate].code == exact.result.graph.by_name[gate].code
    checked(net, x, host, ("reference", "lava"))


def test_a_target_without_a_host_says_so():
    with pytest.raises(CompileError, match="describes no host") as e:
        _ = replace(load_target("loihi2-sim"), quantities={}).host_latency
    assert e.value.code == "SNN314"


def test_live_gates_need_attention():
    with pytest.raises(CompileError, match="no channel attention") as e:
        snncompile.compile(nn.Sequential(nn.Linear(4, 3), LIF()), input_shape=(4,), steps=STEPS, seca="exact")
    assert e.value.code == "SNN141"
    with pytest.raises(CompileError, match="calibrated, exact or host"):
        snncompile.compile(nn.Sequential(nn.Linear(4, 3), LIF()), input_shape=(4,), steps=STEPS, seca="best")

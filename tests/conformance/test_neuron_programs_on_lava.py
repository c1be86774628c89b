"""Neuron programs from PyTorch to every executor, bit for bit, with their dynamics within the claim."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from random_programs import random_program_graph
from spikingjelly.activation_based import neuron
from torch import nn

import snncompile
from snncompile.errors import CompileError
from snncompile.ir.linear_ops import Input
from snncompile.ir.program import IntProgram
from snncompile.ir.text import from_text, to_text
from snncompile.mapping.schedule import schedule
from snncompile.passes import run_passes
from snncompile.pipeline import original
from snncompile.quantize import quantize
from snncompile.target import load_target
from snncompile.verify import Program, verify

STEPS = 8


def compiled(middle: nn.Module):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 32), middle, nn.Linear(32, 5)).eval()
    with torch.no_grad():
        net[0].weight *= 4
        net[0].bias.abs_()
    x = np.random.default_rng(0).random((50, STEPS, 20)).astype(np.float32)
    return net, x, snncompile.compile(net, input_shape=(20,), steps=STEPS, calibration=x)


def test_a_quadratic_neuron_of_spikingjelly_runs_on_lava_bit_for_bit():
    net, x, program = compiled(neuron.QIFNode())
    made = program.result.graph.of(IntProgram)
    assert len(made) == 1
    assert not made[0].saturates
    found = verify(
        Program(graph=program.result.graph, schedule=program.schedule, populations=program.result.populations), {"x": x},
        original=original(program, net, x), backends=("lava", "onnx", "reference"), timeout_s=240,
    )  # fmt: skip
    assert found.ok, found.failures
    assert [r.differing_bits for r in found.backends] == [0, 0, 0]
    spikes = found.dynamics.populations[made[0].name]
    assert spikes.compared == 50 * STEPS * 32
    assert spikes.differing == 0


def agree(seeds, backends):
    """Random programs run, and agree; how many, and with how many saturating."""
    ran = saturating = 0
    for seed in seeds:
        graph = random_program_graph(seed)
        generator = np.random.default_rng(seed)
        x = {n.name: generator.uniform(n.low, n.high, size=(3, graph.steps, *n.size)) for n in graph.of(Input)}
        folded, _ = run_passes(graph, probe={k: v[:1] for k, v in x.items()})
        try:
            result = quantize(folded, load_target("loihi2-sim"), calibration=x)
        except CompileError as e:
            if not {d.code for d in e.diagnostics} <= {"SNN301", "SNN302"}:
                raise
            continue
        made = Program(graph=result.graph, schedule=schedule(result.graph), populations=result.populations)
        found = verify(made, x, backends=backends, timeout_s=240)
        assert found.ok, (seed, found.failures)
        saturating += any(n.saturates for n in result.graph.of(IntProgram))
        text, tensors = to_text(result.graph)
        assert to_text(from_text(text, tensors)) == (text, tensors)
        ran += 1
    return ran, saturating


@settings(max_examples=12, deadline=None, derandomize=False)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_programs_agree_with_the_hop_accurate_reference_and_on_onnx_runtime(seed):
    agree([seed], ("reference", "onnx"))


def test_most_random_programs_run_and_some_saturate():
    ran, saturating = agree(range(24), ("onnx",))
    assert ran >= 18
    assert 0 < saturating < ran


def test_random_programs_agree_on_lava():
    ran, _ = agree(range(200, 204), ("lava",))
    assert ran >= 3


NONLINEAR = {
    "exponential": neuron.EIFNode,
    "Izhikevich": lambda: neuron.IzhikevichNode(a=0.2, b=0.3, tau_w=5.0),
    "KLIF": neuron.KLIFNode,
    "KLIF, subtracting": lambda: neuron.KLIFNode(v_reset=None, decay_input=False),
}


@pytest.mark.parametrize("make", NONLINEAR.values(), ids=NONLINEAR)
def test_dynamics_differ_in_at_most_one_of_ten_thousand_spikes(make):
    net, x, program = compiled(make())
    (made,) = program.result.graph.of(IntProgram)
    assert not made.saturates
    found = verify(
        Program(graph=program.result.graph, schedule=program.schedule, populations=program.result.populations), {"x": x},
        original=original(program, net, x), backends=("reference", "onnx"),
    )  # fmt: skip
    assert found.ok, found.failures
    spikes = found.dynamics.populations[made.name]
    assert spikes.compared == 50 * STEPS * 32
    assert spikes.differing <= spikes.compared / 1e4

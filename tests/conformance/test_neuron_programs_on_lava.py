"""Neuron programs from PyTorch to every executor, bit for bit, with their dynamics within the claim."""

from __future__ import annotations

import numpy as np
import torch
from spikingjelly.activation_based import neuron
from torch import nn

import snncompile
from snncompile.ir.program import IntProgram
from snncompile.pipeline import original
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

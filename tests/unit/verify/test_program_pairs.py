"""diff on neuron programs: PyTorch, graphs and integers follow each other; a difference is placed, and no cause is invented."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from spikingjelly.activation_based import neuron
from torch import nn

import snncompile
from snncompile.ir.interpret import interpret
from snncompile.ir.program import IntProgram, NeuronProgram
from snncompile.verify.localise import localise
from snncompile.verify.real import as_float
from snncompile.verify.rerun import Side

STEPS = 6


def compiled():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(10, 12), neuron.EIFNode(), nn.Linear(12, 3)).eval()
    with torch.no_grad():
        net[0].weight *= 4
        net[0].bias.abs_()
    x = np.random.default_rng(0).random((8, STEPS, 10)).astype(np.float32)
    return snncompile.compile(net, input_shape=(10,), steps=STEPS, calibration=x), {"x": x}


def test_an_integer_program_as_real_numbers_is_the_trained_one_up_to_rounding():
    program, x = compiled()
    real, trained = as_float(program.result.graph), program.float_graph
    (mine,), (theirs,) = real.of(NeuronProgram), trained.of(NeuronProgram)
    assert [i.op for i in mine.instructions] == [i.op for i in theirs.instructions]
    for a, b in zip(mine.constants, theirs.constants, strict=False):
        np.testing.assert_allclose(a.reshape(-1), b.reshape(-1), atol=1e-6)
    a, b = (interpret(g, x, record=[mine.name])[mine.name] for g in (real, trained))
    assert np.mean(a != b) < 0.02  # weights are rounded


def test_programs_are_compared_and_a_difference_is_placed_without_a_cause():
    program, x = compiled()
    whole = program.result.graph
    same = localise(Side(label="a", graph=program.float_graph), Side(label="b", graph=program.float_graph), x)
    assert same.place is None
    name = whole.of(IntProgram)[0].name
    n = program.float_graph.by_name[name]
    other = program.float_graph.map_nodes(lambda op: replace(n, constants=tuple(1.3 * c for c in n.constants)) if op.name == name else op)
    found = localise(Side(label="a", graph=program.float_graph), Side(label="b", graph=other), x)
    assert found.place.population == name
    assert found.explanation is None
    assert any("neuron program" in note for note in found.notes)
    mixed = localise(Side(label="graph", graph=as_float(whole)), Side(label="integers", graph=whole), x)
    (row,) = [r for r in mixed.populations if r.name == name]
    assert row.compared == 8 * STEPS * 12
    assert row.differing == 0
    assert mixed.place.population == "x"  # only the input's own rounding differs

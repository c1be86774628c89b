"""Large weights a few rows at a time give what all of them at once give."""

from dataclasses import replace

import numpy as np
import pytest
from population_nets import TARGET, graph_of, neuron, one_layer

from snncompile.ir.linear_ops import Conv2d, Input
from snncompile.ir.neuron import Fire, Reset, constant
from snncompile.numerics import few_levels
from snncompile.quantize import quantize
from snncompile.quantize.background import real_payloads, settle, silence
from snncompile.quantize.blockwise import blocks, per_row

STEPS = 16


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (7, 3), (5, 2**17), (300, 1000), (2, 0)])
def test_blocks_are_all_rows_in_order(rows, columns):
    parts = list(blocks(np.empty((rows, columns))))
    assert [k for part in parts for k in range(rows)[part]] == list(range(rows))
    assert all(part.stop - part.start == 1 or (part.stop - part.start) * columns <= 2**16 for part in parts)


def test_a_number_per_row_does_not_depend_on_the_blocks(monkeypatch):
    w = np.random.default_rng(0).normal(size=(50, 33))
    whole = per_row(lambda rows: np.abs(rows).sum(axis=1), w)
    monkeypatch.setattr("snncompile.quantize.blockwise._BLOCK", 100)
    assert np.array_equal(per_row(lambda rows: np.abs(rows).sum(axis=1), w), whole)


@pytest.mark.parametrize("calibrated", [False, True])
def test_the_program_does_not_depend_on_the_blocks(monkeypatch, calibrated):
    rng = np.random.default_rng(1)
    graph = one_layer(rng, inputs=40, outputs=30, bias=rng.normal(0, 0.1, (1, 30)))
    data = {"x": (rng.random((6, 5, 40)) < 0.4).astype(float)} if calibrated else None
    whole = quantize(graph, TARGET, calibration=data)
    monkeypatch.setattr("snncompile.quantize.blockwise._BLOCK", 64)
    monkeypatch.setattr("snncompile.quantize.moments._TOGETHER", 100)
    again = quantize(graph, TARGET, calibration=data)
    for a, b in zip(whole.graph.nodes, again.graph.nodes, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True) if isinstance(x, np.ndarray))


@pytest.mark.parametrize("levels", [1, 2, 3, 5, 16, 17, 200])
def test_levels_of_many_values_are_those_of_a_few(levels):
    values = np.random.default_rng(2).integers(0, levels, 20_000) * 3 - 7
    values[:levels] = np.arange(levels) * 3 - 7
    bits = next((b for b in (1, 2, 4) if levels <= 2**b), None)
    assert few_levels(values) == few_levels(values[:levels])
    assert few_levels(values) == (None if bits is None else (bits, -7, 3 if levels > 1 else 1))
    late = np.zeros(20_000, dtype=np.int64)
    late[-levels:] = np.arange(levels)
    assert (few_levels(late) is None) == (levels > 16)


def test_silence_is_computed_once_per_channel_and_settles_like_every_neuron():
    moved = 0
    for seed in range(10):
        graph = silent_map(np.random.default_rng(seed))
        real, whole = graph.by_name["n"], quantize(graph, TARGET).graph.by_name["n"]
        whole = replace(whole, bias=whole.bias[:, :, :1, :1] - 1)  # a bias that may be off by one membrane LSB
        total, sent = silence(real, whole, STEPS, 3)
        assert total.shape == sent.shape == (STEPS, 32, 1, 1)
        every = np.zeros((STEPS, 32, 4, 4), dtype=np.int64)
        few = settle(real, whole, total, sent, guard_bits=0)
        all_of_them = settle(real, whole, every, real_payloads(real, every.astype(float)), guard_bits=0)
        assert np.array_equal(np.broadcast_to(few.bias, (1, 32, 4, 4)), np.broadcast_to(all_of_them.bias, (1, 32, 4, 4)))
        moved += int((few.bias != whole.bias).sum())
    assert moved > 0


def silent_map(rng):
    """A convolution and neurons that come near their threshold without input."""
    leak = np.exp(-0.1)
    reach = (1 - leak ** (np.arange(32) % STEPS + 1)) / (1 - leak)
    bias = (0.6 / reach * (1 + rng.uniform(-1, 1, 32) * 1e-6)).reshape(1, 32, 1, 1)
    conv = Conv2d(name="w", inputs=("x",), weight=rng.normal(0, 0.3, (32, 2, 3, 3)), padding=(1, 1, 1, 1))
    fields = {"fire": Fire.STEP_GT, "reset": Reset.SET, "leak": constant(leak), "bias": bias, "theta": constant(0.6)}
    return graph_of(Input(name="x", size=(2, 4, 4), low=0.0, high=1.0, grid=1.0), conv, neuron("n", "w", **fields), steps=STEPS)

"""Every committed example: its checkpoint on the integer reference, in hardware time, on ONNX Runtime and on Lava's simulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import snncompile
from snncompile.capture.load import load_model
from snncompile.ir.integer import IntNeuron
from snncompile.verify import Program, verify

EXAMPLES = Path(__file__).parents[2] / "examples"
MODELS = sorted(EXAMPLES.glob("*/model.pt"))
SAMPLES = 3


def samples(loaded):
    """Digits where the network takes them, else random values on the grid of its input; steps differ where the data have steps."""
    if loaded.input_shape == (1, 28, 28):
        with np.load(EXAMPLES / "mnist_ottt" / "images.npz") as archive:
            return archive["x"][:SAMPLES].reshape(SAMPLES, 1, 1, 28, 28).astype(np.float64)
    low, high, grid = loaded.input_range or (0.0, 1.0, 1.0)
    shape = (SAMPLES, loaded.steps, *loaded.input_shape)
    return np.random.default_rng(0).integers(0, round((high - low) / grid), shape, endpoint=True) * grid + low


def test_there_are_examples():
    assert len(MODELS) >= 10


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.parent.name)
def test_an_example_is_the_same_bits_on_every_executor(path):
    loaded = load_model(path)
    x = samples(loaded)
    compiled = snncompile.compile(
        loaded.model, input_shape=loaded.input_shape, steps=loaded.steps, layout=loaded.layout, calibration=x,
        input_range=loaded.input_range, readout=loaded.readout,
    )  # fmt: skip
    program = Program(graph=compiled.result.graph, schedule=compiled.schedule, populations=compiled.result.populations)
    found = verify(program, {"x": x}, backends=("reference", "onnx", "lava"), timeout_s=900)
    assert found.ok, found.failures
    assert [(b.backend, b.differing_bits) for b in found.backends] == [("reference", 0), ("onnx", 0), ("lava", 0)]
    spiking = [n for n in compiled.result.graph.of(IntNeuron) if n.fire != "none"]
    assert spiking
    for b in found.backends:
        assert b.samples == SAMPLES
        assert b.populations > len(spiking) // 2
        assert b.compared_bits > 0

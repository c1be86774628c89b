"""Weights wider than the target's: two synapses that are one weight."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from population_nets import TARGET, differences, graph_of, image_net, images, neuron, one_layer

from snncompile.ir.integer import IntNeuron
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Add, Diagonal, Input, Linear
from snncompile.ir.neuron import Fire, Reset, constant
from snncompile.ir.population import ports
from snncompile.mapping import schedule
from snncompile.quantize import Options, dequantise, quantize
from snncompile.quantize.planes import planes, widest
from snncompile.verify import Program, verify

RNG = np.random.default_rng


@given(bits=st.integers(2, 16), width=st.integers(2, 31), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_two_planes_of_the_targets_width_are_the_weight(bits, width, seed):
    width = min(width, widest(bits))
    top = 2 ** (width - 1) - 1
    q = np.append(RNG(seed).integers(-top, top + 1, 20), [top, -top])
    found = planes(q, bits)
    assert np.array_equal(sum(plane * 2**shift for plane, shift in found), q)
    assert all(np.abs(plane).max() <= 2 ** (bits - 1) - 1 for plane, _ in found)
    assert len(found) == (1 if width <= bits else 2)


@pytest.mark.parametrize("bits", [9, 12, 15])
@pytest.mark.parametrize("reset", [Reset.SUBTRACT, Reset.SET])
def test_wide_weights_are_finer_and_as_exact(bits, reset):
    graph = image_net(RNG(2), reset=reset, leak=constant(0.5))
    x = images(RNG(0))
    narrow, wide = (quantize(graph, TARGET, calibration={"x": x}, options=Options(weight_bits=b)) for b in (8, bits))
    for one, two in zip(narrow.populations, wide.populations, strict=True):
        assert two.weight_error < one.weight_error * 2.0 ** (9.5 - two.weight_bits)
        assert two.exact or not one.exact
        assert two.synapses in (one.synapses, 2 * one.synapses)
    for n in wide.graph.of(IntNeuron):
        for p in ports(wide.graph, n):
            assert np.abs(p.synapse.weight).max() <= 127
    found = differences(graph, wide, {"x": x})
    assert all(found[p.name][0] == 0 for p in wide.populations if p.exact)
    back = dequantise(graph, wide)
    trained = graph.by_name["f"].weight  # at most 1.5 steps off, of a scale at most twice as coarse as needed
    assert np.allclose(back.by_name["f"].weight, trained, rtol=0, atol=3 * np.abs(trained).max() * 2.0 ** (1 - bits))


def test_a_spiking_layer_takes_both_synapses_and_the_network_moves_less():
    graph = one_layer(RNG(3), inputs=64, outputs=40, steps=8, leak=constant(0.5))
    x = {"x": RNG(4).integers(0, 2, (64, 8, 64))}
    exact = interpret(graph, x)["y"]
    flips = [
        np.sum(interpret(dequantise(graph, quantize(graph, TARGET, options=Options(weight_bits=b))), x)["y"] != exact) for b in (8, 15)
    ]
    assert flips[1] < flips[0] / 4


@pytest.mark.parametrize("bits", [12, 15])
def test_executors_agree_on_wide_weights(bits):
    result = quantize(image_net(RNG(5), recurrent=False), TARGET, calibration={"x": images(RNG(1))}, options=Options(weight_bits=bits))
    assert any(n.name.endswith("_fine") for n in result.graph.nodes)
    program = Program(graph=result.graph, schedule=schedule(result.graph), populations=result.populations)
    found = verify(program, {"x": images(RNG(2), 4)}, backends=("reference", "onnx", "lava"), timeout_s=240)
    assert [(b.backend, b.differing_bits) for b in found.backends] == [("reference", 0), ("onnx", 0), ("lava", 0)]


def test_a_population_whose_sums_leave_no_room_takes_fewer_bits():
    graph = one_layer(RNG(6), inputs=1024, outputs=3, steps=2, spikes=False, fire=Fire.NONE, reset=Reset.STATELESS, leak=constant(1.0))
    (report,) = quantize(graph, TARGET, options=Options(weight_bits=15)).populations
    assert report.weight_bits < 15


def test_names_of_second_synapses_do_not_collide():
    x = Input(name="x", size=(4,), low=0.0, high=1.0, grid=1.0)
    nodes = [
        x, Linear(name="w", inputs=("x",), weight=RNG(7).normal(size=(5, 4))), neuron("n", "w"),
        Linear(name="w_fine", inputs=("n",), weight=RNG(8).normal(size=(3, 5))), neuron("m", "w_fine"),
    ]  # fmt: skip
    graph = graph_of(*nodes)
    result = quantize(graph, TARGET, options=Options(weight_bits=12))
    assert {"w", "w_fine", "w_fine_2", "w_fine_fine"} <= set(result.graph.by_name)
    back = dequantise(graph, result)
    for name in ("w", "w_fine"):
        assert np.allclose(back.by_name[name].weight, graph.by_name[name].weight, rtol=0, atol=2.0**-9)


def test_trained_grids_keep_one_synapse():
    weight = RNG(9).choice([-0.3, 0.3], (6, 8))
    (report,) = (result := quantize(one_layer(RNG(9), weight=weight), TARGET, options=Options(weight_bits=15))).populations
    assert (report.weight_bits, report.weight_error < 1e-12, report.synapses) == (1, True, 48)
    assert not any(n.name.endswith("_fine") for n in result.graph.nodes)


def test_what_one_synapse_holds_as_well_keeps_one():
    x = Input(name="x", size=(4,), low=-1.0, high=1.0)
    relay = {"fire": Fire.NONE, "reset": Reset.STATELESS, "leak": constant(0.0), "theta": constant(0.0)}
    identity = [x, Diagonal(name="w", inputs=("x",), weight=np.full(4, 0.7)), neuron("r", "w", **relay)]
    last = [Linear(name="f", inputs=("x",), weight=RNG(0).normal(size=(3, 4))), neuron("n", "f")]
    first, second = quantize(graph_of(*identity, *last, y="n", z="r"), TARGET, options=Options(weight_bits=15)).populations
    assert (first.weight_bits, first.synapses) == (1, 4)
    assert (second.weight_bits > 8, second.synapses) == (True, 24)


def test_one_weight_a_neuron_that_takes_two_synapses_is_not_called_binary():
    x = Input(name="x", size=(4,), low=0.0, high=1.0, grid=1.0)
    one = neuron("n", "w", leak=constant(1.0), theta=constant(np.pi), reset_amount=constant(np.pi), bias=constant(2e3))
    graph = graph_of(x, Diagonal(name="w", inputs=("x",), weight=np.full(4, 0.7)), one)
    (report,) = quantize(graph, TARGET, options=Options(weight_bits=12)).populations
    assert (report.weight_bits > 8, report.synapses) == (True, 8)


@pytest.mark.parametrize("bits", [8, 15])
def test_a_population_whose_input_has_a_gain_holds_the_trained_grid_of_its_largest_port(bits):
    x = Input(name="x", size=(12,), low=0.0, high=1.0, grid=1.0)
    y = Input(name="y", size=(5,), low=0.0, high=1.0, grid=1.0)
    nodes = [
        x, y, Linear(name="w", inputs=("x",), weight=RNG(3).choice([-1, 0, 1], (5, 12)) * 0.00258),
        Diagonal(name="d", inputs=("y",), weight=np.ones(5)), Add(name="sum", inputs=("w", "d")),
    ]  # fmt: skip
    graph = graph_of(*nodes, neuron("n", "sum", gain=np.linspace(0.5, 2.0, 5)))
    result = quantize(graph, TARGET, options=Options(weight_bits=bits))
    assert np.allclose(dequantise(graph, result).by_name["w"].weight, graph.by_name["w"].weight, rtol=1e-6, atol=0)

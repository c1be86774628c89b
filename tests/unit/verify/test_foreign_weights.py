"""A program is a program of one network: weights and biases of another are found, those of its own never."""

from dataclasses import replace

import numpy as np
import pytest

from snncompile.errors import CompileError
from snncompile.ir.graph import Dialect, Graph
from snncompile.ir.linear_ops import Add, Conv2d, Diagonal, Input, Linear
from snncompile.ir.neuron import Fire, Neuron, Reset, constant
from snncompile.mapping import schedule
from snncompile.quantize import Options, dequantise, quantize
from snncompile.target import load_target
from snncompile.verify import Original, Program, verify
from snncompile.verify.weights import foreign, other_synapses

TARGET = load_target("loihi2-sim")


def network(seed=0, **fields):
    rng = np.random.default_rng(seed)
    zero = constant(0.0)
    rest = {"gain": constant(1.0), "reset_value": zero, "v_init": np.zeros(()), "leak": constant(np.exp(-0.1)), "theta": constant(1.0)}
    first = {**rest, "reset_amount": constant(1.0), "bias": rng.normal(size=(1, 4, 1, 1)), **fields}
    last = {**rest, "reset_amount": zero, "bias": rng.normal(size=(1, 3))}
    nodes = (
        Input(name="x", size=(2, 5, 5), low=0.0, high=255.0, grid=1.0),
        Conv2d(name="c", inputs=("x",), weight=rng.normal(size=(4, 2, 3, 3)) / 99, padding=(1, 1, 1, 1)),
        Neuron(name="n", inputs=("c",), fire=Fire.STEP_GE, reset=Reset.SUBTRACT, **first),
        Linear(name="f", inputs=("n",), weight=rng.normal(size=(3, 100))),
        Neuron(name="y", inputs=("f",), fire=Fire.NONE, reset=Reset.STATELESS, **last),
    )  # fmt: skip
    return Graph(name="net", dialect=Dialect.FLOAT, nodes=nodes, outputs={"out": "y"}, steps=5)


def found(program_of, against):
    result = quantize(program_of, TARGET)
    return foreign(against, dequantise(against, result), result)


@pytest.mark.parametrize("gain", [constant(1.0), np.linspace(0.2, 1.1, 5)], ids=["plain", "gain of each step"])
@pytest.mark.parametrize("seed", range(8))
def test_a_network_is_its_own(seed, gain):
    graph = network(seed, gain=gain)
    assert found(graph, graph) is None


@pytest.mark.parametrize("factor", [-1.0, 1.05, 2.0, 100.0])
def test_other_weights_are_found(factor):
    graph = network()
    other = graph.map_nodes(lambda op: replace(op, weight=op.weight * factor) if op.name == "c" else op)
    strange = found(graph, other)
    assert strange is not None
    assert strange.name == "c.weight"
    assert strange.network == pytest.approx(factor * strange.program, rel=0.1)


def test_one_other_weight_is_found():
    graph = network()

    def touched(op):
        if op.name != "f":
            return op
        weight = op.weight.copy()
        weight[1, 7] += 0.5
        return replace(op, weight=weight)

    assert found(graph, graph.map_nodes(touched)).name == "f.weight"


def test_another_bias_is_found():
    graph = network()
    other = graph.map_nodes(lambda op: replace(op, bias=op.bias + 0.25) if op.name == "y" else op)
    assert found(graph, other).name == "y.bias"


def adapted(seed=0):
    """A network, and its program whose weights were rounded with calibration data."""
    graph = network(seed)
    rng = np.random.default_rng(seed)
    x = np.rint(np.clip(rng.normal(90, 60, (40, 1, 1, 5, 5)) + rng.normal(0, 20, (40, 1, 2, 5, 5)), 0, 255))
    result = quantize(graph, TARGET, calibration={"x": x})
    assert all(p.adapted is not None for p in result.populations)
    return graph, result


@pytest.mark.parametrize("seed", range(4))
def test_weights_that_make_good_each_others_errors_are_their_networks(seed):
    graph, result = adapted(seed)
    dequantised = dequantise(graph, result)
    assert foreign(graph, dequantised, result) is None
    steps = [
        np.abs(graph.by_name[k].weight - dequantised.by_name[k].weight).max() / np.abs(dequantised.by_name[k].weight).max() * 127
        for k in "cf"
    ]
    assert max(steps) > 0.6  # not all are the nearest integers


def test_of_another_network_they_are_found():
    graph, result = adapted()
    for name in "cf":
        for factor in (-1.0, 1.05, 2.0):
            other = graph.map_nodes(lambda op, n=name, k=factor: replace(op, weight=op.weight * k) if op.name == n else op)
            assert foreign(other, dequantise(other, result), result) is not None


def test_of_a_network_trained_a_little_longer_they_are_found():
    """Every weight within a step and a half of the program's, and yet not the network that it was rounded from."""
    graph, result = adapted()
    rng = np.random.default_rng(5)
    program = dequantise(graph, result).by_name["f"].weight
    step = np.abs(program).max() / 127

    def trained(op):
        if op.name != "f":
            return op
        return replace(op, weight=op.weight + (np.abs(op.weight - program) < step) * rng.choice([-0.1, 0.1], program.shape) * step)

    other = graph.map_nodes(trained)
    strange = foreign(other, dequantise(other, result), result)
    assert strange is not None
    assert "root mean square" in strange.name


def test_one_weight_that_stands_for_a_whole_stream_counts_as_often_as_it_stands():
    """A population with a rounded synapse beside a relay's single weight, whose mean error is over all weights of both."""
    rng = np.random.default_rng(0)
    zero = constant(0.0)
    rest = {"gain": constant(1.0), "reset_value": zero, "v_init": np.zeros(()), "leak": constant(0.5), "theta": constant(1.0), "bias": zero}
    graph = Graph(
        name="net", dialect=Dialect.FLOAT, outputs={"out": "n"}, steps=4,
        nodes=(
            Input(name="x", size=(4, 5, 5), low=0.0, high=1.0, grid=1.0),
            Conv2d(name="c", inputs=("x",), weight=rng.normal(size=(4, 4, 3, 3)) / 4, padding=(1, 1, 1, 1)),
            Diagonal(name="d", inputs=("x",), weight=np.ones(1)),
            Add(name="sum", inputs=("c", "d")),
            Neuron(name="n", inputs=("sum",), fire=Fire.STEP_GE, reset=Reset.SUBTRACT, reset_amount=constant(1.0), **rest),
        ),
    )  # fmt: skip
    x = rng.integers(0, 2, (20, 4, 4, 5, 5)).astype(np.float64)
    result = quantize(graph, TARGET, calibration={"x": x})
    assert result.populations[0].adapted is not None
    assert foreign(graph, dequantise(graph, result), result) is None


def test_other_synapses_are_named_before_weights_are_compared():
    graph = network()
    renamed = graph.rebuild([replace(op, name="g") if op.name == "f" else replace(op, inputs=("g",)) if op.name == "y" else op
                             for op in graph.nodes])  # fmt: skip
    deeper = graph.map_nodes(lambda op: replace(op, weight=op.weight[:, :, :1, :1], padding=(0, 0, 0, 0)) if op.name == "c" else op)
    for bits in (8, 12):
        result = quantize(graph, TARGET, options=Options(weight_bits=bits))
        assert other_synapses(graph, result.graph) is None
        assert other_synapses(renamed, result.graph).startswith("'y' hears 'f' (linear 3x100)")
        assert other_synapses(deeper, result.graph).startswith("'n' hears 'c' (conv2d 4x2x3x3)")
        program = Program(graph=result.graph, schedule=schedule(result.graph), populations=result.populations)
        judged = Original(float_graph=renamed, outputs={}, capture=None, passes=())
        with pytest.raises(CompileError, match="SNN040"):
            verify(program, {"x": np.zeros((1, 1, 2, 5, 5))}, original=judged, backends=())


@pytest.mark.parametrize("bits", [9, 12, 15])
def test_a_weight_changed_in_either_of_two_synapses_is_found(bits):
    graph = network()
    result = quantize(graph, TARGET, options=Options(weight_bits=bits))
    assert foreign(graph, dequantise(graph, result), result) is None
    for name, by in (("c", 1), ("c_fine", 3), ("f", -1), ("f_fine", -3)):
        weight = np.array(result.graph.by_name[name].weight)
        weight.reshape(-1)[5] += by
        touched = result.graph.map_nodes(lambda op, name=name, weight=weight: replace(op, weight=weight) if op.name == name else op)
        other = replace(result, graph=touched)
        assert foreign(graph, dequantise(graph, other), other).name == f"{name[0]}.weight"

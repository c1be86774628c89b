"""Real-valued residual streams: payloads as fine as their readers can add up, identities that stay exact, bounds that hold."""

import numpy as np
import pytest
from population_nets import TARGET, differences, graph_of, neuron

from snncompile.errors import CompileError
from snncompile.ir import reference
from snncompile.ir.graph import Array
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Add, Conv2d, Diagonal, Gather, Input, Linear
from snncompile.ir.neuron import Fire, Reset, constant
from snncompile.quantize import Options, dequantise, quantize

STREAM = {"fire": Fire.NONE, "reset": Reset.STATELESS, "leak": constant(0.0)}
HDLIF = {
    "fire": Fire.RELU,
    "reset": Reset.CLAMP,
    "theta": constant(0.4),
    "grid": 0.25,
    "levels": 15,
    "leak": np.array([[0.3], [0.6], [0.5]]),
}
HDLIF["leak"] = HDLIF["leak"].reshape(3)


def binary(rng, *shape) -> Array:
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.02, 0.2, (shape[0], 1, 1, 1))


def stream(seed, *, weights="binary", spikes="graded", depth=3, width=6, size=5):
    """stem -> relay -> (neuron -> conv + identity -> relay) * depth, the last block changing shape -> pooled relay -> readout"""
    rng = np.random.default_rng(seed)
    kernel = (lambda *s: binary(rng, *s)) if weights == "binary" else (lambda *s: rng.normal(0, 0.1, s))
    fields = HDLIF if spikes == "graded" else {}
    one = np.ones((1, 1, 1))
    nodes = [
        Input(name="x", size=(2, size, size), low=0.0, high=255.0, grid=1.0, static=True),
        Conv2d(name="stem", inputs=("x",), weight=rng.normal(0, 0.004, (width, 2, 3, 3)), padding=(1,) * 4),
        neuron("r0", "stem", **STREAM),
    ]
    for k in range(depth):
        last = k == depth - 1
        out = 2 * width if last else width
        stay = (
            Conv2d(name=f"id{k}", inputs=(f"r{k}",), weight=kernel(out, width, 1, 1))
            if last
            else Diagonal(name=f"id{k}", inputs=(f"r{k}",), weight=one)
        )
        nodes += [
            Diagonal(name=f"d{k}", inputs=(f"r{k}",), weight=one), neuron(f"n{k}", f"d{k}", **fields),
            Conv2d(name=f"c{k}", inputs=(f"n{k}",), weight=kernel(out, width, 3, 3), padding=(1,) * 4),
            stay, Add(name=f"s{k}", inputs=(f"c{k}", f"id{k}")),
            neuron(f"r{k + 1}", f"s{k}", bias=rng.normal(0, 0.1, (1, out, 1, 1)), **STREAM),
        ]  # fmt: skip
    nodes += [
        Linear(name="fc", inputs=(f"r{depth}",), weight=rng.normal(0, 0.2, (4, 2 * width * size * size))),
        neuron("out", "fc", **STREAM),
    ]
    return graph_of(*nodes, steps=3, logits="out")


def images(samples, seed=0, size=5):
    return np.random.default_rng(seed).integers(0, 256, (samples, 1, 2, size, size)).astype(np.float64)


def relative(graph, result, x):
    """Error of the readout against the float network, relative to its root mean square."""
    exact = interpret(graph, {"x": x})["logits"]
    n = result.graph.by_name["out"]
    got = reference.run(result.graph, {"x": x})["logits"] * n.out_scale
    return float(np.sqrt(np.mean((got - exact) ** 2) / np.mean(exact**2)))


@pytest.mark.parametrize("spikes", ["graded", "binary"])
@pytest.mark.parametrize("weights", ["binary", "float"])
@pytest.mark.parametrize("calibrated", [True, False])
def test_a_real_valued_stream_fits_and_its_relays_are_exact(weights, spikes, calibrated):
    graph, x = stream(1, weights=weights, spikes=spikes), images(12)
    result = quantize(graph, TARGET, calibration={"x": x[:6]} if calibrated else None)
    reports = {p.name: p for p in result.populations}
    assert all(reports[f"r{k}"].exact for k in range(4))
    found = differences(graph, result, {"x": x})  # the reference checks every accumulator and membrane against its format
    assert [found[f"r{k}"][0] for k in range(4)] == [0, 0, 0, 0]
    assert relative(graph, result, x) < 0.3  # weights of 8 bits, and the spikes that they flip


def test_an_identity_keeps_its_weight_whatever_the_other_branch_weighs():
    for weights in ("binary", "float"):
        graph = stream(2, weights=weights)
        result = quantize(graph, TARGET, calibration={"x": images(6)})
        given = dequantise(graph, result)
        for k in range(2):
            assert np.allclose(given.by_name[f"id{k}"].weight, 1.0, rtol=1e-4, atol=0)
            assert np.allclose(given.by_name[f"d{k}"].weight, 1.0, rtol=1e-4, atol=0)


def test_a_stream_is_finer_where_its_readers_have_room():
    wide = quantize(stream(3), TARGET, calibration={"x": images(6)}).graph
    assert wide.by_name["r0"].payload_max > 4 * 255  # a neuron and an identity read it
    assert 63 <= wide.by_name["r3"].payload_max < 2048  # a dense layer with many weights reads it
    narrow = quantize(stream(3), TARGET, calibration={"x": images(6)}, options=Options(stream_bits=6)).graph
    assert narrow.by_name["r0"].payload_max <= 63


def test_inputs_beyond_the_calibrated_range_saturate_the_stream_and_break_no_bound():
    graph = stream(4)
    result = quantize(graph, TARGET, calibration={"x": images(6) / 16})
    top = reference.run(result.graph, {"x": 255 * np.ones((1, 1, 2, 5, 5))}, record=["r0"])["r0"]
    assert np.abs(top).max() == result.graph.by_name["r0"].payload_max


def test_weights_become_coarser_before_a_stream_is_refused_and_the_notes_say_so():
    rng = np.random.default_rng(5)
    x = Input(name="x", size=(4096,), low=0.0, high=255.0, grid=1.0)
    nodes = [
        x, Diagonal(name="d", inputs=("x",), weight=np.ones(1)), neuron("r", "d", **STREAM),
        Linear(name="fc", inputs=("r",), weight=rng.choice([-1.0, 1.0], (3, 4096)) * rng.uniform(0.9, 1.1, (3, 4096))),
        neuron("out", "fc", **STREAM),
    ]  # fmt: skip
    graph = graph_of(*nodes, steps=3, logits="out")
    result = quantize(graph, TARGET, calibration={"x": rng.integers(0, 256, (4, 1, 4096)).astype(float)})
    assert any("'out': weights on a grid coarser by 2**" in note for note in result.notes)
    assert result.graph.by_name["r"].payload_max >= 63
    exact = interpret(graph, {"x": images_like(rng)})["logits"]
    got = reference.run(result.graph, {"x": images_like(rng)})["logits"]
    assert got.shape == exact.shape


def images_like(rng):
    return np.full((1, 1, 4096), 255.0)


def test_a_stream_that_no_weights_can_carry_is_refused():
    x = Input(name="x", size=(1 << 18,), low=0.0, high=255.0, grid=1.0)
    nodes = [
        x, Diagonal(name="d", inputs=("x",), weight=np.ones(1)), neuron("r", "d", **STREAM),
        Linear(name="fc", inputs=("r",), weight=np.random.default_rng(0).normal(size=(2, 1 << 18))), neuron("out", "fc", **STREAM),
    ]  # fmt: skip
    with pytest.raises(CompileError) as e:
        quantize(graph_of(*nodes, steps=1, logits="out"), TARGET)
    assert e.value.diagnostics[0].code == "SNN302"


def test_differences_of_payloads_are_counted_exactly():
    """max(a, b) = b + relu(a - b) on a stream: the maximum of the payloads themselves."""
    rng = np.random.default_rng(6)
    minus, one = -np.ones(1), np.ones(1)
    nodes = [
        Input(name="x", size=(8,), low=0.0, high=255.0, grid=1.0),
        Linear(name="w", inputs=("x",), weight=rng.normal(0, 0.1, (8, 8))), neuron("r", "w", **STREAM),
        Gather(name="a", inputs=("r",), index=np.arange(0, 8, 2)), Gather(name="b", inputs=("r",), index=np.arange(1, 8, 2)),
        Diagonal(name="plus", inputs=("a",), weight=one), Diagonal(name="less", inputs=("b",), weight=minus),
        Add(name="apart", inputs=("plus", "less")),
        neuron("over", "apart", fire=Fire.RELU, reset=Reset.STATELESS, leak=constant(0.0), theta=constant(0.0)),
        Diagonal(name="base", inputs=("b",), weight=one), Diagonal(name="more", inputs=("over",), weight=one),
        Add(name="best", inputs=("base", "more")), neuron("m", "best", **STREAM),
        Linear(name="fc", inputs=("m",), weight=rng.normal(0, 0.1, (2, 4))), neuron("out", "fc", **STREAM),
    ]  # fmt: skip
    graph = graph_of(*nodes, steps=2, logits="out")
    x = rng.integers(0, 256, (40, 2, 8)).astype(float)
    result = quantize(graph, TARGET, calibration={"x": x[:20]})
    seen = reference.run(result.graph, {"x": x}, record=["r", "over", "m"])
    r, best = seen["r"], result.graph.by_name["m"].out_scale / result.graph.by_name["r"].out_scale
    assert np.array_equal(seen["over"], np.maximum(r[..., 0::2] - r[..., 1::2], 0))
    assert np.abs(seen["m"] * best - np.maximum(r[..., 0::2], r[..., 1::2])).max() <= 0.5 * max(best, 1.0)

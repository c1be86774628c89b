"""Bounds hold for every input: random and adversarial runs never leave them, and they are not idle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from population_nets import TARGET, graph_of, image_net, images, neuron, one_layer

from snncompile.errors import CompileError
from snncompile.ir import reference
from snncompile.ir.linear_ops import Input, Linear
from snncompile.ir.neuron import Fire, Reset, constant
from snncompile.quantize import Options, quantize

SEEDS = st.integers(0, 2**32 - 1)


def assert_inside(result, inputs):
    got = reference.run(result.graph, inputs, record=reference.references(result.graph))
    for p in result.populations:
        for port, key in ((".m", "membrane"), (".v", "state")):
            low, high = p.bounds[key]
            assert low <= got[p.name + port].min()
            assert got[p.name + port].max() <= high
    return got


@given(
    seed=SEEDS, fire=st.sampled_from(list(Fire)), reset=st.sampled_from(list(Reset)),
    leak=st.floats(-1.5, 1.5), alpha=st.none() | st.floats(0, 1),
    late=st.booleans(), steps=st.integers(1, 8), bits=st.integers(2, 15), spikes=st.booleans(), per_step=st.booleans(),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_no_input_leaves_the_bounds(seed, fire, reset, leak, alpha, late, steps, bits, spikes, per_step):
    rng = np.random.default_rng(seed)
    t = steps if per_step else 1
    whole = fire is Fire.NONE and reset is Reset.SUBTRACT
    graph = one_layer(
        rng, steps=steps, spikes=spikes, fire=fire, reset=reset, leak=np.full(t, leak),
        alpha=None if alpha is None else np.full(t, alpha),
        late_current=late and alpha is not None, theta=rng.uniform(-0.5, 2, (t, 6)), bias=rng.normal(0, 0.5, (t, 6)),
        reset_amount=constant(1.0) if whole else rng.uniform(-1, 2, (t, 6)), reset_value=rng.uniform(-1, 1, (t, 6)),
        v_init=rng.uniform(-1, 1, 6),
    )  # fmt: skip
    high = 1 if spikes else 255
    calibration = {"x": rng.integers(0, high + 1, (20, steps, 8)).astype(float)}
    try:
        result = quantize(graph, TARGET, options=Options(weight_bits=bits), calibration=calibration)
    except CompileError as e:
        assert e.diagnostics[0].code == "SNN302"  # noqa: PT017
        assert abs(leak) > 1  # only a membrane that grows by itself may be too large
        return
    assert_inside(result, {"x": rng.integers(0, high + 1, (30, steps, 8))})
    w = result.graph.by_name["w"].weight
    for row in w:  # the worst inputs for each neuron: all excitation, all inhibition, and one after the other
        up, down = (row > 0) * high, (row < 0) * high
        k = rng.integers(0, steps + 1)
        x = np.array([[up] * steps, [down] * steps, [down] * k + [up] * (steps - k), [up] * k + [down] * (steps - k)])
        assert_inside(result, {"x": x})


def test_bounds_are_reached_by_the_worst_input():
    rng = np.random.default_rng(0)
    result = quantize(one_layer(rng, outputs=1, leak=constant(1.0), reset=Reset.KEEP), TARGET)
    w = result.graph.by_name["w"].weight
    got = assert_inside(result, {"x": np.repeat((w > 0).astype(int)[None], 5, axis=1)})
    assert got["n.m"].max() == result.populations[0].bounds["membrane"][1]


def test_bounds_use_most_of_the_membrane():
    """F is the largest that fits: one more bit would overflow some population's bound."""
    result = quantize(image_net(np.random.default_rng(1)), TARGET, calibration={"x": images(np.random.default_rng(1))})
    for p in result.populations:
        assert max(max(map(abs, b)) for k, b in p.bounds.items() if k != "accumulator") > TARGET.membrane.high / 4


@given(seed=SEEDS, recurrent=st.booleans())
@settings(max_examples=10, deadline=None)
def test_images_beyond_the_calibrated_range_stay_inside(seed, recurrent):
    rng = np.random.default_rng(seed)
    data = images(rng)
    result = quantize(image_net(rng, recurrent=recurrent), TARGET, calibration={"x": data})
    assert_inside(result, {"x": rng.normal(0, 9, data.shape)})


def test_graded_populations_in_a_chain_stay_inside():
    rng = np.random.default_rng(2)
    fields = {"fire": Fire.RELU, "leak": constant(0.7)}
    graph = graph_of(
        Input(name="x", size=(8,), low=0, high=255, grid=1),
        Linear(name="w1", inputs=("x",), weight=rng.normal(0, 0.02, (7, 8))), neuron("n1", "w1", reset=Reset.SUBTRACT, **fields),
        Linear(name="w2", inputs=("n1",), weight=rng.normal(0, 0.5, (6, 7))), neuron("n2", "w2", reset=Reset.SET, **fields),
        Linear(name="w3", inputs=("n2",), weight=rng.normal(0, 0.5, (3, 6))), neuron("n3", "w3", fire=Fire.NONE, reset=Reset.STATELESS),
        Linear(name="w4", inputs=("n3",), weight=rng.normal(0, 0.5, (3, 3))), neuron("n4", "w4", fire=Fire.NONE, reset=Reset.STATELESS),
    )  # fmt: skip
    x = rng.integers(0, 256, (200, 5, 8))
    for calibration in (None, {"x": x[:50].astype(float)}):
        result = quantize(graph, TARGET, calibration=calibration)
        got = assert_inside(result, {"x": x})
        n3 = result.graph.by_name["n3"]
        assert n3.payload_min == -n3.payload_max <= -255
        assert 0 < got["n1"].max() <= 255
        assert got["n3"].min() < 0


@pytest.mark.parametrize("field", ["theta", "bias"])
def test_a_bound_that_is_broken_on_purpose_is_seen(field):
    """The test above would notice a wrong bound: shrink one and it fails."""
    from dataclasses import replace

    rng = np.random.default_rng(3)
    result = quantize(one_layer(rng, **{field: constant(0.7)}), TARGET)
    low, high = result.populations[0].bounds["membrane"]
    wrong = replace(result.populations[0], bounds={**result.populations[0].bounds, "membrane": (low, high // 8)})
    with pytest.raises(AssertionError):
        assert_inside(
            replace(result, populations=(wrong,)), {"x": np.ones((3, 5, 8), dtype=int)} if field == "bias" else {"x": all_up(result)}
        )


def all_up(result):
    w = result.graph.by_name["w"].weight
    return np.stack([np.repeat((row > 0)[None], 5, axis=0) for row in w]).astype(int)

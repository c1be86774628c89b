"""Populations declared exact are exact; what is not exact says why."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from population_nets import TARGET, differences, graph_of, image_net, images, neuron, one_layer

from snncompile.ir import reference
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Gather, Input, Linear
from snncompile.ir.neuron import Fire, Reset, constant
from snncompile.passes import run_passes
from snncompile.quantize import Options, dequantise, quantize
from snncompile.quantize.constants import integers

SEEDS = st.integers(0, 2**32 - 1)
FIRES = {"ge": Fire.STEP_GE, "gt": Fire.STEP_GT, "relu": Fire.RELU, "none": Fire.NONE}


def report(result, name="n"):
    return next(p for p in result.populations if p.name == name)


def spikes(rng, samples=20, steps=5, inputs=8):
    return rng.integers(0, 2, (samples, steps, inputs))


@pytest.mark.parametrize("reset", list(Reset))
@pytest.mark.parametrize("fire", FIRES)
@pytest.mark.parametrize("alpha", [None, 0.5, 0.25])
@given(seed=SEEDS, leak=st.sampled_from([0.5, 1.0, 0.0, 0.25, -0.5, 0.75, 1.5]), late=st.booleans())
@settings(max_examples=4, deadline=None)
def test_every_rule_is_exact_with_dyadic_decays(fire, reset, alpha, seed, leak, late):
    rng = np.random.default_rng(seed)
    graph = one_layer(
        rng, fire=FIRES[fire], reset=reset, leak=constant(leak), alpha=None if alpha is None else constant(alpha),
        late_current=late and alpha is not None, bias=rng.normal(0, 0.2, (1, 6)), theta=rng.uniform(0.3, 2, (1, 6)),
        reset_amount=constant(1.0) if fire in ("relu", "none") else rng.uniform(0.3, 2, (1, 6)),
    )  # fmt: skip
    if fire in ("ge", "gt") and reset is Reset.SUBTRACT:  # soft reset by theta
        graph = graph.map_nodes(lambda n: n if n.name != "n" else neuron_with(n, reset_amount=n.theta))
    result = quantize(graph, TARGET)
    done = report(result)
    ((wrong, _),) = differences(graph, result, {"x": spikes(rng)}).values()
    assert done.exact or done.reason
    if done.exact:
        assert wrong == 0
    expected = leak != 0.75 and alpha != 0.25 and leak != 0.25
    if expected and not (fire == "relu" and reset is Reset.SET) and not (fire == "none" and reset is Reset.CLAMP):
        assert done.exact, done.reason


def neuron_with(n, **changes):
    from dataclasses import replace

    return replace(n, **changes)


@given(seed=SEEDS, leak=st.sampled_from([0.5, 1.0, 0.0]), hard=st.booleans(), recurrent=st.booleans())
@settings(max_examples=10, deadline=None)
def test_image_nets_keep_grid_padding_and_recurrence_exactly(seed, leak, hard, recurrent):
    rng = np.random.default_rng(seed)
    graph = image_net(rng, recurrent=recurrent, leak=constant(leak), reset=Reset.SET if hard else Reset.SUBTRACT)
    data = images(rng)
    result = quantize(graph, TARGET, calibration={"x": data})
    assert "levels, kept exactly" in result.notes[0]
    for name, (wrong, _) in differences(graph, result, {"x": data}).items():
        if report(result, name).exact:
            assert wrong == 0
    assert all(p.exact for p in result.populations), [str(p) for p in result.populations]
    x = result.graph.by_name["x"]
    payload = reference.quantise_input(x, data)
    assert np.abs(payload * x.lsb + x.offset - data).max() < 1e-5


def test_padding_is_a_true_zero_for_the_offset():
    """One pixel, 3x3 kernel: the border adds nothing, although payload 0 does not mean 0."""
    rng = np.random.default_rng(0)
    graph = image_net(rng, recurrent=False)
    data = images(rng)
    result = quantize(graph, TARGET, calibration={"x": data})
    floats = dequantise(graph, result)
    a = interpret(floats, {"x": data}, record=["n1.m"])["n1.m"][:, 0]
    b = reference.run(result.graph, {"x": data}, record=["n1.m"])["n1.m"][:, 0] * result.graph.by_name["n1"].v_scale
    assert np.abs(a - b).max() < 1e-5
    # the dequantised bias is the trained one, within half a lattice step, at every position
    n1 = result.graph.by_name["n1"]
    off = np.abs(floats.by_name["n1"].bias - graph.by_name["n1"].bias) / n1.v_scale
    assert off.max() <= 2.0 ** (graph.steps - 1) / 2 + 1e-6


def test_a_hole_in_the_wiring_is_a_true_zero_for_the_offset():
    rng = np.random.default_rng(10)
    x = Input(name="x", size=(2, 6, 6), static=True)
    index = np.where(rng.random(40) < 0.3, -1, rng.integers(0, 72, 40))
    nodes = (
        x,
        Gather(name="g", inputs=("x",), index=index),
        Linear(name="w", inputs=("g",), weight=rng.normal(0, 0.2, (4, 40))),
        neuron("n", "w"),
    )
    graph, data = graph_of(*nodes), images(rng, 20)
    result = quantize(graph, TARGET, calibration={"x": data})
    assert np.any(result.graph.by_name["x"].offset)
    want = interpret(dequantise(graph, result), {"x": data}, record=["n.m"])["n.m"][:, 0]
    got = reference.run(result.graph, {"x": data}, record=["n.m"])["n.m"][:, 0] * result.graph.by_name["n"].v_scale
    assert np.abs(want - got).max() < 1e-5
    assert np.abs(dequantise(graph, result).by_name["n"].bias).max() <= 0.5 * 2**4 * result.graph.by_name["n"].v_scale.max()


def test_the_rounding_errors_are_small_on_the_float_network():
    rng = np.random.default_rng(3)
    graph = image_net(rng)
    data = images(rng, 40)
    result = quantize(graph, TARGET, calibration={"x": data})
    want = interpret(graph, {"x": data}, record=["n1", "n2"])
    got = reference.run(result.graph, {"x": data}, record=["n1", "n2"])
    assert (want["n1"] != got["n1"]).mean() < 0.01
    assert all(p.weight_error < 0.01 for p in result.populations)
    assert (want["n2"] != got["n2"]).mean() < 0.05  # recurrent: one early difference goes on


@pytest.mark.parametrize("fire", ["ge", "gt"])
def test_strict_and_inclusive_comparison_at_exact_ties(fire):
    graph = one_layer(
        np.random.default_rng(0), weight=np.array([[0.5, 0.5]]), inputs=2, outputs=1, fire=FIRES[fire], reset=Reset.KEEP, leak=constant(0.0)
    )
    result = quantize(graph, TARGET)
    x = np.array([[[1, 1], [1, 0], [0, 0], [1, 1], [0, 1]]])
    got = reference.run(result.graph, {"x": x})["y"].reshape(-1).tolist()
    assert got == ([1, 0, 0, 1, 0] if fire == "ge" else [0] * 5)
    n = result.graph.by_name["n"]
    assert n.threshold.item() == round(1 / n.v_scale.item()) + (fire == "gt")


@pytest.mark.parametrize("fire", ["ge", "gt"])
@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_whole_membranes_compare_with_thresholds_of_each_step_as_the_real_ones_do(fire, seed):
    rng = np.random.default_rng(seed)
    lsb, q = 2.0 ** -rng.integers(0, 6), np.arange(-40, 41)[:, None, None]
    theta = rng.choice([rng.uniform(-1, 1, (7, 3)), rng.integers(-20, 20, (7, 3)) * lsb])
    n = neuron("n", "x", fire=FIRES[fire], reset=Reset.KEEP, theta=theta)
    threshold = integers(n, None, (3,), lsb=np.full((3,), lsb), lattice=0, limit=2**23 - 1).fields["threshold"]
    np.testing.assert_array_equal(q >= threshold, q * lsb >= theta if fire == "ge" else q * lsb > theta)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"leak": constant(0.9)}, "leak 0.9 is not a multiple of 2**-16"),
        ({"alpha": constant(np.exp(-0.1))}, "current decay 0.904837 is not a multiple of 2**-16"),
        ({"theta": np.linspace(1, 1.1, 5)[:, None], "reset_amount": np.linspace(1, 1.1, 5)[:, None]}, "the reset amount lies"),
        ({"leak": constant(0.75)}, "guard bits"),
        ({"reset": Reset.SET, "reset_value": constant(-0.123)}, "the reset value lies"),
    ],
)
def test_what_is_not_exact_says_why_and_errs_little(fields, reason):
    rng = np.random.default_rng(1)
    steps = 5 if "theta" in fields else 16
    graph = one_layer(rng, steps=steps, inputs=40, outputs=200, **fields)
    result = quantize(graph, TARGET)
    done = report(result)
    assert not done.exact
    assert reason in done.reason
    wrong, _ = differences(graph, result, {"x": spikes(rng, 50, steps, 40)})["n"]
    assert done.guard_bits >= 8 or "0.9" in done.reason
    m = reference.run(result.graph, {"x": spikes(rng, 50, steps, 40)}, record=["n.m"])["n.m"]
    assert m.size > wrong  # membranes may differ in their last bits; spikes hardly ever:
    assert spike_errors(graph, result, spikes(rng, 50, steps, 40)) <= 1e-3


def spike_errors(graph, result, x):
    floats = dequantise(graph, result)
    want = interpret(floats, {"x": x})["y"]
    return float((want != reference.run(result.graph, {"x": x})["y"]).mean())


def test_weight_bits_are_traded_for_guard_bits_on_request():
    rng = np.random.default_rng(5)
    graph = one_layer(rng, spikes=False, inputs=64, steps=9)
    plain = report(quantize(graph, TARGET))
    assert not plain.exact
    assert "guard bits, 8 are needed for T = 9" in plain.reason
    traded_result = quantize(graph, TARGET, options=Options(pursue_exact="always"))
    traded = report(traded_result)
    assert traded.exact
    assert traded.weight_bits < 8
    assert traded.guard_bits >= 8
    ((wrong, _),) = differences(graph, traded_result, {"x": rng.integers(0, 256, (20, 1, 64))}).values()
    assert wrong == 0


@pytest.mark.parametrize("levels", [(1,), (1, -1, 0), (-3, -1, 1, 3)])
def test_trained_grids_are_kept_without_rounding(levels):
    rng = np.random.default_rng(2)
    alpha = rng.uniform(0.05, 0.2, (6, 1)).astype(np.float32)
    weight = (alpha * rng.choice(levels, (6, 16)).astype(np.float32)).astype(np.float64)
    result = quantize(one_layer(rng, inputs=16, weight=weight), TARGET)
    assert report(result).weight_error < 1e-7
    assert set(np.unique(result.graph.by_name["w"].weight)) <= set(levels)


def test_ports_of_different_size_get_different_exponents():
    rng = np.random.default_rng(4)
    result = quantize(image_net(rng), TARGET, calibration={"x": images(rng)})
    a, b = result.graph.by_name["n2"].exponents
    assert a - b in (3, 4)
    for name in ("c2", "c3"):
        assert 64 <= np.abs(result.graph.by_name[name].weight.astype(int)).max() <= 127


def test_a_threshold_out_of_reach_costs_nothing():
    rng = np.random.default_rng(7)
    far = np.array([[1.0, 1e9, 1.0, 1e30, 1.0, 1.0]])
    for fire, reset in ((Fire.STEP_GT, Reset.SUBTRACT), (Fire.STEP_GE, Reset.SET), (Fire.STEP_GE, Reset.CLAMP), (Fire.RELU, Reset.CLAMP)):
        graph = one_layer(rng, theta=far, reset_amount=far, fire=fire, reset=reset)
        result = quantize(graph, TARGET)
        assert report(result).exact
        assert report(result).weight_error < 0.01
        x = spikes(rng)
        assert differences(graph, result, {"x": x})["n"][0] == 0
        assert reference.run(result.graph, {"x": x})["y"][:, :, [1, 3]].max() == 0


def test_thresholds_are_integers_by_construction():
    rng = np.random.default_rng(6)
    result = quantize(one_layer(rng, theta=(theta := rng.uniform(0.5, 2, (1, 6))), reset_amount=theta), TARGET)
    n = result.graph.by_name["n"]
    assert report(result).exact
    assert np.array_equal(n.threshold - 1, n.reset_amount)
    assert not np.any((n.threshold - 1) % 2**4)  # '>' : one above a multiple of 2**(T-1)


def test_quantising_twice_gives_the_same_bits():
    data = images(np.random.default_rng(9))
    a, b = (quantize(image_net(np.random.default_rng(8)), TARGET, calibration={"x": data}) for _ in range(2))
    for p, q in zip(a.graph.nodes, b.graph.nodes, strict=True):
        for key, value in vars(p).items():
            if isinstance(value, np.ndarray):
                assert np.array_equal(value, vars(q)[key])


@pytest.mark.parametrize("reset", [Reset.STATELESS, Reset.CLAMP, Reset.KEEP])
def test_a_graded_output_is_exact_only_if_its_threshold_is_a_whole_number(reset):
    """The threshold is subtracted before the payload is rounded; binary weights fix the scale, so it cannot be moved onto the integers."""
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.05, 0.3, (6, 1))
    signs = np.where(np.arange(8) < 5, 1.0, rng.choice([-1.0, 1.0], (6, 8)))  # every channel reaches its threshold
    for theta, exact in ((scale[:, 0] * 2, True), (scale[:, 0] * rng.uniform(1, 2, 6), False)):
        graph = one_layer(
            rng, fire=Fire.RELU, reset=reset, leak=constant(0.0), theta=theta[None], weight=scale * signs, grid=0.25, levels=15,
        )  # fmt: skip
        result = quantize(graph, TARGET)
        done, n = report(result), result.graph.by_name["n"]
        off = np.abs(theta / n.v_scale.reshape(-1) - n.threshold.reshape(-1)).max()
        assert done.exact is exact, done.reason
        assert bool(off < 1e-6) is exact
        assert exact or done.reason == f"the threshold lies {off:.3g} membrane LSB off the integers"


@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_a_graded_output_without_a_state_is_exact_whatever_its_threshold(seed):
    """The passes make the threshold a part of the bias, so that one constant is rounded and not two (EM-PF's parallel neurons)."""
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0.05, 0.3, (6, 1)) * rng.choice([-1.0, 1.0], (6, 8))
    graph = one_layer(
        rng, fire=Fire.RELU, reset=Reset.STATELESS, leak=constant(0.0), theta=rng.uniform(0.1, 0.6, (5, 6)), weight=weight, grid=0.25,
        levels=15, bias=rng.normal(0, 0.2, (1, 6)),
    )  # fmt: skip
    x = spikes(rng)
    folded, _ = run_passes(graph, probe={"x": x[:1].astype(float)})
    result = quantize(folded, TARGET)
    assert report(result).exact, report(result).reason
    ((wrong, _),) = differences(folded, result, {"x": x}).values()
    assert wrong == 0


@pytest.mark.parametrize("tiny", [1e-8, 1e-20, 1e-42])
@pytest.mark.parametrize("alike", [True, False])
def test_a_channel_whose_weights_are_nothing_beside_its_bias_takes_the_biass_scale(tiny, alike):
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.5, (6, 8))
    weight[2] = tiny if alike else tiny * rng.normal(size=8)  # weights of one size look like a trained grid
    graph = one_layer(rng, weight=weight, bias=np.array([[0.1, -0.2, 0.7, 0.3, 0.0, -0.1]]))
    result = quantize(graph, TARGET)
    x = rng.integers(0, 2, (16, 5, 8))
    spikes = reference.run(result.graph, {"x": x})["y"]
    expected = interpret(graph, {"x": x.astype(float)})["y"]
    np.testing.assert_array_equal(spikes[..., 2], expected[..., 2])
    assert differences(graph, result, {"x": x})["n"][0] == 0 or not result.populations[0].exact

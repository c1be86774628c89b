"""Gains per step, several spikes in a step, partial resets, bounded membranes and adaptive thresholds on integers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from population_nets import TARGET, differences, one_layer, quantize

from snncompile.ir import reference
from snncompile.ir.interpret import interpret
from snncompile.ir.neuron import Fire, Reset, constant
from snncompile.verify.dynamics import Dynamics, compare, input_values

SEEDS = st.integers(0, 2**32 - 1)
STEPS = 5


def spikes(rng, samples=40, steps=STEPS, inputs=8):
    return rng.integers(0, 2, (samples, steps, inputs))


FEATURES = {
    "several spikes": lambda rng: {"max_spikes": 7, "theta": constant(0.3), "reset_amount": constant(0.3)},
    "several strict spikes": lambda rng: {"max_spikes": 3, "fire": Fire.STEP_GT, "theta": constant(0.5), "reset_amount": constant(0.5)},
    "several spikes, hard reset": lambda rng: {"max_spikes": 7, "reset": Reset.SET, "reset_value": constant(-0.5)},
    "a lower bound": lambda rng: {"v_min": constant(-0.5)},
    "half stays": lambda rng: {"reset": Reset.SET, "reset_keep": constant(0.5), "reset_value": rng.normal(0, 0.3, (1, 6))},
    "an adaptive threshold": lambda rng: {"adapt_decay": constant(1.0), "adapt_jump": constant(0.25)},
    "an adaptive threshold in the reset": lambda rng: {"adapt_decay": constant(1.0), "adapt_jump": constant(0.25), "adapt_reset": True},
    "all at once": lambda rng: {
        "max_spikes": 4, "v_min": constant(-0.75), "adapt_decay": constant(1.0), "adapt_jump": constant(0.25), "adapt_reset": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("label", FEATURES)
@given(seed=SEEDS)
@settings(max_examples=6, deadline=None)
def test_features_are_exact_with_dyadic_factors(label, seed):
    """Thresholds, bounds and jumps are multiples of the threshold's quarter, so that all of them can lie on one lattice."""
    rng = np.random.default_rng(seed)
    graph = one_layer(rng, **{"fire": Fire.STEP_GE, "theta": constant(1.0), "reset_amount": constant(1.0), **FEATURES[label](rng)})
    result = quantize(graph, TARGET)
    ((wrong, _),) = differences(graph, result, {"x": spikes(rng)}).values()
    (done,) = result.populations
    assert done.exact or "lie" in done.reason
    if done.exact:
        assert wrong == 0


def test_multi_spike_payloads_exceed_one_and_bounds_hold_them():
    rng = np.random.default_rng(3)
    graph = one_layer(rng, fire=Fire.STEP_GE, max_spikes=1000, theta=constant(0.05), reset_amount=constant(0.05))
    result = quantize(graph, TARGET)
    payload = reference.run(result.graph, {"x": spikes(rng)})["y"]
    assert 5 < payload.max() <= 1000


MEM_BN = {
    "positive": lambda rng, shape: rng.uniform(0.2, 1.5, shape),
    "negative": lambda rng, shape: rng.uniform(-1.5, -0.1, shape),
    "zero": lambda rng, shape: np.zeros(shape),
    "any": lambda rng, shape: rng.normal(0, 1, shape),
}
PAYLOADS = {
    "float": {"fire": Fire.RELU, "reset": Reset.CLAMP},
    "4-bit": {"fire": Fire.RELU, "reset": Reset.CLAMP, "grid": 0.25, "levels": 15},
    "binary": {"fire": Fire.STEP_GE, "reset": Reset.SET},
}


@pytest.mark.parametrize("k", MEM_BN)
@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("binary_weights", [False, True])
@given(seed=SEEDS)
@settings(max_examples=3, deadline=None)
def test_membrane_batch_norm_of_every_sign_keeps_the_dynamics(k, payload, binary_weights, seed):
    """Form A of Mem-BN: leak k * lambda, gain k, bias c, all per step and channel.

    At most 1 event in 10,000 may differ, within the noise of 12,000 events (of 32 inputs no pattern comes twice). An 8-bit payload has 17
    times as many levels as a 4-bit one, and what it rounds lies that much closer to the next level.
    """
    rng = np.random.default_rng(seed)
    factor, lam = MEM_BN[k](rng, (STEPS, 6)), rng.uniform(0.2, 0.9, (STEPS, 1))
    weight = rng.choice([-1.0, 1.0], (6, 32)) * rng.uniform(0.1, 0.5, (6, 1)) if binary_weights else None
    fields = {
        "leak": factor * lam, "gain": factor, "bias": rng.normal(0.3, 0.5, (STEPS, 6)), "theta": rng.uniform(0.2, 0.8, (STEPS, 1)),
        "reset_value": constant(0.25), **PAYLOADS[payload],
    }  # fmt: skip
    graph = one_layer(rng, inputs=32, weight=weight, **fields)
    result = quantize(graph, TARGET, calibration={"x": spikes(rng, inputs=32).astype(float)})
    found = counted(graph, result, spikes(rng, samples=400, inputs=32))
    assert not found.populations["n"].exact
    assert found.populations["n"].compared == 400 * STEPS * 6
    assert found.populations["n"].differing <= (40 if payload == "float" else 3)
    if binary_weights:
        assert np.all(np.abs(result.graph.by_name["w"].weight) == 1)


def counted(graph, result, x):
    from snncompile.quantize import dequantise

    found = Dynamics()
    traces = reference.run(result.graph, {"x": x}, record=["n"])
    compare(result, dequantise(graph, result), input_values(result.graph, {"x": x}), traces, found, 0)
    return found


@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_a_gain_of_powers_of_two_is_the_same_network(seed):
    """gain 2**k[t] on weights of a grid: the integer membranes are the float ones, up to the rounding of the leak alone."""
    rng = np.random.default_rng(seed)
    weight = rng.choice([-0.5, 0.5], (6, 8))
    gain = 2.0 ** rng.integers(-3, 3, (STEPS, 1))
    graph = one_layer(rng, weight=weight, gain=gain, leak=constant(0.0), theta=constant(1.0), fire=Fire.STEP_GE)
    result = quantize(graph, TARGET)
    x = spikes(rng)
    got = reference.run(result.graph, {"x": x}, record=["n.m"])["n.m"] * result.graph.by_name["n"].v_scale
    assert np.array_equal(got, interpret(graph, {"x": x.astype(float)}, record=["n.m"])["n.m"])


def test_a_target_without_a_feature_is_refused_by_name():
    from snncompile.errors import CompileError

    plain = replace(TARGET, features=frozenset())
    with pytest.raises(CompileError) as e:
        quantize(one_layer(np.random.default_rng(0), adapt_decay=constant(0.5), adapt_jump=constant(1.0)), plain)
    assert "threshold that adapts" in str(e.value.diagnostics[0].message)


def test_a_wide_input_takes_no_guard_bits_from_a_gained_membrane():
    """8-bit pixels times 8-bit weights need 20 bits; the gain scales them down, so the membrane keeps its own resolution."""
    rng = np.random.default_rng(0)
    graph = one_layer(
        rng, inputs=16, spikes=False, gain=rng.uniform(0.2, 1.5, (STEPS, 6)), fire=Fire.RELU, reset=Reset.CLAMP, grid=0.25, levels=15
    )
    (done,) = quantize(graph, TARGET).populations
    assert done.guard_bits >= 12


@pytest.mark.parametrize(("levels", "bits"), [([-1.0, 1.0], 1), ([-1.0, 0.0, 1.0], 2), ([-3.0, -1.0, 1.0, 3.0, 5.0], 4)])
def test_the_report_says_how_many_bits_a_weight_takes(levels, bits):
    rng = np.random.default_rng(0)
    weight = rng.choice(levels, (6, 24)) * rng.uniform(0.1, 0.5, (6, 1))
    (done,) = quantize(one_layer(rng, inputs=24, weight=weight), TARGET).populations
    assert (done.weight_bits, done.weight_error < 1e-12) == (bits, True)


@given(seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_a_relay_with_a_gain_of_each_step_rounds_once(seed):
    """A gate per channel and step on a real-valued stream: the payload is the real product, rounded to the payload's LSB."""
    from population_nets import graph_of, neuron

    from snncompile.ir.linear_ops import Input, Linear
    from snncompile.ir.neuron import Fire, Reset
    from snncompile.quantize import dequantise

    rng = np.random.default_rng(seed)
    graph = graph_of(
        Input(name="x", size=(8,), low=0.0, high=255.0, grid=1.0), Linear(name="w", inputs=("x",), weight=rng.normal(size=(6, 8))),
        neuron("n", "w", fire=Fire.NONE, reset=Reset.STATELESS, gain=rng.uniform(0.2, 1.0, (STEPS, 6)), bias=rng.normal(size=(STEPS, 6))),
        Linear(name="f", inputs=("n",), weight=rng.normal(size=(3, 6))), neuron("y", "f"), steps=STEPS,
    )  # fmt: skip
    x = rng.integers(0, 256, (100, STEPS, 8))
    result = quantize(graph, TARGET, calibration={"x": x.astype(float)})
    found = Dynamics()
    traces = reference.run(result.graph, {"x": x}, record=["n", "y"])
    compare(result, dequantise(graph, result), input_values(result.graph, {"x": x}), traces, found, 0)
    assert found.populations["n"].compared == 100 * STEPS * 6
    assert found.populations["n"].differing == 0

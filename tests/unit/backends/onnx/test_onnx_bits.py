"""The step model on ONNX Runtime against the integer reference, bit for bit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_programs import Maker, neuron, payloads, program, source, whole

from snncompile.backends.onnx.model import step_model
from snncompile.backends.onnx.runtime import Stepper, import_runtime, run_onnx
from snncompile.backends.onnx.synapses import FLOAT32, plan_digits
from snncompile.errors import InternalError
from snncompile.ir import reference
from snncompile.ir.linear_ops import Conv2d, Delay, Diagonal, Linear
from snncompile.ir.neuron import Reset

LARGEST = 2**23 - 1


def assert_same_bits(graph, inputs, **options) -> bool:
    """Compare every payload and membrane; False where the reference itself says that a format overflows."""
    try:
        want = reference.run(graph, inputs, record=reference.references(graph))
    except InternalError:
        return False
    found, seconds = run_onnx(graph, inputs, **options)
    assert seconds > 0
    assert found.keys() == want.keys()
    for ref, trace in want.items():
        assert np.array_equal(trace, found[ref]), ref
    return True


def agree(seeds) -> int:
    ran = 0
    for seed in seeds:
        graph = Maker(seed).graph()
        ran += assert_same_bits(graph, payloads(graph, seed))
    return ran


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_random_programs_with_every_op_and_field_agree(seed):
    agree([seed])


def test_random_programs_seldom_overflow():
    assert agree(range(20)) >= 17


@pytest.mark.slow
def test_many_random_programs_agree():
    assert agree(range(10_000, 13_000)) >= 2_500


@given(weight_bits=st.integers(1, 31), payload_bits=st.integers(1, 31), fan_in=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_every_piece_of_a_cut_convolution_is_exact_in_float32_and_their_sum_is_the_whole(weight_bits, payload_bits, fan_in, seed):
    high = 2**weight_bits - 1
    weight = np.random.default_rng(seed).integers(-high, high + 1, (2, fan_in))
    weight[0] = high
    plan = plan_digits(weight, 2**payload_bits - 1)
    assert np.array_equal(sum(part << shift for part, shift in plan.weights), weight)
    digit = 2**payload_bits - 1 if plan.count == 1 else 2**plan.bits
    assert all(np.abs(part).sum(axis=1).max() * digit < FLOAT32 for part, _ in plan.weights)
    assert plan.count == 1 or plan.bits * plan.count >= payload_bits


def test_a_convolution_that_fits_is_one_convolution():
    plan = plan_digits(np.full((4, 2, 3, 3), 127), 255)
    assert (len(plan.weights), plan.count) == (1, 1)
    model = step_model(program(source(2, 5, 5, low=0, high=255), Conv2d(name="w", inputs=("x",), weight=np.full((4, 2, 3, 3), 127)),
                               neuron("n", ("w",))))  # fmt: skip
    assert [n.op_type for n in model.graph.node].count("Conv") == 1


@pytest.mark.parametrize(("weight", "high", "channels"), [(127, 14_680, 1), (127, LARGEST, 1), (2**20 - 1, 1, 1), (32_767, 60_001, 2)])
def test_convolutions_are_exact_at_their_largest_sums(weight, high, channels):
    """9 taps of one sign at the largest payload, odd in the lowest bit; rounding anywhere would show."""
    rng = np.random.default_rng(0)
    w = np.full((3, channels, 3, 3), weight)
    w[1] *= -1
    w[2] = rng.integers(-weight, weight + 1, w[2].shape)
    nodes = (
        source(channels, 6, 6, low=-high, high=high), Conv2d(name="w", inputs=("x",), weight=w, padding=(1, 1, 1, 1)),
        neuron("n", ("w",), fire="none", reset=Reset.STATELESS),
    )  # fmt: skip
    graph = program(*nodes, steps=1, accumulator=[-(2**62), 2**62], membrane=[-(2**62), 2**62])
    x = rng.choice([-high, high - 1, high], (2, 1, channels, 6, 6))
    x[0] = high
    want = reference.synapse(nodes[1], [x[:, 0]], reference.limits(graph))
    keep = np.abs(want).max() < 2**31
    if not keep:  # beyond int32, which the model's outputs are: look at the low bits alone
        graph = program(*nodes[:2], neuron("n", ("w",), fire="relu", multiplier=whole(1), shift=whole(0), payload_min=0,
                        payload_max=2**31 - 1, threshold=whole(int(want.max()) - 2**30), reset=Reset.STATELESS), steps=1,
                        accumulator=[-(2**62), 2**62], membrane=[-(2**62), 2**62])  # fmt: skip
    found, _ = run_onnx(graph, {"x": x}, traces=False)
    expected = want if keep else np.clip(want - (int(want.max()) - 2**30), 0, 2**31 - 1)
    assert np.array_equal(found["out"][:, 0], expected)
    assert len(np.unique(expected)) >= 2


@pytest.mark.parametrize(("weight", "high"), [(127, 255), (127, LARGEST), (2**31 - 1, 2**20)])
def test_dense_synapses_are_exact_at_their_largest_sums(weight, high):
    w = np.full((2, 2), weight)
    w[1, 1] = 1 - weight
    far = 2 * weight * high - 1000
    graph = program(
        source(2, low=-high, high=high), Linear(name="w", inputs=("x",), weight=w),
        neuron("n", ("w",), fire="relu", multiplier=whole(1), shift=whole(0), payload_max=2000, threshold=whole(far),
               reset=Reset.STATELESS),
        steps=1, accumulator=[-(2**62), 2**62], membrane=[-(2**62), 2**62],
    )  # fmt: skip
    found, _ = run_onnx(graph, {"x": np.full((1, 1, 2), high)}, traces=False)
    assert found["out"].reshape(-1).tolist() == [1000, 0]


@pytest.mark.parametrize("multiplier", [1, 3, 65_535])
@pytest.mark.parametrize("sign", [1, -1])
def test_ties_and_signs_round_as_the_reference_does_up_to_the_largest_membrane(multiplier, sign):
    x = np.concatenate([np.arange(-20, 21), [LARGEST, LARGEST - 1, -LARGEST]]).reshape(-1, 1, 1) * sign
    graph = program(
        source(1, low=-LARGEST, high=LARGEST), Diagonal(name="w", inputs=("x",), weight=whole(1)),
        neuron("n", ("w",), fire="relu", threshold=whole(0), multiplier=whole(multiplier), shift=whole(3), payload_min=-(2**22),
               payload_max=2**22, leak=whole(-3686), v_init=whole(-LARGEST), reset=Reset.KEEP, gain=whole(-3), gain_shift=whole(2)),
        steps=1,
    )  # fmt: skip
    assert assert_same_bits(graph, {"x": x})


def test_products_of_a_graded_output_may_need_more_than_32_bits():
    x = np.random.default_rng(0).integers(-LARGEST, LARGEST, (2, 1, 500))
    graph = program(
        source(500, low=-LARGEST, high=LARGEST), Diagonal(name="w", inputs=("x",), weight=whole(1)),
        neuron("n", ("w",), fire="relu", multiplier=np.full(500, 2**16 - 1), shift=whole(0), payload_max=289, reset=Reset.CLAMP), steps=1,
    )  # fmt: skip
    assert assert_same_bits(graph, {"x": x})


def test_a_threshold_that_adapts_to_a_spike_step_of_zero_does_not_end_the_process():
    n = neuron(
        "n", ("w",), max_spikes=3, spike_step=whole(5), adapt_decay=whole(4096), adapt_jump=whole(-5), threshold=whole(10), reset=Reset.KEEP
    )
    graph = program(source(1), Diagonal(name="w", inputs=("x",), weight=whole(1)), n, steps=6)
    with np.errstate(divide="ignore"):
        assert assert_same_bits(graph, {"x": np.full((1, 6, 1), 9)})


def test_a_spike_step_of_zero_is_refused():
    n = neuron("n", ("w",), max_spikes=3, spike_step=whole(0))
    with pytest.raises(InternalError, match="spike step of 0"):
        step_model(program(source(1), Diagonal(name="w", inputs=("x",), weight=whole(1)), n))


def looped():
    back = Delay(name="back", inputs=("n",), size=(2,), initial=whole(1, 0))
    nodes = (source(2), Linear(name="w", inputs=("x",), weight=np.eye(2, dtype=np.int64)), back)
    ring = Linear(name="ring", inputs=("back",), weight=whole(2, -1, 3, 1).reshape(2, 2))
    return program(*nodes, ring, neuron("n", ("w", "ring"), bias=np.arange(6).reshape(3, 2), leak=whole(2048), alpha=whole(3000)), steps=3)


def test_the_same_program_gives_the_same_bytes_and_passes_the_checker():
    for traces in (False, True):
        first, second = (step_model(looped(), traces=traces) for _ in range(2))
        assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
        onnx.checker.check_model(first, full_check=True)


def test_every_operator_is_a_standard_one_and_every_random_model_passes_the_checker():
    for seed in range(20):
        model = step_model(Maker(seed).graph(), traces=True)
        onnx.checker.check_model(model, full_check=True)
        assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
        assert {n.domain for n in model.graph.node} == {""}
        assert not model.functions


def test_states_before_step_0_are_of_no_account_and_samples_follow_each_other():
    graph = looped()
    stepper = Stepper(step_model(graph), import_runtime())
    x = payloads(graph, 5, samples=2)["x"]
    x = np.broadcast_to(x, (2, 3, 2))
    want = reference.run(graph, {"x": x})["out"]
    state = {k: np.full((1, 2), 77, dtype=np.int32) for k in stepper.states}
    for sample in range(2):
        for t in range(3):
            values, state = stepper.step(t, {"x": x[sample, t][None]}, state)
            assert np.array_equal(values["out"][0], want[sample, t])


def test_a_step_beyond_the_constants_per_step_is_an_error_of_the_runtime():
    stepper = Stepper(step_model(looped()), import_runtime())
    with pytest.raises(Exception, match=r"indices|out of"):
        stepper.step(3, {"x": np.zeros((1, 2), np.int32)}, None)


def test_names_that_collide_are_told_apart():
    graph = program(
        source(1, name="step"),
        Diagonal(name="w", inputs=("step",), weight=whole(3)),
        neuron("out", ("w",), fire="none"),
        outputs={"step": "out.v"},
    )
    x = payloads(graph, 0)
    want = reference.run(graph, x, record=["out", "out.m", "out.v"])
    found, _ = run_onnx(graph, x)
    assert all(np.array_equal(found[k], want[k]) for k in want)


def test_many_samples_run_in_batches_and_tell_how_far_they_are():
    seen = []
    graph = looped()
    assert assert_same_bits(graph, payloads(graph, 0, samples=5), batch=2, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(2, 5), (4, 5), (5, 5)]

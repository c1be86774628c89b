"""The integer reference against its definition, written a second time: scalar Python integers, one neuron at a time."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snncompile.errors import InternalError
from snncompile.ir import reference
from snncompile.ir.graph import Dialect, Graph, validate
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.linear_ops import Conv2d, Delay, Diagonal, Gather, Linear
from snncompile.ir.neuron import Reset

BITS = 12


def ints(*values):
    return np.array(values, dtype=np.int64)


def neuron(name, inputs, **fields):
    zero = ints(0)
    default = {
        "fire": "step", "reset": Reset.SUBTRACT, "exponents": (0,) * len(inputs), "decay_bits": BITS, "leak": ints(4096), "bias": zero,
        "threshold": ints(10), "reset_amount": ints(10), "reset_value": zero, "v_init": np.zeros((), np.int64),
        "v_scale": np.ones(()), "out_scale": np.ones(()),
    }  # fmt: skip
    return IntNeuron(name=name, inputs=inputs, **{**default, **fields})


def source(*size, low=-50, high=50):
    return IntInput(name="x", size=size, lsb=np.ones(()), offset=np.zeros(()), low=low, high=high)


def network(*nodes, steps=4, output="n", **meta):
    graph = Graph(name="g", dialect=Dialect.INTEGER, nodes=nodes, outputs={"y": output}, steps=steps, meta=meta)
    validate(graph)
    return graph


def scalar_neuron(n, currents):
    """IntNeuron's docstring with Python integers."""

    def at(values, t):
        return int(values.reshape(-1)[t if values.shape[0] > 1 else 0])

    def decay(x, q):
        size = abs(x) * abs(q) // 2**BITS
        return size if (x < 0) == (q < 0) else -size

    def scaled(x, q, k):
        return round(Fraction(x * q, 2**k))

    v, i, w, rows = int(n.v_init), 0, 0, []
    for t, current in enumerate(currents):
        a = current << n.exponents[0]
        if n.alpha is not None:
            before, i = i, decay(i, at(n.alpha, t)) + a
            used = before if n.late_current else i
        else:
            used = a
        if n.gain is not None:
            used = scaled(used, at(n.gain, t), int(n.gain_shift.item()))
        m = decay(v, at(n.leak, t)) + used + at(n.bias, t)
        h = at(n.threshold, t) + w
        if n.fire == "step" and n.max_spikes > 1:
            step = at(n.spike_step, t) + w
            out = sum(m >= h + k * step for k in range(n.max_spikes))
        elif n.fire == "step":
            out = int(m >= h)
        elif n.fire == "relu":
            out = min(max(scaled(m - h, int(n.multiplier.item()), int(n.shift.item())), n.payload_min), n.payload_max)
        else:
            out = m
        kept = 0 if n.reset_keep is None else decay(m, at(n.reset_keep, t))
        v = {
            Reset.SUBTRACT: m - (at(n.reset_amount, t) + (w if n.adapt_reset else 0)) * out,
            Reset.SET: kept + at(n.reset_value, t) if out > 0 else m,
            Reset.CLAMP: min(m, h),
            Reset.KEEP: m,
            Reset.STATELESS: 0,
        }[n.reset]
        if n.v_min is not None:
            v = max(v, at(n.v_min, t))
        if n.adapt_jump is not None:
            w = decay(w, at(n.adapt_decay, t)) + at(n.adapt_jump, t) * out
        rows.append((out, m, v))
    return rows


@pytest.mark.parametrize("reset", list(Reset))
@pytest.mark.parametrize("fire", ["step", "relu", "none"])
@given(data=st.data())
@settings(max_examples=40)
def test_every_rule_equals_the_definition(fire, reset, data):
    steps = 5
    per_step = st.lists(st.integers(-40, 40), min_size=steps, max_size=steps).map(lambda v: ints(*v))
    factor = st.lists(st.sampled_from([0, 1024, 2048, 3686, 4096, -2048, 6000]), min_size=1, max_size=1).map(lambda v: ints(*v))
    extras = {}
    if data.draw(st.booleans()):
        extras |= {"gain": data.draw(per_step), "gain_shift": np.asarray(data.draw(st.integers(0, 6)))}
    if reset is Reset.SET and data.draw(st.booleans()):
        extras["reset_keep"] = data.draw(factor)
    if data.draw(st.booleans()):
        extras["v_min"] = data.draw(per_step)
    if fire != "none" and data.draw(st.booleans()):
        extras |= {"adapt_decay": data.draw(factor.filter(lambda q: 0 <= q[0] <= 4096)), "adapt_jump": abs(data.draw(per_step))}
        extras["adapt_reset"] = data.draw(st.booleans())
    if fire == "step" and data.draw(st.booleans()):
        extras |= {"max_spikes": data.draw(st.integers(2, 9)), "spike_step": abs(data.draw(per_step)) + 1}
    n = neuron(
        "n", ("w",), fire=fire, reset=reset, exponents=(data.draw(st.integers(0, 4)),), leak=data.draw(factor), bias=data.draw(per_step),
        threshold=data.draw(per_step),
        reset_amount=data.draw(st.sampled_from([ints(0), ints(1)])) if fire == "none" else data.draw(per_step),
        reset_value=data.draw(per_step), v_init=np.asarray(data.draw(st.integers(-99, 99))), alpha=data.draw(st.none() | factor),
        late_current=data.draw(st.booleans()), multiplier=ints(data.draw(st.integers(0, 99))), shift=ints(data.draw(st.integers(0, 7))),
        payload_min=data.draw(st.sampled_from([0, -15])), payload_max=15, **extras,
    )  # fmt: skip
    x = data.draw(st.lists(st.integers(-50, 50), min_size=steps, max_size=steps))
    graph = network(source(1), Linear(name="w", inputs=("x",), weight=np.array([[3]])), n, steps=steps)
    got = reference.run(graph, {"x": np.array(x).reshape(1, steps, 1)}, record=reference.references(graph))
    rows = list(zip(*(got[r].reshape(-1).tolist() for r in ("n", "n.m", "n.v")), strict=True))
    assert rows == scalar_neuron(n, [3 * k for k in x])


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [
        ((1, 1), (1, 1, 1, 1), (1, 1), 1),
        ((2, 1), (0, 2, 1, 0), (1, 2), 2),
        ((3, 2), (-1, 0, 2, -1), (2, 1), 1),
        ((1, 1), (0, 0, 0, 0), (1, 1), 4),
    ],
)
def test_convolution_equals_its_sum(stride, padding, dilation, groups):
    rng = np.random.default_rng(0)
    w = rng.integers(-127, 128, (4, 4 // groups, 3, 2))
    conv = Conv2d(name="w", inputs=("x",), weight=w.astype(np.int8), stride=stride, padding=padding, dilation=dilation, groups=groups)
    graph = network(source(4, 8, 7), conv, neuron("n", ("w",), fire="none", reset=Reset.STATELESS), steps=1)
    x = rng.integers(-50, 51, (3, 1, 4, 8, 7))
    got = reference.run(graph, {"x": x}, batch=2)["y"][:, 0]
    expected = np.zeros_like(got)
    for s, o, p, q in np.ndindex(*got.shape):
        for i, h, k in np.ndindex(*w.shape[1:]):
            row, col = p * stride[0] + h * dilation[0] - padding[0], q * stride[1] + k * dilation[1] - padding[2]
            if 0 <= row < 8 and 0 <= col < 7 and row < 8 + min(padding[1], 0) and col < 7 + min(padding[3], 0):
                if padding[0] < 0 and row < -padding[0]:
                    continue
                expected[s, o, p, q] += w[o, i, h, k] * x[s, 0, o // (4 // groups) * (4 // groups) + i, row, col]
    assert np.array_equal(got, expected)


def test_gathers_diagonals_delays_and_exponents():
    graph = network(
        source(2),
        Gather(name="g", inputs=("x",), index=np.array([1, -1, 0])),
        Diagonal(name="a", inputs=("g",), weight=np.array([1, 1, 2])),
        Delay(name="d", inputs=("n",), size=(3,), initial=np.array([7])),
        Linear(name="b", inputs=("d",), weight=np.eye(3, dtype=np.int64)),
        neuron("n", ("a", "b"), fire="none", reset=Reset.STATELESS, exponents=(3, 1)),
        steps=3,
    )
    got = reference.run(graph, {"x": np.array([[[1, 2]]])})["y"][0]
    assert got.tolist() == [[16 + 14, 14, 16 + 14], [16 + 60, 28, 16 + 60], [16 + 152, 56, 16 + 152]]


def test_samples_do_not_see_each_other_and_batches_do_not_matter():
    graph = network(source(2), Linear(name="w", inputs=("x",), weight=np.array([[1, 2], [3, -1]])), neuron("n", ("w",)), steps=4)
    x = np.random.default_rng(1).integers(-9, 10, (7, 4, 2))
    whole = reference.run(graph, {"x": x}, record=["n.v"])
    for batch in (1, 3):
        parts = reference.run(graph, {"x": x}, record=["n.v"], batch=batch)
        assert all(np.array_equal(whole[k], parts[k]) for k in ("y", "n.v"))


def test_a_static_input_equals_the_same_values_at_every_step():
    graph = network(source(2), Linear(name="w", inputs=("x",), weight=np.array([[1, 2], [3, -1]])), neuron("n", ("w",)), steps=4)
    x = np.random.default_rng(2).integers(-9, 10, (3, 1, 2))
    moving = reference.run(graph, {"x": np.repeat(x, 4, axis=1)})["y"]
    assert np.array_equal(reference.run(graph, {"x": x})["y"], moving)


def test_real_inputs_are_rounded_half_to_even_and_clipped():
    op = IntInput(name="x", size=(4,), lsb=np.asarray(0.5), offset=np.asarray(1.0), low=0, high=3)
    assert reference.quantise_input(op, np.array([1.25, 1.75, -5.0, 9.0])).tolist() == [0, 2, 0, 3]
    with pytest.raises(InternalError, match=r"payload of input 'x' reaches 4\.\.4"):
        reference.quantise_input(op, np.array([4]))


@pytest.mark.parametrize(("key", "what"), [("accumulator", "accumulator of 'w'"), ("membrane", "of 'n' at step 2")])
def test_overflow_is_an_error_not_a_wrap(key, what):
    nodes = (source(1), Linear(name="w", inputs=("x",), weight=np.array([[2]])), neuron("n", ("w",), reset=Reset.KEEP))
    x = np.array([[[3], [3], [3], [9]]])
    assert reference.run(network(*nodes, **{key: [-99, 99]}), {"x": x})["y"].shape == (1, 4, 1)
    with pytest.raises(InternalError, match=what):
        reference.run(network(*nodes, **{key: [-17, 17]}), {"x": x})


def test_sums_beyond_float64_are_refused():
    nodes = (source(1, low=0, high=2**40), Linear(name="w", inputs=("x",), weight=np.array([[2**20]])), neuron("n", ("w",)))
    with pytest.raises(InternalError, match="not exact in float64"):
        reference.run(network(*nodes), {"x": np.array([[[2**40]]])})

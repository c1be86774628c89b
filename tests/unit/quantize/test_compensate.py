"""Rounding by what is heard: smaller errors of the current, the same bits every time, and nothing where there is nothing to gain."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from population_nets import TARGET, graph_of, image_net, neuron, one_layer

from snncompile.ir.linear_ops import Input, Linear
from snncompile.ir.neuron import Fire, Reset
from snncompile.quantize import moments, quantize
from snncompile.quantize.compensate import REACH, Feedback


def correlated(rng, columns, rows=600, common=3):
    """Inputs that share a few causes, not negative, with their second moments."""
    x = np.maximum(0, rng.normal(size=(rows, common)) @ rng.normal(size=(common, columns)) + 0.4 * rng.normal(size=(rows, columns)))
    return x, x.T @ x / rows


def error(q, w, moments):
    return float(np.einsum("rk,kj,rj->", q - w, moments, q - w))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), columns=st.integers(40, 90), rows=st.integers(8, 16))
def test_correlated_inputs_lose_most_of_the_error(seed, columns, rows):
    rng = np.random.default_rng(seed)
    _, h = correlated(rng, columns)
    w = rng.uniform(-100, 100, (rows, columns))
    q = Feedback(h).rounded(w, 127)
    assert error(q, w, h) * 2 < error(np.rint(w), w, h)
    assert np.abs(q - w).max() <= REACH
    assert np.array_equal(q, Feedback(h.copy()).rounded(w.copy(), 127))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), columns=st.integers(1, 150))
def test_the_factor_is_that_of_the_moments(seed, columns):
    rng = np.random.default_rng(seed)
    _, h = correlated(rng, columns, rows=2 * columns + 20)
    f = Feedback(h)
    inverse = np.linalg.inv(f.upper)
    damped = h[np.ix_(f.order, f.order)] / np.diag(h).mean() + 0.01 * np.eye(columns)
    d = inverse @ damped @ inverse.T
    assert np.allclose(d, np.diag(np.diag(d)), atol=1e-9 * np.abs(damped).max())
    assert np.allclose(np.tril(f.upper, -1), 0)


@pytest.mark.parametrize("columns", [5, 64, 130])
def test_rounding_is_the_formula_and_leaves_what_it_says(columns):
    """Equation (2) of the module weight by weight, with U from NumPy's own Cholesky factor, and the error that D and e predict."""
    rng = np.random.default_rng(columns)
    _, h = correlated(rng, columns)
    w = rng.uniform(-100, 100, (6, columns))
    order = np.argsort(-np.diag(h), kind="stable")
    damped = h[np.ix_(order, order)] / np.diag(h).mean() + 0.01 * np.eye(columns)
    turned = np.linalg.cholesky(damped[::-1, ::-1])
    upper, d = (turned / np.diag(turned))[::-1, ::-1], np.diag(turned)[::-1] ** 2
    q, e = np.empty_like(w), np.empty_like(w)
    for row, x in enumerate(w[:, order]):
        for k in range(columns):
            wanted = x[k] + sum((x[j] - q[row, order[j]]) * upper[j, k] for j in range(k))
            q[row, order[k]] = np.clip(np.rint(wanted), np.ceil(x[k] - REACH), np.floor(x[k] + REACH))
            e[row, k] = q[row, order[k]] - wanted
    off = (q - w)[:, order]
    assert np.array_equal(Feedback(h).rounded(w, 127), q)
    np.testing.assert_allclose(np.einsum("rk,kj,rj->r", off, damped, off), (d * e**2).sum(axis=1), rtol=1e-9)


def test_rows_on_a_trained_grid_stay_and_others_do_not():
    rng = np.random.default_rng(0)
    _, h = correlated(rng, 40)
    w = rng.uniform(-50, 50, (4, 40))
    w[1] = rng.choice([-1.0, 1.0], 40) * (1 + 1e-9)
    w[3] = rng.choice([-1.0, 0.0, 1.0], 40)
    q = Feedback(h).rounded(w, 127)
    assert np.array_equal(q[[1, 3]], np.rint(w[[1, 3]]))
    assert not np.array_equal(q[[0, 2]], np.rint(w[[0, 2]]))


@pytest.mark.parametrize("h", [np.zeros((5, 5)), np.diag([0.0, 1, 0, 0, 0]), np.full((5, 5), 1e200), np.full((5, 5), 1e-200)])
def test_degenerate_inputs_are_safe(h):
    w = np.array([[0.4, -3.6, 126.9, -140.0, 0.0], [1e9, -1e9, 0.5, 1.5, 2.5]])
    q = Feedback(h).rounded(w, 127)
    assert q.dtype == np.int64
    assert np.abs(q).max() <= 127
    if not np.any(h):
        assert np.array_equal(q, np.clip(np.rint(w), -127, 127))


def test_one_column_is_rounded_to_the_nearest():
    assert np.array_equal(Feedback(np.ones((1, 1))).rounded(np.array([[2.4], [-7.6]]), 127), [[2], [-8]])


def layer(seed=0, **fields):
    rng = np.random.default_rng(seed)
    graph = one_layer(rng, inputs=30, outputs=12, bias=rng.normal(0, 0.1, (1, 12)), **fields)
    x, _ = correlated(rng, 30, rows=40 * 5)
    return graph, (x > x.mean()).astype(float).reshape(40, 5, 30)


@pytest.mark.parametrize("seed", range(5))
def test_a_population_hears_its_errors_cancel_and_says_so(seed):
    graph, x = layer(seed)
    report = quantize(graph, TARGET, calibration={"x": x}).populations[0]
    assert report.exact == quantize(graph, TARGET).populations[0].exact
    assert report.adapted.samples == 40
    assert report.adapted.after * 2 < report.adapted.before


def test_without_calibration_weights_are_the_nearest_integers():
    graph, x = layer()
    plain, silent = quantize(graph, TARGET), quantize(graph, TARGET, calibration={"x": np.zeros((3, 5, 30))})
    assert plain.populations[0].adapted is None
    assert silent.populations[0].adapted is None
    for other in (silent, quantize(graph, TARGET, calibration={"x": x[:0]})):
        assert np.array_equal(other.graph.by_name["w"].weight, plain.graph.by_name["w"].weight)
    assert not np.array_equal(quantize(graph, TARGET, calibration={"x": x}).graph.by_name["w"].weight, plain.graph.by_name["w"].weight)


def test_binary_weights_are_left_alone():
    rng = np.random.default_rng(1)
    graph, x = layer(weight=0.07 * rng.choice([-1.0, 1.0], (12, 30)))
    result = quantize(graph, TARGET, calibration={"x": x})
    assert result.populations[0].adapted is None
    assert result.populations[0].weight_error < 1e-12
    assert set(np.unique(result.graph.by_name["w"].weight)) == {-1, 1}


def test_a_dead_channel_and_a_recurrent_network_are_safe():
    rng = np.random.default_rng(2)
    weight = rng.normal(size=(12, 30))
    weight[3] = 0
    graph, x = layer(weight=weight)
    assert not np.any(quantize(graph, TARGET, calibration={"x": x}).graph.by_name["w"].weight[3])
    images = rng.uniform(0, 1, (6, 1, 2, 6, 6))
    result = quantize(image_net(rng), TARGET, calibration={"x": images})
    assert all(r.adapted is None or r.adapted.after <= r.adapted.before for r in result.populations)


def test_wide_rows_are_cut_and_few_vectors_are_enough(monkeypatch):
    graph, x = layer()
    monkeypatch.setattr(moments, "COLUMNS", (7,))
    cut = quantize(graph, TARGET, calibration={"x": x}).populations[0].adapted
    monkeypatch.setattr(moments, "ROWS", 50)
    few = quantize(graph, TARGET, calibration={"x": x}).populations[0].adapted
    monkeypatch.setattr(moments, "WORK", 3.5 * moments.sample_work(graph))
    three = quantize(graph, TARGET, calibration={"x": x}).populations[0].adapted
    assert cut.after < cut.before
    assert few.after < few.before
    assert three.samples == 3


def test_a_network_too_large_to_follow_is_rounded_to_the_nearest_and_says_so(monkeypatch):
    graph, x = layer()
    monkeypatch.setattr(moments, "WORK", 0.5 * moments.sample_work(graph))
    monkeypatch.setattr("snncompile.quantize.flow.WORK", 0.5 * moments.sample_work(graph))
    result = quantize(graph, TARGET, calibration={"x": x})
    assert result.populations[0].adapted is None
    assert any("nearest integers" in note for note in result.notes)
    assert np.array_equal(result.graph.by_name["w"].weight, quantize(graph, TARGET).graph.by_name["w"].weight)


def test_many_weights_are_rounded_in_small_parts(monkeypatch):
    graph, x = layer()
    whole = quantize(graph, TARGET, calibration={"x": x}).populations[0].adapted
    monkeypatch.setattr(moments, "EFFORT", 0.0)
    monkeypatch.setattr(moments, "COLUMNS", (30, 5))
    parts = quantize(graph, TARGET, calibration={"x": x}).populations[0].adapted
    assert whole.after < parts.after < parts.before


def test_readouts_keep_one_scale_and_hear_sums():
    rng = np.random.default_rng(3)
    graph = graph_of(
        Input(name="x", size=(30,), low=0.0, high=1.0, grid=1.0), Linear(name="w", inputs=("x",), weight=rng.normal(size=(4, 30))),
        neuron("n", "w", fire=Fire.NONE, reset=Reset.STATELESS),
    )  # fmt: skip
    result = quantize(graph, TARGET, calibration={"x": layer()[1]})
    assert np.unique(result.graph.by_name["n"].v_scale).size == 1
    assert result.populations[0].adapted.after < result.populations[0].adapted.before


PROGRAM = """
import sys; sys.path[:0] = sys.argv[1:]
import hashlib, numpy as np
from snncompile.ir.text import to_text
from test_compensate import layer, TARGET, quantize
graph, x = layer(7)
text, tensors = to_text(quantize(graph, TARGET, calibration={"x": x}).graph)
print(hashlib.sha256(text.encode() + b"".join(tensors[k].tobytes() for k in sorted(tensors))).hexdigest())
"""


def test_the_number_of_threads_changes_no_bit():
    digests = set()
    for threads in ("1", "2", "4"):
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), *sys.path], check=True, capture_output=True, text=True,
            env=os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
        )  # fmt: skip
        digests.add(run.stdout)
    assert len(digests) == 1

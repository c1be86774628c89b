"""Inputs keep the grid that they lie on, and are rounded over their range where they lie on none."""

import numpy as np
import pytest

from snncompile.ir.linear_ops import Input
from snncompile.ir.reference import quantise_input
from snncompile.quantize.inputs import quantise_input_op


def image(size=(3, 4, 4), **fields):
    return Input(name="x", size=size, **fields)


def test_a_declared_grid_is_kept():
    op, note = quantise_input_op(image(low=0.0, high=255.0, grid=1.0), None, 8)
    assert (op.low, op.high, op.lsb.item(), op.offset.item()) == (0, 255, 1.0, 0.0)
    assert "256 levels, as declared" in note


def test_spikes_take_one_bit():
    for op, _ in (
        quantise_input_op(image(low=0, high=1, grid=1), None, 8),
        quantise_input_op(image(), np.eye(4) * np.ones((2, 1, 3, 1, 1)), 8),
    ):
        assert (op.low, op.high, op.lsb.item(), op.offset.item()) == (0, 1, 1.0, 0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normalised_bytes_are_recognised_per_channel(dtype):
    rng = np.random.default_rng(0)
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.247, 0.243, 0.261])
    k = rng.integers(0, 256, (300, 1, 3, 4, 4))
    data = ((k / 255 - mean[:, None, None]) / std[:, None, None]).astype(dtype)
    op, note = quantise_input_op(image(), data, 8)
    assert "256 levels, kept exactly" in note
    assert np.array_equal(quantise_input(op, data), k)
    assert np.allclose(op.lsb.reshape(-1), 1 / 255 / std, rtol=1e-6)
    assert np.allclose(op.offset.reshape(-1), -mean / std, rtol=1e-6)
    assert (op.low, op.high) == (0, 255)


def test_a_grid_through_zero_counts_from_zero():
    data = np.random.default_rng(1).integers(-8, 8, (100, 1, 3, 4, 4)) / 8
    op, _ = quantise_input_op(image(), data, 4)
    assert (op.low, op.high, op.lsb.item(), op.offset.item()) == (-8, 7, 0.125, 0.0)
    assert np.array_equal(quantise_input(op, data), data * 8)


def test_levels_unseen_in_calibration_still_have_a_payload():
    data = np.arange(2, 250)[None, None, None, None] / 255 * np.ones((1, 1, 1, 4, 248))
    op, _ = quantise_input_op(image((1, 4, 248)), data, 8)
    far = np.array([0.0, 1.0]).reshape(2, 1, 1, 1) * np.ones((1, 1, 4, 248))
    back = quantise_input(op, far) * op.lsb + op.offset
    assert np.allclose(back, far)


def test_real_values_are_rounded_over_their_range_with_an_exact_zero():
    data = np.random.default_rng(2).normal(size=(50, 2, 3, 4, 4))
    op, note = quantise_input_op(image(), data, 8)
    assert "rounded to 8 bits over the calibrated range" in note
    assert not np.any(op.offset)
    assert op.high - op.low == 255
    error = np.abs(quantise_input(op, data) * op.lsb - data)
    assert error.max() <= op.lsb.item() * 1.01
    assert quantise_input(op, np.zeros((1, 3, 4, 4))).max() == 0


def test_clipped_calibration_values_are_counted():
    data = np.random.default_rng(3).uniform(-1, 1, (1000, 1, 2))
    _, note = quantise_input_op(image((2,), low=-0.5, high=1.0), data, 8)
    assert f"; {(data < -0.5 - 0.75 / 255).sum()} of 2000 calibration values clipped" in note


def test_fewer_input_bits_round_a_finer_grid():
    op, note = quantise_input_op(image(low=0.0, high=255.0, grid=1.0), None, 4)
    assert "rounded to 4 bits over the declared range" in note
    assert (op.low, op.high, op.lsb.item()) == (0, 15, 17.0)


def test_constant_data_is_a_grid_of_its_own():
    op, _ = quantise_input_op(image(), np.zeros((2, 1, 3, 4, 4)), 8)
    assert quantise_input(op, np.zeros((1, 3, 4, 4))).max() == 0

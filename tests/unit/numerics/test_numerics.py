"""Rounding tables, formats, and intervals that enclose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snncompile.numerics import Format, Interval, decay, floor, half_even, multiply_shift, snap, toward_zero, trailing_zeros

X = [-2.5, -1.5, -1.2, -0.5, -0.0, 0.5, 0.7, 1.5, 2.5]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (half_even, [-2, -2, -1, 0, 0, 0, 1, 2, 2]),
        (toward_zero, [-2, -1, -1, 0, 0, 0, 0, 1, 2]),
        (floor, [-3, -2, -2, -1, 0, 0, 0, 1, 2]),
    ],
)
def test_rounding_modes_follow_their_table(mode, expected):
    assert mode(X).tolist() == expected
    assert mode(X).dtype == np.int64


@pytest.mark.parametrize(
    ("x", "q", "expected"),
    [
        (7, 2048, 3),
        (-7, 2048, -3),
        (7, 4096, 7),
        (-7, 4096, -7),
        (7, 0, 0),
        (-1, 4095, 0),
        (7, -2048, -3),
        (-7, -2048, 3),
        (5, 8191, 9),
        (4096, 1, 1),
    ],
)
def test_decay_truncates_toward_zero(x, q, expected):
    assert decay(x, q, 12) == expected


@pytest.mark.parametrize(
    ("x", "multiplier", "shift", "expected"),
    [
        (1, 1, 1, 0),
        (3, 1, 1, 2),
        (5, 1, 1, 2),
        (-1, 1, 1, 0),
        (-3, 1, 1, -2),
        (-5, 1, 1, -2),
        (7, 3, 2, 5),
        (7, 3, 0, 21),
        (-7, 3, 3, -3),
        (6, 1, 2, 2),
        (10, 1, 2, 2),
    ],
)
def test_multiply_shift_rounds_half_to_even(x, multiplier, shift, expected):
    assert multiply_shift(x, multiplier, shift) == expected


@given(st.integers(-(2**23), 2**23), st.integers(0, 2**16 - 1), st.integers(0, 30))
def test_multiply_shift_is_the_exact_rational_rounded(x, multiplier, shift):
    from fractions import Fraction

    assert multiply_shift(x, multiplier, shift) == round(Fraction(x * multiplier, 2**shift))


@pytest.mark.parametrize(
    ("text", "low", "high"), [("s8", -127, 127), ("u8", 0, 255), ("u1", 0, 1), ("s24", -(2**23) + 1, 2**23 - 1), ("u12", 0, 4095)]
)
def test_formats_know_their_range(text, low, high):
    f = Format.parse(text)
    assert (f.low, f.high, str(f)) == (low, high, text)
    assert f.fits([low, high])
    assert not f.fits([high + 1])
    assert not f.fits(low - 1)


@pytest.mark.parametrize("text", ["", "8", "s", "s0", "s1", "u0", "i8", "u64", "s8 ", "S8", "u999"])
def test_what_is_no_format_is_refused(text):
    with pytest.raises(ValueError, match="not a number format"):
        Format.parse(text)


def test_trailing_zeros_and_snap():
    assert [trailing_zeros(x) for x in (1, 8, -8, [4, 6], [0, 32], 0, [])] == [0, 3, 3, 1, 5, 64, 64]
    values, whole = snap([2.0, 2 + 1e-14, 2.5, 2 + 1e-9])
    assert values.tolist() == [2.0, 2.0, 2.5, 2 + 1e-9]
    assert whole.tolist() == [True, True, False, False]


@given(st.tuples(st.integers(-999, 999), st.integers(-999, 999)).map(sorted), st.data())
def test_intervals_enclose_every_result(ends, data):
    x = data.draw(st.integers(*ends))
    q, cap, shift = data.draw(st.integers(-8191, 8191)), data.draw(st.integers(-999, 999)), data.draw(st.integers(0, 5))
    box = Interval.of(*ends)
    for value, result in [
        (decay(x, q, 12), box.decayed(q, 12)),
        (min(x, cap), box.at_most(cap)),
        (x << shift, box.shifted(shift)),
        (x + cap, box + Interval.point(cap)),
        (np.clip(multiply_shift(x, q, shift), -9, 255), box.scaled(q, shift).clamped(-9, 255)),
        (x * q, box.times(q)),
        (-x, -box),
        (np.maximum(x, cap), box.at_least(cap)),
        (cap, box.hull(Interval.point(cap))),
    ]:
        assert result.low <= value <= result.high


def test_rounding_keeps_the_sign_of_what_no_integer_holds():
    np.testing.assert_array_equal(half_even([1e30, -1e30, np.inf, 2.5, -3.5]), [2**62, -(2**62), 2**62, 2, -4])

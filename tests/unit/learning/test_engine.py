"""The integer learning engine against Lava's own model, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from random_rules import TARGET, WIDTHS, differences, random_case, run_lava

from snncompile.learning.engine import BLOCK, Draws, PlasticDense
from snncompile.learning.rule import Factor, Product, Rule, Trace


def test_twenty_random_rules_learn_the_same_weights_as_lava_at_every_step(tmp_path):
    cases = [random_case(seed, 40) for seed in range(20)]
    found = run_lava(cases, tmp_path, timeout_s=120)
    assert [d for case, lava in zip(cases, found, strict=True) for d in differences(case, lava)] == []
    learned = sum(bool(np.any(lava["w"] != lava["w"][0])) for lava in found)
    assert learned >= 15


@pytest.mark.slow
def test_two_hundred_random_rules_learn_the_same_weights_as_lava(tmp_path):
    cases = [random_case(seed, 100) for seed in range(1000, 1200)]
    found = run_lava(cases, tmp_path, timeout_s=600)
    assert [d for case, lava in zip(cases, found, strict=True) for d in differences(case, lava)] == []


@pytest.mark.slow
def test_rules_run_for_ten_thousand_steps_learn_the_same_weights_as_lava(tmp_path):
    cases = [random_case(seed, 10_000) for seed in (7, 11, 31)]
    found = run_lava(cases, tmp_path, timeout_s=600)
    assert [d for case, lava in zip(cases, found, strict=True) for d in differences(case, lava)] == []


def test_random_rules_are_rules_that_the_target_takes():
    for seed in range(200):
        random_case(seed, 1).rule.check(TARGET)


OTTT = Rule(
    dw=(Product("u", -4, -5, (Factor("x1"), Factor("y1"))), Product("u", 4, -5, (Factor("x1"), Factor("y2")))),
    x1=Trace(16, 1.442695),
)


def test_a_rule_prints_as_an_equation_and_as_lavas_text():
    assert OTTT.lava("dw") == "-4*2^-5*u0*x1*y1 + 4*2^-5*u0*x1*y2"
    assert OTTT.lava("dt") is None
    assert OTTT.equation().splitlines()[1] == "x1[t] = round(exp(-1/1.4427) * x1[t-1]) + 16 * s[t]"


def test_an_even_third_factor_updates_without_rounding():
    synapse = PlasticDense(OTTT, WIDTHS, np.zeros((1, 1), dtype=np.int64))
    y = np.array([[8], [0], [0]])
    synapse.step(np.array([1]), y)
    assert synapse.w.tolist() == [[-2]]  # -4 * 2**-5 * 16 * 8 / 2**3


def test_nothing_is_learned_without_a_third_factor():
    synapse = PlasticDense(OTTT, WIDTHS, np.array([[12, -6]]))
    for _ in range(50):
        synapse.step(np.array([1, 0]))
    assert synapse.w.tolist() == [[12, -6]]
    assert synapse.x[0, 0] > 16


@pytest.mark.parametrize("below", [None, 128, 100])
def test_random_numbers_that_are_passed_over_are_those_that_would_have_been_drawn(below):
    one_by_one, places = Draws(7, below), [0, 3, BLOCK - 1, BLOCK, 5 * BLOCK + 17, 40 * BLOCK, 10**6 + 1]
    assert [Draws(7, below).at(n) for n in places] == [one_by_one.at(n) for n in range(10**6 + 2) if n in places]

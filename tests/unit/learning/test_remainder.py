"""What rounding a third factor leaves is sent later: sums lose nothing, and no neuron starts like another."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_learner import deep_learner, learner

from snncompile.learning.error_population import ONE_BITS, ErrorState
from snncompile.learning.modulator import ModulatorState
from snncompile.learning.remainder import REST_BITS, first_rests


def test_first_remainders_are_spread_over_all_that_they_can_be():
    rests = first_rests(1, 4000) / 2**REST_BITS
    assert 0 <= rests.min() < 0.01
    assert 0.99 < rests.max() < 1
    assert abs(rests.mean() - 0.5) < 0.02
    assert not np.array_equal(first_rests(2, 4000), first_rests(1, 4000))


@pytest.mark.parametrize("loss", ["softmax", "mse"])
def test_the_sum_of_all_errors_sent_is_that_of_the_errors_within_one_level(loss):
    plastic = learner(loss=loss)
    p, g = plastic.program.error, np.random.default_rng(0)
    state, sent, wanted = ErrorState(p, 3), np.zeros(3), np.zeros(3)
    for _ in range(500):
        z, label = g.integers(-(2**18), 2**18, 3), int(g.integers(3))
        k = state.step(z, label)
        if loss == "mse":
            x = (z * p.multiplier - p.one * (np.arange(3) == label)) / 2**p.shift
            if np.any(np.abs(x) > p.levels - 1):
                state.rest = state.rest * 0  # what is clipped is lost, so such a step does not count
                sent, wanted = sent * 0, wanted * 0
                continue
        else:
            octaves = np.minimum(((z.max() - z) * p.multiplier) >> p.shift, ONE_BITS << 6)
            e = state._table[octaves]
            x = p.levels * (e / e.sum() - (np.arange(3) == label))
        sent, wanted = sent + k, wanted + x
        assert np.all(np.abs(sent - wanted) < 1.01)
    assert np.abs(sent).max() > 5


def test_the_sum_of_a_modulators_third_factors_is_that_of_the_products_within_one():
    modulator = deep_learner().program.layers[0].modulator
    state, g = ModulatorState(modulator, 20), np.random.default_rng(0)
    sent, wanted = np.zeros(20), np.zeros(20)
    feedback, gain = np.array(modulator.feedback), np.array(modulator.multiplier)
    for t in range(400):
        state.hear(t % 4, g.integers(-(2**19), 2**19, 20), np.zeros(20, dtype=np.int64))
        graded = g.integers(-400, 400, 3)
        wanted = wanted + (feedback @ graded) * state._psi * gain / 2.0**modulator.shift
        k = state.back(graded)
        assert np.all(np.abs(k) < modulator.levels)
        sent = sent + k
        assert np.all(np.abs(sent - wanted) <= 1)
    assert np.abs(sent).max() > 2

"""A stream in pieces learns what the stream in one piece learns, bit for bit."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from random_rules import WIDTHS
from tiny_learner import DeepLearner, activities, compiled_learner, deep_learner, learner, spikes, stream

from snncompile.learning import Learned, Plastic
from snncompile.learning.state import LearningState
from snncompile.learning.stream import learn

SAMPLES = 9
MADE = {
    "readout-ottt": lambda: learner(rule="ottt"),
    "readout-sltt": lambda: learner(rule="sltt", loss="mse"),
    "hidden-ottt": deep_learner,
    "hidden-sltt": lambda: deep_learner(rule="sltt"),
    "frozen-between": lambda: deep_learner(layer=("fc1", "out")),
    "hidden-alone": lambda: deep_learner(layer="fc2", loss="mse"),
    "slow-trace": lambda: compiled_learner(DeepLearner(leak=0.75), layer=("fc1", "out"), rate=0.3),
    "local": lambda: deep_learner(rule="ltl", rate=0.4),
    "local-first": lambda: deep_learner(rule="ltl", layer="fc1", rate=0.4),
}


@cache
def made(name: str) -> Plastic:
    return MADE[name]()


def run(plastic: Plastic, part: slice, state: LearningState | None = None, stop_at: int | None = None) -> Learned:
    """Learn from some of the stream's samples; ``stop_at`` ends it after so many of them."""
    x, y = stream(SAMPLES)
    asked = iter(range(1, SAMPLES + 1))
    stop = None if stop_at is None else lambda: next(asked) == stop_at
    activity = {k: v[part] for k, v in activities(plastic, SAMPLES).items()}
    return learn(
        plastic.program, plastic.result.graph, plastic.schedule, WIDTHS, spikes(plastic, x)[part], y[part], activity=activity,
        state=state, stop=stop,
    )  # fmt: skip


def same(whole: Learned, parts: list[Learned]) -> None:
    """Weights after every sample, third factors, logits and the state at the end."""
    np.testing.assert_array_equal(whole.logits, np.concatenate([p.logits for p in parts]))
    for k, layer in enumerate(whole.layers):
        pieces = [p.layers[k] for p in parts]
        np.testing.assert_array_equal(layer.weights[1:], np.concatenate([p.weights[1:] for p in pieces]))
        np.testing.assert_array_equal(layer.sent, np.concatenate([p.sent for p in pieces]))
        for before, after in pairwise(pieces):
            np.testing.assert_array_equal(before.final, after.weights[0])
    ours, theirs = whole.state.arrays(), parts[-1].state.arrays()
    assert whole.state.samples == parts[-1].state.samples == SAMPLES
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("cuts", [(4,), (1, 2, 8), tuple(range(1, SAMPLES))], ids=str)
def test_a_stream_in_pieces_learns_the_same_bits(name, cuts):
    plastic = made(name)
    whole = run(plastic, slice(SAMPLES))
    assert all(np.any(x.final != x.weights[0]) for x in whole.layers)
    parts, state = [], None
    for begin, end in zip((0, *cuts), (*cuts, SAMPLES), strict=True):
        parts.append(run(plastic, slice(begin, end), state))
        kept = parts[-1].state  # through what a bundle stores
        state = LearningState.of(kept.samples, kept.arrays(), plastic.program, plastic.result.graph)
    same(whole, parts)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("at", [1, 5, 8])
def test_a_stream_that_was_stopped_goes_on_as_if_it_had_not_been(name, at):
    plastic = made(name)
    whole = run(plastic, slice(SAMPLES))
    stopped = run(plastic, slice(SAMPLES), stop_at=at)
    short = run(plastic, slice(at))
    assert len(stopped.logits) == stopped.at[-1] == stopped.state.samples == at
    for a, b in zip(stopped.layers, short.layers, strict=True):
        np.testing.assert_array_equal(a.weights, b.weights)
        np.testing.assert_array_equal(a.checks, b.checks)
    same(whole, [stopped, run(plastic, slice(at, SAMPLES), stopped.state)])


@pytest.mark.parametrize("change", ["shape", "type", "missing", "samples"])
def test_a_state_of_another_program_is_not_taken(change):
    plastic = made("hidden-ottt")
    kept = run(plastic, slice(2)).state
    arrays, name = kept.arrays(), "lif1.w"
    if change == "missing":
        arrays.pop(name)
    else:
        arrays[name] = {"shape": arrays[name][:-1], "type": arrays[name].astype(float), "samples": arrays[name]}[change]
    with pytest.raises((KeyError, ValueError)):
        LearningState.of(0 if change == "samples" else 2, arrays, plastic.program, plastic.result.graph)

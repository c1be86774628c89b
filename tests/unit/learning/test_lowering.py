"""The synapse that learns beside the trained one: what stays, what it costs, how fine it is, and that nothing can overflow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from random_rules import WIDTHS
from tiny_learner import (
    STEPS,
    NormLearner,
    TinyLearner,
    compiled,
    compiled_learner,
    deep,
    deep_learner,
    learner,
    plastic_of,
    spikes,
    stream,
    tiny,
)

from snncompile.ir import reference
from snncompile.learning import Plastic
from snncompile.learning.lowering import CLIPPED, enough_for, enough_of
from snncompile.learning.stream import learn, run_frozen


@pytest.mark.parametrize("rule", ["ottt", "sltt", "ltl"])
def test_trained_weights_stay_as_they_were_quantised_and_the_program_computes_the_same(rule):
    plastic, before = deep_learner(rule=rule), deep().result.graph
    after = plastic.result.graph
    for layer in plastic.program.layers:
        np.testing.assert_array_equal(after.by_name[layer.synapse].weight, before.by_name[layer.synapse].weight)
        assert not np.any(after.by_name[layer.change].weight)
    x, _ = stream(8)
    record = [n.name for n in before.nodes if n.kind == "int_neuron" and n.fire == "step"]
    ours, theirs = (reference.run(g, {g.nodes[0].name: x}, record=record) for g in (after, before))
    for name in record:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_the_report_counts_both_synapses():
    for made, result in ((learner(), tiny().result), (deep_learner(), deep().result)):
        twice = {x.population for x in made.program.layers}
        for now, before in zip(made.result.populations, result.populations, strict=True):
            assert now.synapses == (2 if now.name in twice else 1) * before.synapses


def peak_reached(plastic: Plastic, sign: int) -> int:
    """The largest membrane of a plastic layer when every weight has learned all that it can, and all neurons before it fire."""
    (layer,) = plastic.program.layers
    graph, n = plastic.result.graph, plastic.result.graph.shape(layer.source)[0]
    weights = [np.full(layer.chip_weights(graph).shape, 255 if sign > 0 else -256)]
    return int(np.abs(run_frozen(plastic.program, graph, np.ones((1, STEPS, n), dtype=np.uint8), weights)).max())


@pytest.mark.parametrize("headroom", [0.01, 1.5, 8.0, 60.0])
def test_the_bounds_hold_for_all_that_can_be_learned_at_any_headroom(headroom):
    plastic = learner(headroom=headroom)
    (layer,) = plastic.program.layers
    low, high = next(p for p in plastic.result.populations if p.name == layer.population).bounds["membrane"]
    assert max(-low, high) <= tiny().target.membrane.high
    assert max(peak_reached(plastic, 1), peak_reached(plastic, -1)) <= max(-low, high)
    if headroom > 1:
        assert max(peak_reached(plastic, 1), peak_reached(plastic, -1)) > 0.5 * max(-low, high)
    largest = np.abs(tiny().float_graph.by_name[layer.synapse].weight).max()
    assert np.all(255 * np.array(layer.lsb) >= headroom * largest)
    assert np.all(255 * np.array(layer.lsb) < 2 * headroom * largest * 1.0001)


def test_a_membrane_coarser_for_the_sake_of_what_is_learned_fires_at_the_same_threshold():
    fine, coarse = deep_learner(layer="fc1", headroom=0.1), deep_learner(layer="fc1", headroom=40.0)
    a, b = (p.result.graph.by_name["lif1"] for p in (fine, coarse))
    assert b.exponents[0] < a.exponents[0]
    np.testing.assert_array_equal(a.leak, b.leak)
    for field in ("threshold", "reset_amount", "bias"):
        apart = getattr(a, field) * a.v_scale - getattr(b, field) * b.v_scale
        assert np.all(np.abs(apart) <= b.v_scale), field
    report = next(p for p in coarse.result.populations if p.name == "lif1")
    assert not report.exact
    assert "of the guard bits that its constants need" in report.reason


def test_changes_that_a_trial_saw_get_the_finest_range_that_holds_them():
    plain = learner(rate=0.02)
    (layer,) = plain.program.layers
    x, y = stream(40)
    graph = plain.result.graph
    learned = learn(plain.program, graph, plain.schedule, WIDTHS, spikes(plain, x), y).layers[0]
    moved = (learned.final - learned.weights[0]) * np.array(layer.lsb)[:, None]
    (tried,) = learner(rate=0.02, moved={layer.population: moved}).program.layers
    most = 255 * np.array(tried.lsb)
    assert enough_for(moved)(most)
    assert not enough_for(moved)(most / 2)
    assert np.all(np.array(tried.lsb) < np.array(layer.lsb) / 2)


def test_enough_is_all_but_a_little_of_the_energy():
    moved = np.array([[1.0, -1.0, 10.0], [1.0, 1.0, 1.0]])
    beyond = np.sqrt(CLIPPED * (moved**2).sum())
    assert enough_for(moved)(np.full(2, 10 - 0.999 * beyond))
    assert not enough_for(moved)(np.full(2, 10 - 1.001 * beyond))
    assert enough_of(np.array([[2.0, -4.0], [0.0, 0.0]]), 0.5)(np.array([2.0, 0.0]))  # a neuron without weights asks for nothing
    assert not enough_of(np.zeros((2, 2)), 0.5)(np.array([0.4, 1.0]))


def test_neurons_whose_lsbs_differ_are_taught_the_same_change():
    """A folded norm gives every neuron another scale; the third factors make up for it."""
    plastic = compiled_learner(NormLearner(), layer=("fc1", "out"), rule="osr", rate=0.1)
    hidden = plastic.program.layers[0]
    lsb, share, multiplier = np.array(hidden.lsb), np.array(hidden.share), np.array(hidden.modulator.multiplier)
    assert lsb.max() / lsb.min() > 2
    np.testing.assert_allclose(multiplier * lsb / share, (multiplier * lsb / share).mean(), rtol=1e-3)


def test_a_layer_whose_exactness_needs_more_bits_than_its_changes_have_says_so():
    moved = {"lif1": np.full((20, 16), 1e-6)}
    c = deep()
    plastic = plastic_of(c, {"layer": ("fc1", "out"), "rate": 1e-5, "moved": moved})
    report = next(p for p in plastic.result.populations if p.name == "lif1")
    assert not report.exact
    assert "what it learns counts 2**0 membrane LSBs" in report.reason


def test_learning_is_refused_where_nothing_is_left_for_it():
    c = compiled(TinyLearner())
    narrow = replace(c.target, membrane=type(c.target.membrane)(True, 12))
    with pytest.raises(Exception, match="SNN809"):
        plastic_of(replace(c, target=narrow), {"layer": "out"})

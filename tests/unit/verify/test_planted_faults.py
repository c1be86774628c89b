"""Faults planted one per cause, each found where it is and named by what it is."""

import numpy as np
import pytest
from planted import change, integers, late, network, spikes

from snncompile.ir.neuron import Fire, Reset, constant
from snncompile.verify import replay
from snncompile.verify.localise import Side, localise
from snncompile.verify.rerun import run_graph
from snncompile.verify.unit import currents, cut

NET = network()
WHOLE = integers(NET)
LATTICE = integers(network(grid=0.25))


def found(a, b, x=None):
    return localise(a, b, spikes(40) if x is None else x)


def model(graph, label="model"):
    return Side(label=label, graph=graph)


def executor(graph, wrong, x=None):
    """A run that claims to be of ``graph`` and is of ``wrong``."""
    return Side(label="executor", graph=graph, recorded=run_graph(wrong, spikes(40) if x is None else x))


def causes(result):
    assert result.explanation is not None
    assert result.explanation.left == 0
    return [c.cause for c in result.explanation.confirmed]


def weight(graph, name):
    return graph.by_name[name].weight


FLOAT_FAULTS = {
    "reset kind": lambda g: change(g, "n2", reset=Reset.SET),
    "missing bias": lambda g: change(g, "n2", bias=constant(0.0)),
    "input scaling": lambda g: change(g, "w2", weight=2.74 * weight(g, "w2")),
    "hop misalignment": lambda g: late(g, "n1", "w2"),
    "different leak": lambda g: change(g, "n2", leak=constant(0.8)),
    "leak rounding": lambda g: change(g, "n2", leak=constant(0.501)),
    "different threshold": lambda g: change(g, "n2", theta=constant(1.2)),
    "threshold rounding": lambda g: change(g, "n2", theta=constant(1.015)),
    "weight rounding": lambda g: change(g, "w2", weight=np.rint(weight(g, "w2") * 32) / 32),
    "different weights": lambda g: change(g, "w2", weight=weight(g, "w2")[::-1]),
    "several spikes in a step": lambda g: change(g, "n2", max_spikes=3),
    "lower bound": lambda g: change(g, "n2", v_min=constant(-0.1)),
    "initial membrane": lambda g: change(g, "n2", v_init=np.asarray(0.3)),
}


@pytest.mark.parametrize("cause", FLOAT_FAULTS)
@pytest.mark.parametrize("swapped", [False, True])
def test_a_fault_in_a_float_graph_is_found_and_named(cause, swapped):
    sides = [model(NET, "right"), model(FLOAT_FAULTS[cause](NET), "wrong")]
    result = found(*(sides[::-1] if swapped else sides))
    assert result.place.population == "n2"
    assert causes(result) == [cause]
    assert [p.name for p in result.populations if p.differing] == ["n2"], "one difference must not cascade"


def test_the_comparison_is_told_from_a_tie():
    lattice = network(grid=0.25, theta=constant(1.0))
    result = found(model(lattice), model(change(lattice, "n2", fire=Fire.STEP_GT)))
    assert (result.place.population, causes(result)) == ("n2", ["`>` against `>=`"])
    a, b = result.place.values["membrane before the reset"]
    assert a == b == result.place.values["threshold"][0]
    assert result.place.values["payload"] == (1.0, 0.0)


def field(graph, name, **changes):
    node = graph.by_name[name]
    return change(graph, name, **{k: v(getattr(node, k)) for k, v in changes.items()})


def graded(**hidden):
    return integers(network(fire=Fire.RELU, reset=Reset.CLAMP, **hidden))


INTEGER_FAULTS = {
    "reset kind": lambda g: field(g, "n2", reset=lambda _: Reset.SET),
    "missing bias": lambda g: field(g, "n2", bias=np.zeros_like),
    "`>` against `>=`": lambda g: field(g, "n2", threshold=lambda x: x + 1),
    "leak rounding": lambda g: field(g, "n2", leak=lambda x: x + 3),
    "hop misalignment": lambda g: late(g, "n1", "w2"),
    "weight rounding": lambda g: field(g, "w2", weight=lambda x: x & ~np.int8(1)),
    "input scaling": lambda g: field(g, "n2", exponents=lambda e: tuple(k - 1 for k in e)),
    "different threshold": lambda g: field(g, "n2", threshold=lambda x: x + x // 4),
}


@pytest.mark.parametrize("cause", INTEGER_FAULTS)
def test_a_fault_in_an_integer_program_is_found_and_named(cause):
    program = LATTICE if ">=" in cause else WHOLE
    result = found(model(program), model(INTEGER_FAULTS[cause](program)))
    assert result.level == "bits"
    assert (result.place.population, causes(result)) == ("n2", [cause])


EXECUTOR_FAULTS = [*(c for c in INTEGER_FAULTS if c not in ("different threshold", "leak rounding")), "leak by a code"]


@pytest.mark.parametrize("cause", EXECUTOR_FAULTS)
def test_an_executor_that_leaves_its_program_is_told_how(cause):
    faults = {**INTEGER_FAULTS, "leak by a code": lambda g: field(g, "n2", leak=lambda x: x - 1)}
    program = LATTICE if ">=" in cause else WHOLE
    result = found(model(program), executor(program, faults[cause](program)))
    assert result.place.population == "n2"
    assert causes(result) == ["leak rounding" if cause == "leak by a code" else cause]


@pytest.mark.parametrize(("mode", "text"), [("floor", "rounds down"), ("nearest", "rounds to the nearest LSB")])
def test_another_rounding_of_the_decay_is_told(mode, text, monkeypatch):
    leaky = integers(network(leak=constant(1 / 3)))
    right = run_graph(leaky, spikes(40))
    monkeypatch.setattr("snncompile.ir.reference.decay", lambda x, q, bits: replay._decay(x, q, bits, mode))
    wrong = run_graph(leaky, spikes(40))
    monkeypatch.undo()
    run = {**right, **{k: v for k, v in wrong.items() if k.startswith("n2")}}
    result = found(model(leaky), Side(label="executor", graph=leaky, recorded=run))
    assert causes(result) == ["leak rounding"]
    assert text in result.explanation.confirmed[0].detail


def test_an_executor_whose_membranes_saturate_is_told():
    right = run_graph(WHOLE, spikes(40))
    limit = int(right["n2.m"].max() * 0.7)
    n = WHOLE.by_name["n2"]
    unit = cut(WHOLE, "n2")
    a = currents(unit, {"n1_sent": right["n1"].astype(np.int64)})
    wrong = replay.own_way(n, a, decay="", rounding="", limits=(-limit, limit))
    run = {**right, "n2": wrong.payload, "n2.m": wrong.m, "n2.v": wrong.v}
    result = found(model(WHOLE), Side(label="executor", graph=WHOLE, recorded=run))
    assert causes(result) == ["saturation"]
    assert "end at" in result.explanation.confirmed[0].detail
    assert str(limit) in result.explanation.confirmed[0].detail


def test_payloads_that_end_too_early_are_named():
    program = graded()
    wrong = change(program, "n2", payload_max=program.by_name["n2"].payload_max // 3)
    for other in (model(wrong), executor(program, wrong)):
        result = found(model(program), other)
        assert (result.place.population, causes(result)) == ("n2", ["saturation"])


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(
    ("cause", "right", "wrong"),
    [
        ("saturation", {"grid": 0.125, "levels": 15}, {"grid": 0.125, "levels": 5}),
        ("payload rounding", {"grid": 0.0625, "levels": 1024}, {"grid": 0.25, "levels": 256}),
    ],
)
def test_payloads_of_two_float_graphs_are_told_apart_by_grid_and_range(cause, right, wrong, swapped):
    def quantised(grid, levels):
        return model(change(network(fire=Fire.RELU, reset=Reset.CLAMP), "n2", grid=grid, levels=levels), f"{levels} of {grid}")

    sides = [quantised(**right), quantised(**wrong)]
    result = found(*(sides[::-1] if swapped else sides))
    assert (result.place.population, causes(result)) == ("n2", [cause])


def test_payloads_of_a_coarser_multiplier_are_named():
    program = graded()
    n = program.by_name["n2"]
    result = found(model(program), model(change(program, "n2", shift=n.shift - 5, multiplier=n.multiplier >> 5)))
    assert (result.place.population, causes(result)) == ("n2", ["payload rounding"])


@pytest.mark.parametrize(("mode", "text"), [("floor", "round down"), ("half up", "ties upward")])
def test_payloads_of_an_executor_that_rounds_otherwise_are_named(mode, text):
    program = change(graded(grid=0.25), "n2", multiplier=np.ones((1,), dtype=np.int64), shift=np.full((1,), 17))
    right = run_graph(program, spikes(40))
    a = currents(cut(program, "n2"), {"n1_sent": right["n1"].astype(np.int64)})
    wrong = replay.own_way(program.by_name["n2"], a, decay="", rounding=mode, limits=None)
    result = found(model(program), Side(label="executor", graph=program, recorded={**right, "n2": wrong.payload}))
    assert causes(result) == ["payload rounding"]
    assert text in result.explanation.confirmed[0].detail


def test_two_runs_that_agree_are_equal():
    for a, b in ((NET, NET), (WHOLE, WHOLE)):
        result = found(model(a), executor(b, b))
        assert result.equal
        assert result.explanation is None
        assert all(p.differing == 0 and p.compared > 0 for p in result.populations)

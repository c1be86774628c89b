"""Float graphs against the integers made of them: what the quantiser did is found and told apart."""

from dataclasses import replace

import numpy as np
import pytest
from planted import TARGET, change, graph_of, integers, network, neuron, spikes

from snncompile.ir.linear_ops import Input, Linear
from snncompile.ir.neuron import Fire, Reset, constant
from snncompile.numerics import trailing_zeros
from snncompile.quantize import Options, quantize
from snncompile.verify.explain import RESIDUE
from snncompile.verify.localise import Side, localise
from snncompile.verify.real import as_float


def found(graph, program, x=None):
    return localise(Side(label="folded", graph=graph), Side(label="integer", graph=program), spikes(60) if x is None else x)


def causes(result):
    assert result.explanation.left == 0
    return [c.cause for c in result.explanation.confirmed]


def test_an_exact_program_on_a_lattice_equals_its_graph():
    lattice = network(grid=0.25)
    result = found(lattice, integers(lattice))
    assert (result.level, result.driver, result.equal) == ("events", 1, True)


def test_rounded_weights_are_told_from_everything_else():
    net = network()
    program = quantize(net, TARGET, calibration=spikes(), options=Options(weight_bits=4)).graph
    result = found(net, program)
    assert causes(result) == ["weight rounding"]
    cause = result.explanation.confirmed[0]
    assert cause.explains == cause.events == result.explanation.events > 0


def test_one_flipped_spike_is_not_put_down_to_a_late_hop():
    """A late hop flips many spikes, so it may well flip the one that rounded weights flipped too."""
    net = network()
    program = integers(net)
    w = program.by_name["w2"]
    for k in range(w.weight.size):
        nudged = w.weight.copy()
        nudged.ravel()[k] += 2 if nudged.ravel()[k] < 0 else -2
        result = found(net, change(program, "w2", weight=nudged))
        if result.place is not None and result.explanation.events <= 3:
            assert "hop misalignment" not in [c.cause for c in result.explanation.causes]
            assert "weight rounding" in causes(result)
            return
    pytest.fail("no nudge of a weight flips a few spikes only")


def test_a_rounded_leak_is_told_from_rounded_products():
    program = integers(network(leak=constant(1 / 3)))
    net = change(as_float(program), "n2", leak=constant(1 / 3))
    coarse = change(program, "n2", leak=program.by_name["n2"].leak + 300)
    result = found(net, coarse, spikes(300))
    assert result.place.population == "n2"
    assert causes(result) == ["leak rounding"]


def test_products_cut_to_few_membrane_bits_are_what_is_left():
    net = network(grid=0.25, leak=constant(0.5))
    program = integers(net)
    n = program.by_name["n2"]
    k = min(n.exponents[0], *(trailing_zeros(getattr(n, f)) for f in ("bias", "threshold", "reset_amount")))
    few = {f: getattr(n, f) >> k for f in ("bias", "threshold", "reset_amount")}
    coarse = change(program, "n2", exponents=(n.exponents[0] - k,), v_scale=n.v_scale * 2.0**k, **few)
    result = found(net, coarse)
    assert (result.place.population, causes(result)) == ("n2", [RESIDUE])


@pytest.mark.parametrize("cause", ["payload rounding", "saturation"])
def test_graded_payloads_are_told_apart_by_rounding_and_range(cause):
    net = network(grid=0.25, fire=Fire.RELU, reset=Reset.CLAMP)
    net = change(net, "out", fire=Fire.RELU)
    program = integers(net)
    n = program.by_name["n2"]
    if cause == "saturation":  # payloads that count sixteenths are exact here, their range is cut
        lsb = 1 / 64
        exact = {"multiplier": np.ones((1,), np.int64), "shift": np.full((1,), int(np.log2(lsb / float(n.v_scale.max()))))}
        if len(set(n.v_scale.ravel())) == 1:
            program = change(program, "n2", out_scale=np.asarray(lsb), payload_max=40, **exact)
    result = found(net, program)
    assert result.place.population == "n2"
    assert cause in causes(result)


def image(low=0.0, high=1.0):
    rng = np.random.default_rng(1)
    nodes = [
        Input(name="x", size=(8,), low=low, high=high), Linear(name="w", inputs=("x",), weight=rng.normal(0, 1, (6, 8))),
        neuron("out", "w", 3),
    ]  # fmt: skip
    return graph_of(nodes)


def test_what_the_input_stage_does_comes_first():
    x = {"x": np.random.default_rng(0).random((5, 1, 8))}
    program = integers(image(), x)
    result = found(image(), program, x)
    assert (result.place.population, causes(result)) == ("x", ["payload rounding"])
    source = program.by_name["x"]
    on_grid = {"x": np.asarray(np.rint(x["x"] / source.lsb) * source.lsb)}
    result = found(image(), change(program, "x", high=source.high // 2), on_grid)
    assert (result.place.population, causes(result)) == ("x", ["saturation"])
    a, b = result.place.values["value"]
    assert a > b
    half = replace(source, lsb=source.lsb / 2)
    result = localise(Side(label="a", graph=program), Side(label="b", graph=change(program, "x", lsb=half.lsb)), on_grid)
    assert (result.place.population, causes(result)) == ("x", ["input scaling"])


FAULTS = {
    "missing bias": lambda g: change(g, "n2", bias=np.zeros_like(g.by_name["n2"].bias)),
    "reset kind": lambda g: change(g, "n2", reset=Reset.SET),
    "input scaling": lambda g: change(g, "n2", exponents=tuple(e - 1 for e in g.by_name["n2"].exponents)),
    "`>` against `>=`": lambda g: change(g, "n2", threshold=g.by_name["n2"].threshold + 1),
}


@pytest.mark.parametrize("cause", FAULTS)
def test_a_fault_in_the_integers_is_told_from_rounding(cause):
    net = network(grid=0.25)
    result = found(net, FAULTS[cause](integers(net)))
    assert result.place.population == "n2"
    assert causes(result) == [cause]


def test_a_fault_beside_rounded_weights_is_named_with_them():
    net = network(bias=constant(0.5))
    program = quantize(net, TARGET, calibration=spikes(), options=Options(weight_bits=4)).graph
    result = found(net, change(program, "n1", bias=np.zeros_like(program.by_name["n1"].bias)))
    assert result.place.population == "n1"
    assert sorted(causes(result)) == ["missing bias", "weight rounding"]
    assert all(0 < c.explains < c.events for c in result.explanation.confirmed)


def test_populations_of_other_names_are_said():
    net = network()
    other = net.rebuild(
        [
            replace(n, name="m1") if n.name == "n1" else replace(n, inputs=tuple("m1" if r == "n1" else r for r in n.inputs))
            for n in net.nodes
        ]
    )
    result = localise(Side(label="a", graph=net), Side(label="b", graph=other), spikes())
    assert result.equal
    assert set(result.notes) == {"'n1' is only in a", "'m1' is only in b"}

"""Which two runs can be compared, how they are paired, and whose inputs both get."""

from dataclasses import replace

import numpy as np
from planted import TARGET, change, graph_of, integers, late, network, neuron, spikes

from snncompile.ir.linear_ops import Add, Delay, Input, Linear
from snncompile.ir.neuron import Fire, Reset, constant
from snncompile.mapping.hops import run_hops
from snncompile.mapping.schedule import schedule
from snncompile.quantize import Options, quantize
from snncompile.verify.align import rename
from snncompile.verify.localise import Side, localise
from snncompile.verify.rerun import run_graph

NET = network()
WHOLE = integers(NET)


def side(graph, label="side", **more):
    return Side(label=label, graph=graph, **more)


def confirmed(result):
    assert result.explanation.left == 0
    return [(c.cause, c.detail) for c in result.explanation.confirmed]


def test_of_two_executors_the_one_that_strays_is_told():
    right, wrong = run_graph(WHOLE, spikes()), run_graph(change(WHOLE, "n2", reset=Reset.SET), spikes())
    for runs in ((right, wrong), (wrong, right)):
        result = localise(*(side(WHOLE, str(k), recorded=run) for k, run in enumerate(runs)), spikes())
        assert result.driver == (0 if runs[0] is wrong else 1)
        assert (result.place.population, confirmed(result)[0][0]) == ("n2", "reset kind")


def test_two_programs_of_other_widths_are_compared_by_what_their_integers_mean():
    narrow = quantize(NET, TARGET, calibration=spikes(), options=Options(weight_bits=3)).graph
    result = localise(side(WHOLE, "8 bits"), side(narrow, "3 bits"), spikes(40))
    assert result.level == "events"
    assert "weight rounding" in [cause for cause, _ in confirmed(result)]
    assert any("different LSBs" in note for note in result.notes)


def test_networks_without_a_name_in_common_are_paired_in_order():
    names = {"x": "input", "n1": "first", "n2": "second", "out": "third"}
    other = rename(side(change(NET, "n2", reset=Reset.SET)), names)
    result = localise(side(NET), other, spikes())
    assert (result.place.population, confirmed(result)[0][0]) == ("n2", "reset kind")
    assert "n2 and second" in result.notes[0]
    assert not localise(side(NET), rename(side(NET), names), spikes()).place


def test_a_current_that_leaves_the_network_is_compared_as_a_readout():
    nodes = [n for n in NET.nodes if n.name != "out"]
    bare = replace(NET, outputs={"y": "w3"}).rebuild(nodes)
    result = localise(side(bare), side(NET), spikes())
    assert result.equal
    assert [p.name for p in result.populations] == ["x", "n1", "n2", "out"]
    result = localise(side(bare), side(change(NET, "out", bias=constant(0.5))), spikes())
    assert (result.place.population, confirmed(result)[0][0]) == ("out", "missing bias")


def recurrent():
    """A population that reads the input, a first layer, and its own spikes of one step ago, with a synaptic current."""
    rng = np.random.default_rng(5)
    nodes = [
        Input(name="x", size=(8,), low=0.0, high=1.0, grid=1.0),
        Linear(name="w1", inputs=("x",), weight=rng.normal(0.2, 0.5, (6, 8))), neuron("n1", "w1", 1),
        Linear(name="skip", inputs=("x",), weight=rng.normal(0, 0.4, (4, 8))),
        Linear(name="w2", inputs=("n1",), weight=rng.normal(0.1, 0.5, (4, 6))),
        Delay(name="own", inputs=("out",), size=(4,), initial=np.zeros(())),
        Linear(name="back", inputs=("own",), weight=rng.normal(0, 0.4, (4, 4))),
        Add(name="sum", inputs=("skip", "w2", "back")),
        neuron("out", "sum", 2, alpha=constant(0.5), fire=Fire.STEP_GT),
    ]  # fmt: skip
    return graph_of(nodes)


def test_of_several_sources_the_late_one_is_named_in_both_dialects():
    net = recurrent()
    for graph in (net, integers(net)):
        result = localise(side(graph), side(late(graph, "x", "skip")), spikes())
        assert result.place.population == "out"
        assert confirmed(result) == [("hop misalignment", "'x' arrives one step earlier in it")]
        assert set(result.place.values) >= {"from 'x'", "from 'n1_sent'", "from 'out_sent'"}


def test_a_synaptic_current_that_decays_otherwise_is_named():
    net = recurrent()
    result = localise(side(net), side(change(net, "out", alpha=constant(0.4))), spikes())
    assert (result.place.population, confirmed(result)[0][0]) == ("out", "synaptic current")


def test_a_program_of_a_loop_agrees_with_its_run_in_hardware_time():
    whole = integers(recurrent())
    run = run_hops(whole, schedule(whole), {"x": spikes()["x"]})
    assert localise(side(whole), side(whole, recorded=run), spikes()).equal

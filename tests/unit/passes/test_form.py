import numpy as np
import pytest
from test_manager import lif, two_layers

from snncompile.errors import CompileError, InternalError, Location
from snncompile.ir.graph import Dialect, Graph
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.linear_ops import Add, Affine, Delay, Diagonal, Gather, Input, Linear
from snncompile.ir.neuron import Reset, constant
from snncompile.ir.population import ports
from snncompile.passes import check_population_form, run_passes


def graph_of(*nodes, out):
    return Graph(name="g", dialect=Dialect.FLOAT, nodes=tuple(nodes), outputs={"out": out}, steps=2)


def findings(graph):
    with pytest.raises(CompileError) as caught:
        check_population_form(graph)
    return caught.value.diagnostics


X = Input(name="x", size=(2,))
HERE = Location("net.py", 7, "forward")


def test_a_layer_that_reads_a_membrane_is_refused_at_the_users_line():
    fc = Linear(name="fc", inputs=("a.v",), weight=np.eye(2), loc=HERE)
    graph = graph_of(X, lif("a", "x"), fc, lif("b", "fc"), out="b")
    form, _ = run_passes(graph, probe={"x": np.ones((1, 1, 2))})
    (found,) = findings(form)
    assert str(found) == (
        "error[SNN230]: 'fc' (linear) reads the membrane of 'a' after its reset\n"
        "  --> net.py:7 in forward\n"
        "  note: on a chip a population sends spikes or payloads; its membrane is seen by nobody else\n"
        "  help: send what the next layer needs: a spike, a graded payload (relu), or let a neuron that never fires be the readout"
    )


def test_all_nodes_that_do_not_fit_are_reported_at_once():
    gained = lif("a", "fc", gain=constant(2.0))
    fc = Linear(name="fc", inputs=("x",), weight=np.eye(2), bias=np.ones((1, 2)))
    scale = Affine(name="scale", inputs=("a",), factor=constant(2.0), shift=constant(0.0))
    graph = graph_of(X, fc, gained, scale, lif("b", "scale"), lif("c", "fc"), lif("d", "x"), out="scale")
    assert sorted((d.code, d.message.split("'")[1]) for d in findings(graph)) == [
        ("SNN231", "scale"), ("SNN232", "d"), ("SNN233", "a"), ("SNN234", "fc"), ("SNN235", "out"), ("SNN236", "fc"),
    ]  # fmt: skip


def test_every_finding_comes_with_a_way_out_or_a_reason():
    fc = Linear(name="fc", inputs=("x",), weight=np.eye(2))
    for found in findings(graph_of(X, fc, lif("a", "fc"), lif("c", "fc"), lif("d", "a"), out="fc")):
        assert found.help


def test_an_output_that_is_a_membrane_is_fine():
    graph, _ = run_passes(two_layers(), probe={"x": np.ones((1, 1, 3))})
    check_population_form(graph.rebuild(graph.nodes, {"spikes": "b", "membrane": "b.m", "after": "b.v"}))


def test_ports_of_a_float_population_list_wiring_delays_and_source_in_order():
    d1 = Delay(name="d1", inputs=("a",), size=(2,), initial=np.array([1.0]))
    d2 = Delay(name="d2", inputs=("d1",), size=(2,), initial=np.array([2.0]))
    g = Gather(name="g", inputs=("d2",), index=np.array([1, 0]))
    s1, s2 = Diagonal(name="s1", inputs=("g",), weight=np.ones(1)), Linear(name="s2", inputs=("x",), weight=np.eye(2))
    s0 = Linear(name="s0", inputs=("x",), weight=np.eye(2))
    graph = graph_of(X, s0, lif("a", "s0"), d1, d2, g, s1, s2, Add(name="sum", inputs=("s1", "s2")), lif("b", "sum"), out="b")
    first, second = ports(graph, graph.by_name["b"])
    assert (first.synapse, first.gather, first.source.name) == (s1, g, "a")
    assert [d.name for d in first.delays] == ["d1", "d2"]
    assert (second.synapse, second.gather, second.delays, second.source.name) == (s2, None, (), "x")
    check_population_form(graph)


def test_ports_of_an_integer_population_are_its_inputs():
    one = np.ones(1, np.int32)
    x = IntInput(name="x", size=(2,), lsb=np.ones(1), offset=np.zeros(1), low=0, high=1)
    synapses = [Diagonal(name=n, inputs=("x",), weight=np.ones(2, np.int8)) for n in "st"]
    n = IntNeuron(
        name="n", inputs=("s", "t"), fire="step", reset=Reset.SUBTRACT, exponents=(0, 1), decay_bits=12, leak=one, bias=one, threshold=one,
        reset_amount=one, reset_value=one, v_init=one, v_scale=np.ones(1), out_scale=np.ones(1),
    )  # fmt: skip
    graph = Graph(name="g", dialect=Dialect.INTEGER, nodes=(x, *synapses, n), outputs={"out": "n"}, steps=1)
    assert [(p.synapse.name, p.source.name) for p in ports(graph, n)] == [("s", "x"), ("t", "x")]


@pytest.mark.parametrize(("node", "why"), [
    (Affine(name="w", inputs=("x",), factor=constant(1.0), shift=constant(0.0)), "not a synapse"),
    (Diagonal(name="w", inputs=("a.m",), weight=np.ones(1)), "not a payload"),
])  # fmt: skip
def test_asking_for_ports_outside_the_population_form_is_an_internal_error(node, why):
    graph = graph_of(X, lif("a", "x"), node, lif("b", "w"), out="b")
    with pytest.raises(InternalError, match=why):
        ports(graph, graph.by_name["b"])

"""The schedule: hops, initiation interval, balance; and its proof by hop-accurate execution."""

from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snncompile.errors import CompileError, InternalError
from snncompile.ir import reference
from snncompile.ir.graph import Dialect, Graph, validate
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.linear_ops import Delay, Gather, Linear
from snncompile.ir.neuron import Reset
from snncompile.mapping import run_hops, schedule
from snncompile.mapping.schedule import depths

WIDTH = 3


def population(name, inputs, rng=None, steps=1, reset=Reset.SUBTRACT):
    rng = rng or np.random.default_rng(0)
    zero = np.zeros((1, 1), dtype=np.int64)
    return IntNeuron(
        name=name, inputs=tuple(inputs), fire="step", reset=reset, exponents=tuple(int(e) for e in rng.integers(0, 3, len(inputs))),
        decay_bits=12, leak=rng.integers(0, 4097, (steps, 1)), bias=rng.integers(-3, 9, (steps, WIDTH)), threshold=zero + 9,
        reset_amount=zero + 7, reset_value=zero, v_init=rng.integers(-2, 3, WIDTH), v_scale=np.ones(()), out_scale=np.ones(()),
    )  # fmt: skip


def network(edges, rng=None, steps=4, inputs=("x",)):
    """``edges``: (source, reader, model delay); every population reads at least one edge."""
    rng = rng or np.random.default_rng(0)
    nodes = [IntInput(name=n, size=(WIDTH,), lsb=np.ones(()), offset=np.zeros(()), low=0, high=5) for n in inputs]
    reads = {}
    for k, (source, reader, delay) in enumerate(edges):
        ref = source
        for d in range(delay):
            nodes.append(Delay(name=f"d{k}_{d}", inputs=(ref,), size=(WIDTH,), initial=rng.integers(0, 2, WIDTH)))
            ref = f"d{k}_{d}"
        if k % 3 == 0:
            nodes.append(Gather(name=f"g{k}", inputs=(ref,), index=rng.integers(-1, WIDTH, WIDTH)))
            ref = f"g{k}"
        nodes.append(Linear(name=f"w{k}", inputs=(ref,), weight=rng.integers(-5, 9, (WIDTH, WIDTH)).astype(np.int8)))
        reads.setdefault(reader, []).append(f"w{k}")
    resets = [Reset.SUBTRACT, Reset.SET, Reset.CLAMP, Reset.KEEP]
    nodes += [population(n, r, rng, steps if rng.random() < 0.5 else 1, resets[rng.integers(4)]) for n, r in reads.items()]
    last = list(reads)[-1]
    graph = Graph(name="g", dialect=Dialect.INTEGER, nodes=(), outputs={"y": last}, steps=steps).rebuild(nodes)
    validate(graph)
    return graph


@st.composite
def wirings(draw):
    """Random populations: forward edges of any length, delayed edges in any direction, self loops, parallel synapses."""
    count = draw(st.integers(1, 6))
    edges = []
    for k in range(count):
        source = draw(st.sampled_from(["x", *(f"n{j}" for j in range(k))]))
        edges.append((source, f"n{k}", draw(st.integers(0, 1))))
    for _ in range(draw(st.integers(0, 6))):
        a, b = draw(st.integers(0, count - 1)), draw(st.integers(0, count - 1))
        edges.append((f"n{a}", f"n{b}", draw(st.integers(0 if a < b else 1, 3))))
    return edges


def random_inputs(graph, rng, samples=3):
    return {n.name: rng.integers(0, 6, (samples, graph.steps, WIDTH)) for n in graph.nodes if isinstance(n, IntInput)}


def assert_same_bits(graph, plan, inputs):
    got = run_hops(graph, plan, inputs)
    want = reference.run(graph, inputs, record=reference.references(graph))
    assert set(got) == set(want) - {"y"}
    for ref, trace in got.items():
        assert np.array_equal(trace, want[ref]), ref


@given(edges=wirings(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_hardware_time_computes_the_same_bits_as_model_time(edges, seed):
    rng = np.random.default_rng(seed)
    graph = network(edges, rng)
    assert_same_bits(graph, schedule(graph), random_inputs(graph, rng))


@given(edges=wirings())
@settings(max_examples=60, deadline=None)
def test_the_interval_is_the_worst_cycle_and_no_smaller_one_works(edges):
    plan = schedule(network(edges))
    g = nx.MultiDiGraph()
    for source, reader, delay in edges:
        g.add_edge(source, reader, delay=delay)
    cheapest = nx.DiGraph()
    for a, b in g.edges():
        cheapest.add_edge(a, b, delay=min(e["delay"] for e in g[a][b].values()))
    worst = 1
    for cycle in nx.simple_cycles(cheapest):
        delay = sum(cheapest[a][b]["delay"] for a, b in pairwise([*cycle, cycle[0]]))
        worst = max(worst, -(-len(cycle) // delay))
    assert plan.initiation_interval == worst
    assert all(hop >= 1 for hop in plan.hop_delay.values())
    if worst > 1:
        assert depths(plan.depth, {"x"}, plan.wires, worst - 1) is None
        loop = plan.critical
        assert loop[0] == loop[-1]
        delay = sum(cheapest[a][b]["delay"] for a, b in pairwise(loop))
        assert len(loop) - 1 > delay * (worst - 1)
    else:
        assert plan.critical == ()


@given(edges=wirings())
@settings(max_examples=40, deadline=None)
def test_depths_are_the_smallest(edges):
    """Every population but those at depth 1 has a synapse that takes exactly one step: nothing can start earlier."""
    plan = schedule(network(edges))
    for name, depth in plan.depth.items():
        if name != "x" and depth > 1:
            assert any(w.reader == name and plan.hop_delay[w.synapse] == 1 for w in plan.wires)


def test_a_chain_takes_one_step_per_hop():
    plan = schedule(network([("x", "a", 0), ("a", "b", 0), ("b", "c", 0)]))
    assert plan.depth == {"x": 0, "a": 1, "b": 2, "c": 3}
    assert (plan.initiation_interval, plan.total_hops) == (1, 3)
    assert plan.hardware_steps(samples=10) == 10 * 4 + 3


def test_branches_that_join_are_balanced_in_the_shorter_synapse():
    plan = schedule(network([("x", "a", 0), ("a", "b", 0), ("b", "c", 0), ("a", "c", 0)]))
    assert plan.hop_delay == {"w0": 1, "w1": 1, "w2": 1, "w3": 2}


def test_feedback_over_three_hops_needs_three_steps_per_model_step():
    graph = network([("x", "a", 0), ("a", "b", 0), ("b", "c", 0), ("c", "a", 1)])
    plan = schedule(graph)
    assert plan.initiation_interval == 3
    assert plan.critical == ("a", "b", "c", "a")
    assert plan.hop_delay["w3"] == 1
    assert plan.describe() == (
        "one model step every 3 hardware step(s), 3 hop(s) from input to output\n"
        "forced by the cycle a -> b -> c -> a\n"
        "     0  x\n"
        "     1  a  from x by w0 (hop 1), c by w3 (hop 1)\n"
        "     2  b  from a by w1 (hop 1)\n"
        "     3  c  from b by w2 (hop 1)"
    )


def test_a_self_loop_beside_a_longer_cycle_is_not_called_critical():
    plan = schedule(network([("x", "a", 0), ("a", "b", 0), ("b", "a", 1), ("a", "a", 1)]))
    assert plan.initiation_interval == 2
    assert plan.critical == ("a", "b", "a")


def test_two_model_steps_of_delay_halve_the_interval():
    assert schedule(network([("x", "a", 0), ("a", "b", 0), ("b", "c", 0), ("c", "a", 2)])).initiation_interval == 2


def test_a_wait_beyond_the_synapses_is_refused():
    graph = network([("x", "n0", 0), *((f"n{k}", f"n{k + 1}", 0) for k in range(5)), ("n0", "n5", 0)])
    assert schedule(graph, hop_limit=5).hop_delay["w6"] == 5
    with pytest.raises(CompileError, match="'w6' from 'n0' to 'n5' waits 5 hardware steps, the limit is 4") as e:
        schedule(graph, hop_limit=4)
    assert e.value.code == "SNN403"


def test_a_wrong_schedule_is_seen():
    from dataclasses import replace

    graph = network([("x", "a", 0), ("a", "b", 0), ("b", "c", 0), ("a", "c", 0)], np.random.default_rng(3))
    plan = schedule(graph)
    x = random_inputs(graph, np.random.default_rng(4))
    assert_same_bits(graph, plan, x)
    with pytest.raises(InternalError, match="nothing arrives through 'w3'"):
        run_hops(graph, replace(plan, hop_delay={**plan.hop_delay, "w3": 1}), x)

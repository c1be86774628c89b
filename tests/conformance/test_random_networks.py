"""Random networks: quantised, scheduled, and run on every executor, bit for bit.

    SNNCOMPILE_RANDOM_NETWORKS=1000 uv run pytest -m slow tests/conformance -k random

is the number of a night; ``SNNCOMPILE_RANDOM_SEED`` chooses other networks.
"""

from __future__ import annotations

import os
from itertools import count, islice

import pytest
from hypothesis import HealthCheck, assume, given, settings
from side_by_side import batches, make, programs, together
from strategies import graphs

from snncompile.ir.integer import IntNeuron
from snncompile.verify import verify

WANTED = int(os.environ.get("SNNCOMPILE_RANDOM_NETWORKS", "100"))
FIRST_SEED = int(os.environ.get("SNNCOMPILE_RANDOM_SEED", "1000"))


def agree(made, backends):
    """How many bits were compared, none of which differs."""
    found = verify(made.program, made.x, backends=backends, timeout_s=480)
    assert found.ok, (made.seed, found.failures)
    assert [b.differing_bits for b in found.backends] == [0] * len(backends)
    return sum(b.compared_bits for b in found.backends)


def agree_on_lava(members):
    """The same on Lava, all in one process; if they differ, the seed of the one that does."""
    if len(members) == 1:
        return agree(members[0], ("lava",))
    try:
        return agree(together(members), ("lava",))
    except AssertionError:
        for m in members:
            agree(m, ("lava",))
        raise


def test_random_networks_agree_with_the_hop_accurate_reference_and_on_onnx_runtime():
    assert sum(agree(m, ("reference", "onnx")) > 0 for m in programs(range(60))) >= 25


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(graphs())
def test_any_network_that_hypothesis_makes_agrees_with_the_hop_accurate_reference_and_on_onnx_runtime(graph):
    made = make(graph)
    assume(made is not None)
    assert agree(made, ("reference", "onnx")) > 0


@pytest.mark.timeout(60)
def test_two_loops_one_of_several_spikes_and_one_of_a_graded_value_come_to_an_end():
    """Seed 1074: the spikes' range is known at once, the graded value's never: refused, not looked for without end."""
    assert list(programs([1074])) == []


def test_a_few_random_networks_agree_on_lava():
    groups = list(batches(programs(range(100, 112))))
    assert sum(len(g) for g in groups) >= 6
    assert all(agree_on_lava(g) > 0 for g in groups[:3])


def test_programs_that_run_together_do_what_each_does_alone():
    from snncompile.ir import reference

    group = max(batches(programs(range(100, 130))), key=len)
    assert len(group) > 2
    whole = together(group)
    names = [n.name for n in whole.graph.of(IntNeuron)]
    seen = reference.run(whole.graph, whole.x, record=names)
    for k, m in enumerate(group):
        alone = reference.run(m.graph, m.x, record=[n.name for n in m.graph.of(IntNeuron)])
        assert all((seen[f"n{k}_{name}"] == values).all() for name, values in alone.items() if f"n{k}_{name}" in names)


@pytest.mark.slow
@pytest.mark.timeout(14400)
def test_many_random_networks_agree_on_every_executor(capsys):
    ran, bits, runs, last = 0, 0, 0, FIRST_SEED
    for group in batches(islice(programs(count(FIRST_SEED)), WANTED)):
        bits += sum(agree(m, ("reference", "onnx")) for m in group) + agree_on_lava(group)
        ran, runs, last = ran + len(group), runs + 1, max(last, *(m.seed for m in group))
        with capsys.disabled():
            print(f"\r{ran} random networks, {runs} runs of Lava: 0 of {bits:,} bits differ ", end="", flush=True)
    assert ran == WANTED
    with capsys.disabled():
        print(f"(seeds {FIRST_SEED} to {last}; the others are refused)")

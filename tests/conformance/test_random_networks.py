"""Random networks: quantised, scheduled, and run on every executor, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from strategies import random_graph, random_input

from snncompile.errors import CompileError
from snncompile.ir.integer import IntInput
from snncompile.mapping.schedule import schedule
from snncompile.passes import run_passes
from snncompile.quantize import quantize
from snncompile.target import load_target
from snncompile.verify import Program, verify


def program(seed: int) -> tuple[Program, dict[str, np.ndarray]] | None:
    """The program of a random network, or None where the compiler refuses it with an error of its own."""
    graph = random_graph(seed, 10)
    x = random_input(graph, seed)
    try:
        folded, _ = run_passes(graph, probe=x)
        result = quantize(folded, load_target("loihi2-sim"), calibration=x)
        planned = schedule(result.graph)
    except CompileError:
        return None
    return Program(graph=result.graph, schedule=planned, populations=result.populations), x


def agree(seeds: range, backends: tuple[str, ...]) -> int:
    ran = 0
    for seed in seeds:
        made = program(seed)
        if made is None or not made[0].graph.of(IntInput):
            continue
        found = verify(made[0], made[1], backends=backends, timeout_s=240)
        assert found.ok, (seed, found.failures)
        ran += 1
    return ran


def test_random_networks_agree_with_the_hop_accurate_reference_and_on_onnx_runtime():
    assert agree(range(60), ("reference", "onnx")) >= 25


def test_a_few_random_networks_agree_on_lava():
    assert agree(range(100, 106), ("lava",)) >= 3


@pytest.mark.slow
def test_many_random_networks_agree_on_every_executor():
    assert agree(range(1000, 1200), ("lava", "onnx", "reference")) >= 100

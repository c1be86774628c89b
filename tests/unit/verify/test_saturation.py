"""What is cut off is counted: payloads beyond their calibrated range, and input values beyond the input's."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

import snncompile
from snncompile.backends.bundle import read_bundle, write_bundle
from snncompile.backends.bundle.ledger import measured
from snncompile.ir import reference
from snncompile.online import build_network
from snncompile.pipeline import original
from snncompile.report.summary import cut_off
from snncompile.verify import Program, verify
from snncompile.verify.saturation import clipped_inputs

STEPS = 2
ARGS = {"widths": [3], "depths": [1], "in_channels": 1, "num_classes": 3, "steps": STEPS, "weights": "float"}


def network(**options):
    torch.manual_seed(1)
    net = build_network("empf_resnet", **(ARGS | options))
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return net.eval()


def images(top, count=4, seed=0):
    return np.random.default_rng(seed).uniform(0, top, (count, 1, 1, 8, 8))


def checked(net, calibration, x, input_range=(0.0, 4.0, 0.0)):
    compiled = snncompile.compile(net, input_shape=(1, 8, 8), steps=STEPS, calibration=calibration, input_range=input_range)
    program = Program(graph=compiled.result.graph, schedule=compiled.schedule, populations=compiled.result.populations)
    return compiled, verify(program, {"x": x}, original=original(compiled, net, x), backends=())


def by_hand(n, m, t):
    """Payloads that would have been sent had they no limit, in exact arithmetic."""
    threshold = np.broadcast_to(n.threshold[t if len(n.threshold) > 1 else 0], m.shape[1:])
    multiplier, shift = (np.broadcast_to(v, m.shape[1:]) for v in (n.multiplier, n.shift))
    cells = np.ndindex(m.shape)
    return [round(Fraction((int(m[c]) - int(threshold[c[1:]])) * int(multiplier[c[1:]]), 2 ** int(shift[c[1:]]))) for c in cells]


@pytest.fixture(scope="module")
def planted():
    """Calibrated on small values, run on large ones."""
    return checked(network(four_bit=False), images(0.4), images(4.0))


def test_data_beyond_the_calibration_saturates_and_is_counted(planted):
    compiled, found = planted
    ceilings = {p.name: p.ceiling for p in compiled.result.populations}
    watched = [name for name, ceiling in ceilings.items() if ceiling == "calibrated"]
    row = found.to_json()["saturation"]
    assert [p["name"] for p in row["populations"]] == watched
    names = [f"{name}.m" for name in watched]
    traces = reference.run(compiled.result.graph, {"x": images(4.0)}, record=[*names, *watched])
    for entry in row["populations"]:
        n, m = compiled.result.graph.by_name[entry["name"]], traces[f"{entry['name']}.m"]
        wanted = [v for t in range(STEPS) for v in by_hand(n, m[:, t], t)]
        beyond = sum(v > n.payload_max or (n.payload_min < 0 and v < n.payload_min) for v in wanted)
        assert (entry["payloads"], entry["saturated"], entry["limit"]) == (len(wanted), beyond, n.payload_max)
        assert entry["most"] == max(*wanted, -min(wanted) if n.payload_min else 0)
        at_the_end = np.count_nonzero(
            (traces[entry["name"]] == n.payload_max) | ((traces[entry["name"]] == n.payload_min) & (n.payload_min < 0))
        )
        assert beyond <= at_the_end  # what fits exactly is no saturation
    assert row["saturated"] == sum(p["saturated"] for p in row["populations"]) > 0
    assert row["payloads"] == sum(p["payloads"] for p in row["populations"])
    (label, text), *_ = cut_off(row)
    assert label == "saturation"
    assert text.startswith(f"saturated {row['saturated']:,} of {row['payloads']:,} payloads")
    assert any(f"saturated {row['saturated']} of {row['payloads']} payloads: " in d.effect for d in measured(found.to_json()))


def test_data_inside_the_calibration_saturates_nothing_and_says_so():
    _, found = checked(network(four_bit=False), images(4.0), images(3.0))  # at its peak, rounded weights may reach one payload further
    row = found.to_json()["saturation"]
    assert (row["saturated"], row["inputs"]) == (0, [])
    assert row["payloads"] > 0
    assert cut_off(row) == [("saturation", f"saturated 0 of {row['payloads']:,} payloads whose range was calibrated")]


def test_a_ceiling_that_the_network_has_itself_is_no_saturation():
    """4-bit spikes end at 15/4 in the network too."""
    compiled, found = checked(network(), images(0.4), images(4.0))
    graph = compiled.result.graph
    ceilings = {p.name: p.ceiling for p in compiled.result.populations}
    grids = [name for name, ceiling in ceilings.items() if ceiling == "network"]
    assert grids
    assert all(graph.by_name[name].payload_max == 15 for name in grids)
    assert not set(grids) & {p["name"] for p in found.to_json()["saturation"]["populations"]}
    assert all(ceilings[n.name] == "" for n in graph.nodes if getattr(n, "fire", "relu") != "relu")


def test_what_the_bounds_prove_needs_no_counting():
    compiled = snncompile.compile(network(four_bit=False), input_shape=(1, 8, 8), steps=STEPS, input_range=(0.0, 4.0, 0.0))
    graded = [p for p in compiled.result.populations if p.payload_lsb is not None]
    assert graded
    assert {p.ceiling for p in graded} == {"proved"}
    x = {"x": images(4.0)}
    program = Program(graph=compiled.result.graph, schedule=compiled.schedule, populations=compiled.result.populations)
    assert verify(program, x, backends=()).to_json()["saturation"] == {"saturated": 0, "payloads": 0, "populations": [], "inputs": []}


def test_ceilings_travel_with_the_bundle(planted, tmp_path):
    compiled, _ = planted
    assert read_bundle(write_bundle(tmp_path / "net.snn", compiled)).populations == compiled.result.populations


@pytest.mark.parametrize(("top", "outside"), [(4.0, 0), (4.005, 0), (5.0, 1)])
def test_input_values_outside_the_range_are_counted_with_their_reach(top, outside):
    net = network()
    x = images(4.0)
    x[1, 0, 0, 3, 3] = top  # the step is 4/255: half of it is rounding
    compiled, found = checked(net, None, x)
    row = found.to_json()["saturation"]["inputs"]
    assert clipped_inputs(compiled.result.graph, {"x": reference.quantise_input(compiled.result.graph.by_name["x"], x)}) == ()
    assert len(row) == outside
    if outside:
        assert row == [{"name": "x", "low": 0.0, "high": 4.0, "values": x.size, "clipped": 1, "least": x.min(), "most": 5.0}]
        assert cut_off(found.to_json()["saturation"])[-1][1].startswith(f"1 of {x.size} values of 'x' clipped to 0..4")
        assert str(found.saturation.inputs[0]) == (
            f"1 of {x.size} values of 'x' lie outside its range 0..4 and were clipped: they reach {x.min():g}..5"
        )
        assert any(d.what == "values of 'x' outside 0..4" for d in measured(found.to_json()))

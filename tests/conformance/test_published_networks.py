"""Every network of the training methods: captured, folded, quantised and proved within bounds at published size; on Lava small."""

from __future__ import annotations

import numpy as np
import pytest
from published import NETWORKS, SMALL_STEPS

import snncompile
from snncompile.backends.bundle import open_draft, read_bundle
from snncompile.ir import reference
from snncompile.ir.integer import IntNeuron
from snncompile.pipeline import original
from snncompile.report.html import render
from snncompile.target import load_target
from snncompile.verify import Program, verify

TARGET = load_target("loihi2-sim")
CHEAP = ("OSR NF-ResNet-34",)
"""Small networks that the default run takes: maximum pooling, thresholds per step, a stream that is added to and convolved."""


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_published_size_is_proved_and_runs(name):
    network = NETWORKS[name]
    net = network.build(small=False)
    if network.parameters is not None:
        assert sum(p.numel() for p in net.parameters()) == network.parameters
    x = network.samples(2, small=False)
    compiled = snncompile.compile(net, input_shape=x.shape[2:], steps=network.steps, layout=network.layout, calibration=x)
    for p in compiled.result.populations:
        assert TARGET.accumulator.fits(p.bounds["accumulator"])
        assert all(TARGET.membrane.fits(p.bounds[key]) for key in ("input", "charge", "membrane", "state"))
    assert max(r.membrane_error for r in compiled.passes) < 1e-9
    graph = compiled.result.graph
    names = [n.name for n in graph.of(IntNeuron)]
    seen = reference.run(graph, {"x": x[:1]}, record=names)  # checks every accumulator and membrane against its format
    silent = [n for n in names if not seen[n].any()]
    assert len(silent) <= len(names) // 4, silent


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_binary_weights_make_a_small_bundle(tmp_path):
    """EM-PF's ResNet-18: 11 million weights of one bit are 1.40 MB, all else, report and evidence included, 0.2 MB in a zip."""
    network = NETWORKS["EM-PF ResNet-18"]
    net, x = network.build(small=False), network.samples(1, small=False)
    compiled = snncompile.compile(net, input_shape=x.shape[2:], steps=network.steps, calibration=x)
    program = Program(graph=compiled.result.graph, schedule=compiled.schedule, populations=compiled.result.populations)
    found = verify(program, {"x": x}, original=original(compiled, net, x), backends=())
    evidence = {**found.to_json(), "data": {"samples": 1, "labelled": False, "sha256": None, "random": True}}
    with open_draft(tmp_path / "net.zip") as draft:
        draft.fill(compiled)
        draft.seal(evidence, {"report.html": render(draft.seal(evidence))})
        path = draft.publish()
    assert path.stat().st_size <= 1_600_000
    assert read_bundle(path).schedule == compiled.schedule


def small(name):
    network = NETWORKS[name]
    net, x = network.build(small=True), network.samples(3, small=True)
    steps = SMALL_STEPS.get(name, network.steps)
    compiled = snncompile.compile(net, input_shape=x.shape[2:], steps=steps, layout=network.layout, calibration=x)
    return net, compiled, x


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in CHEAP else pytest.mark.slow) for n in NETWORKS])
def test_a_small_network_of_the_same_kind_is_the_same_bits_on_lava(name):
    net, compiled, x = small(name)
    program = Program(graph=compiled.result.graph, schedule=compiled.schedule, populations=compiled.result.populations)
    found = verify(program, {"x": x}, original=original(compiled, net, x), backends=("lava", "reference"), timeout_s=240)
    assert [(b.backend, b.differing_bits) for b in found.backends] == [("lava", 0), ("reference", 0)]
    assert found.dynamics is not None
    assert found.dynamics.differing_exact == 0
    differing = sum(p.differing for p in found.dynamics.populations.values() if not p.exact)
    compared = sum(p.compared for p in found.dynamics.populations.values() if not p.exact)
    assert differing <= max(3, 1e-4 * compared)
    assert np.isfinite(found.split["dynamics"]["logit_error"])

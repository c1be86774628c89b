"""Every decision about a file says what it changes: the network ran under what other tools have in its place."""

from __future__ import annotations

import re

import frameworks
import nir
import numpy as np
import pytest
from nir_files import chain, lif, run

from snncompile.capture.nir import effects, import_nir

X = np.random.default_rng(0).uniform(0, 2, (6, 12, 8))


def network(**fields):
    weight = np.random.default_rng(0).normal(0.1, 0.6, (6, 8))
    return chain(nir.Affine(weight, np.full(6, 0.01)), lif(6, tau=8.0, **fields), shape=[8], out=[6])


def effect(found, what, x=None):
    (line,) = [d for d in found.measured(x) if d.what == what]
    return line.effect


def test_an_effect_is_the_share_of_spikes_that_change():
    settings = {"input": "plain", "compare": "ge"}
    found = import_nir(network(), steps=12, dialect="sinabs", settings=settings)
    said = effect(found, "reset of n1", X)
    base = run(found.graph, X[:4])
    other = run(import_nir(network(), steps=12, dialect="sinabs", settings={**settings, "reset": "zero"}).graph, X[:4])
    changed, events = np.count_nonzero(base != other), np.count_nonzero((base != 0) | (other != 0))
    assert 0 < changed < events
    assert said.startswith("on 4 samples: ")
    assert f"zero changes {changed / events:.1%} of {events} spikes" in said


def test_what_changes_nothing_says_so_and_what_is_refused_too():
    found = import_nir(network(), steps=12, dialect="sinabs")
    assert effect(found, "v_init of n1", X) == "on 4 samples: v_leak changes nothing, v_reset changes nothing"
    scaled = chain(*(n for k, n in network().nodes.items() if k.startswith("n")), nir.Scale(np.ones(6)), shape=[8], out=[6])
    (dialect,) = [d for d in import_nir(scaled, steps=12, dialect="sinabs").measured(X) if d.what == "NIR dialect"]
    assert "sinabs-reader is refused (SNN166)" in dialect.effect
    assert re.search(r"norse changes \d+\.\d% of \d+ spikes", dialect.effect)


@pytest.mark.parametrize("dialect", ["sinabs", "norse", "snntorch"])
def test_every_open_convention_of_a_tools_own_file_has_a_measured_effect(dialect):
    writers = {"sinabs": frameworks.sinabs_network, "norse": frameworks.norse_network, "snntorch": frameworks.snntorch_network}
    graph, x, _ = writers[dialect]()
    found = import_nir(graph, steps=frameworks.STEPS, dialect=dialect)
    lines = found.measured(x)
    assert len(lines) == len(found.decisions)
    asked = {q.decision.what for q in found.questions}
    assert len(asked) > 5
    for d in lines:
        if d.what in asked or d.what == "NIR dialect":
            assert re.match(r"on \d+ samples: \S+ (changes|is refused)", d.effect), d
    assert any("spikes" in d.effect for d in lines)


def test_without_data_random_samples_grow_until_neurons_fire():
    found = import_nir(network(v_threshold=40.0), steps=12, dialect="sinabs", settings={"input": "plain"})
    said = effect(found, "reset of n1")
    assert said.startswith("on 4 random samples: ")
    assert "spikes" in said
    assert found.measured() == found.measured(), "the same every time"


def test_a_readout_is_measured_by_its_output():
    graph = chain(nir.Affine(np.eye(3), np.zeros(3)), nir.LI(tau=np.full(3, 4.0), r=np.ones(3), v_leak=np.zeros(3)), shape=[3])
    found = import_nir(graph, steps=4, dialect="sinabs", settings={"input": "scaled"})
    assert re.search(r"euler changes outputs by \d\.\de-\d\d relative", effect(found, "decay of n1"))


def test_a_network_too_large_to_try_says_so(monkeypatch):
    monkeypatch.setattr(effects, "LARGEST", 1000)
    found = import_nir(network(), steps=12, dialect="sinabs")
    assert re.fullmatch(r"not measured: \d+ runs on 4 random samples are \d\.\de\+\d\d products", effect(found, "reset of n1"))

"""The ledger: every decision in order, in the manifest and on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nir
import numpy as np
import pytest
from nir_files import chain, lif, save

sys.path.append(str(Path(__file__).parents[1] / "cli"))
from user_project import snn

from snncompile.capture.nir import import_nir
from snncompile.ledger import STAGES, Decision


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A network with one option set, exported and verified."""
    folder = tmp_path_factory.mktemp("ledger")
    weight = np.random.default_rng(0).normal(0, 0.6, (6, 8))
    save(
        chain(nir.Affine(weight, np.full(6, 0.01)), lif(6, tau=8.0), nir.Scale(np.full(6, 0.5)), lif(6, tau=4.0), shape=[8], out=[6]),
        folder / "net.nir",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        options = ("--nir-dialect", "sinabs", "--nir-set", "n1.min_v=-1", "--steps", "6", "--input-range", "0,1", "--no-lava")
        answer = snn("-q", "export", "net.nir", *options)
        assert answer.status == 0, answer.err
    return folder / "net.snn"


def test_the_manifest_has_every_decision_in_the_order_of_the_flow(bundle):
    rows = json.loads((bundle / "manifest.json").read_text())["ledger"]
    lines = [Decision.from_json(row) for row in rows]
    stages = [STAGES.index(d.stage) for d in lines]
    assert stages == sorted(stages)
    assert {d.stage for d in lines} == {"file", "passes", "quantise", "verify"}
    by_what = {(d.what, d.source): d for d in lines}
    assert by_what["NIR dialect", "option --nir-dialect sinabs"].value == "sinabs"
    assert by_what["min_v of n1", "option --nir-set n1.min_v"].value == "-1"
    assert by_what["min_v of n3", "dialect sinabs"].value == "none"
    assert any(d.source.startswith("pass ") and "spikes differ" in d.effect for d in lines)
    assert any(d.what == "weights into 'n1'" and d.value == "8 bits" and "relative rms" in d.effect for d in lines)
    assert any(d.what.startswith("input 'input'") and "off" in d.effect for d in lines)
    assert any(d.what == "effect of weight rounding" and "of decisions agree" in d.effect for d in lines)


def test_inspect_prints_it_numbered_for_bundle_and_file(bundle, monkeypatch):
    monkeypatch.chdir(bundle.parent)
    printed = snn("-q", "inspect", "net.snn", "--ledger").out
    assert printed.splitlines()[0].startswith("  1  [file] NIR dialect: sinabs (option --nir-dialect sinabs)")
    rows = snn("-q", "inspect", "net.snn", "--ledger", "--json").json["ledger"]
    assert f"{len(rows):>3}  [verify]" in printed
    file = ("net.nir", "--nir-dialect", "sinabs", "--nir-set", "n1.min_v=-1", "--steps", "6", "--input-range", "0,1", "--ledger")
    from_file = snn("-q", "inspect", *file, "--json").json["ledger"]
    assert [r for r in rows if r["stage"] == "file"] == [r for r in from_file if r["stage"] == "file"]


def test_verify_against_the_file_holds_under_its_dialect_and_fails_under_another(bundle, monkeypatch):
    monkeypatch.chdir(bundle.parent)
    np.savez("data.npz", x=np.random.default_rng(0).uniform(0, 1, (8, 6, 8)))
    common = ("-q", "verify", "net.snn", "--data", "data.npz", "--against", "net.nir")
    assert snn(*common, "--nir-dialect", "sinabs", "--nir-set", "n1.min_v=-1").status == 0
    wrong = snn(*common, "--nir-dialect", "sinabs-reader", "--nir-set", "input=plain")
    assert wrong.status == 1


def test_a_convention_that_matters_is_one_line_however_many_nodes_it_holds_for():
    graph = chain(*(lif(4) for _ in range(9)), shape=[4])
    lines = import_nir(graph, steps=4, dialect="nir").decisions
    (compare,) = [d for d in lines if d.what.startswith("compare of ")]
    assert compare.what == "compare of n0, n1, n2, n3, n4 and 4 more"
    assert compare.why == "nir/ir/neuron.py: v > v_threshold"


def test_a_decision_survives_json():
    d = Decision(stage="file", what="a", value="b", why="c", source="d", effect="e", where="f")
    assert Decision.from_json(json.loads(json.dumps(d.to_json()))) == d
    assert str(d) == "[file] a: b (d): c; e; f"

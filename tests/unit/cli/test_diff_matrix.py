"""``diff`` takes every kind of side against every other: one network in all forms is equal, and a planted fault is named from all."""

from __future__ import annotations

import shutil
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import pytest
from one_network import MODEL, write_all
from user_project import snn

KINDS = {
    "a PyTorch model": "weights.pt", "a factory": ":pytorch", "captured": "weights.pt:captured", "folded": "weights.pt:folded",
    "quantised": "weights.pt:integer", "in hardware time": "weights.pt:hops", "on ONNX Runtime": "weights.pt:onnx",
    "a NIR file": "net.nir", "a NIR file's integers": "net.nir:integer", "an ONNX file": "net.onnx",
    "an ONNX file, captured": "net.onnx:captured", "a .net file": "net.net", "a .net file on ONNX Runtime": "net.net:onnx",
    "a bundle": "net.snn", "a bundle in hardware time": "net.snn:hops",
}  # fmt: skip
SOME = ("weights.pt", "weights.pt:folded", "weights.pt:integer", "net.nir", "net.onnx", "net.net", "net.snn:onnx", "net.snn:hops")
LAVA = ("weights.pt:lava", "net.net:lava", "net.nir:lava", "net.snn:lava")
DATA = ("--data", "spikes.npz", "--json")


def options(*sides):
    """What the sides need: code for models, a number of steps for files that have none."""
    return MODEL if any(s.startswith((":", "weights", "louder")) for s in sides) else ("--steps", "6")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("one_network")
    write_all(made)
    return made


@pytest.fixture(autouse=True)
def there(folder, tmp_path, monkeypatch):
    for file in folder.iterdir():
        (shutil.copytree if file.is_dir() else shutil.copyfile)(file, tmp_path / file.name)
    monkeypatch.chdir(tmp_path)


def assert_equal(a, b):
    answer = snn("-q", "diff", a, b, *DATA, *options(a, b))
    assert answer.status == 0, (a, b, answer.out, answer.err)
    rows = answer.json["populations"]
    assert len(rows) == 3
    assert all(row["differing"] == 0 < row["compared"] for row in rows), (a, b, rows)


@pytest.mark.parametrize("kind", KINDS)
def test_a_side_of_every_kind_equals_a_model_and_a_bundle(kind):
    assert_equal(KINDS[kind], "weights.pt")
    assert_equal("net.snn", KINDS[kind])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_kind_of_side_equals_every_other():
    for a, b in combinations_with_replacement(KINDS.values(), 2):
        assert_equal(a, b)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("lava", LAVA)
def test_lava_equals_every_other(lava):
    for other in (*KINDS.values(), "net.snn:lava"):
        assert_equal(lava, other)


@pytest.mark.parametrize("right", SOME)
@pytest.mark.parametrize("wrong", ["louder.pt", "louder.pt:onnx"])
def test_a_fault_is_found_and_named_from_every_side(right, wrong):
    answer = snn("-q", "diff", right, wrong, *DATA, *MODEL)
    assert answer.status == 1, answer.err
    found = answer.json
    assert found["explanation"]["left"] == 0
    assert "input scaling" in {c["cause"] for c in found["explanation"]["causes"] if c["confirmed"]}, found["explanation"]
    assert [p["name"] for p in found["populations"] if p["differing"]] == [found["first_divergence"]["population"]]


def test_options_that_one_side_alone_understands_are_for_that_side():
    assert snn("-q", "diff", "net.nir", "weights.pt", *DATA, *MODEL, "--layout", "step").status == 0
    assert snn("-q", "diff", "net.onnx", "net.nir", *DATA, "--steps", 6, "--state", "v1_in=v1_out", "--state", "v2_in=v2_out").status == 0
    for code, command in {
        "SNN168": ("net.nir", "net.net", *DATA, *MODEL), "SNN175": ("net.onnx", "net.nir", *DATA, "--steps", 6, "--trust-pickle"),
        "SNN154": ("weights.pt", "net.net", *DATA, *MODEL, "--arch-b", "net.py:make"),
    }.items():  # fmt: skip
        answer = snn("-q", "diff", *command)
        assert (answer.status, code in answer.err) == (1, True), (code, answer.err)


def test_two_models_may_have_code_of_their_own():
    Path("other.py").write_text(Path("net.py").read_text().replace("u > 20.0", "u >= 20.0"))
    command = ("weights.pt", ":pytorch", *DATA, *MODEL)
    assert snn("-q", "diff", *command).status == 0
    found = snn("-q", "diff", *command, "--arch-b", "other.py:make").json
    assert {c["cause"] for c in found["explanation"]["causes"] if c["confirmed"]} == {"`>` against `>=`"}
    assert snn("-q", "diff", *command, "--arch-b", "net.py:make", "--arch-args-b", '{"bias": 4.0}').json["equal"] is False


def test_a_pair_that_cannot_be_is_refused_with_a_reason():
    np.savez("wide.npz", x=np.zeros((2, 6, 9)))
    for code, words, command in (
        ("SNN044", "holds integers only", ("net.net:folded", "net.snn", *DATA)),
        ("SNN044", "is no PyTorch model", ("net.nir:pytorch", "net.snn", *DATA, "--steps", 6)),
        ("SNN045", "runs 6 steps", ("net.snn", "weights.pt", *DATA, *MODEL[:-1], 5)),
        ("SNN022", "has shape [2, 6, 9]", ("net.snn", "net.net", "--data", "wide.npz", "--json")),
        ("SNN006", "how many time steps", ("net.nir", "net.snn", *DATA)),
    ):
        answer = snn("-q", "diff", *command)
        assert (answer.status, code in answer.err, words in answer.err) == (1, True, True), (command, answer.err)

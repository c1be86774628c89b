"""``snncompile check`` on a network with a blocker of every kind: each with its verdict, its line and a way out."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from user_project import snn

SOURCE = Path(__file__).parent / "blocked_net.py"
OPTIONS = ("--arch", "net.py:Net", "--input-shape", "2,2,4", "--steps", "4")


def line(mark):
    """The line that ends with a comment."""
    (found,) = [k for k, text in enumerate(SOURCE.read_text().splitlines(), 1) if text.endswith(f"  # {mark}")]
    return found


BLOCKERS = {
    ("SNN125", None): ("b.weight", "no numbers", "impossible"),
    ("SNN116", line("random")): ("", "random numbers", "impossible"),
    ("SNN112", line("decision")): ("", "decision by a value", "impossible"),
    ("SNN121", line("conv3d")): ("conv", "convolution.default", "host"),
    ("SNN121", line("softmax")): ("_softmax_1", "_softmax.default", "impossible"),
    ("SNN121", line("cell")): ("gated.cell", "unsafe_split, mul, add, tanh, sub", "impossible"),
    ("SNN120", line("neuron")): ("n3", "ge.Scalar", "impossible"),
    ("SNN121", line("sort")): ("sort_1", "sort.default", "impossible"),
    ("SNN121", line("logits")): ("_log_softmax_1", "_log_softmax.default", "host"),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the network."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(SOURCE, "net.py")
    return tmp_path


def test_every_blocker_has_a_verdict_a_line_and_a_way_out(here):
    answer = snn("check", *OPTIONS, "--json")
    assert answer.status == 1
    found = answer.json
    assert not found["ok"]
    diagnostics = {(d["code"], d["location"] and d["location"]["line"]): d for d in found["diagnostics"]}
    assert set(diagnostics) == set(BLOCKERS)
    assert len(found["diagnostics"]) == len(BLOCKERS), "each is listed once"
    assert all(d["help"] for d in found["diagnostics"])
    rows = [o for o in found["operations"] if o["verdict"] in ("host", "impossible")]
    assert {(o["name"], o["operation"], o["verdict"]) for o in rows} == set(BLOCKERS.values())
    for (code, at), (name, operation, _) in BLOCKERS.items():
        (row,) = [o for o in rows if (o["name"], o["operation"]) == (name, operation)]
        assert (row["location"] and row["location"]["line"]) == at
        assert (row["note"], row["way_out"]) == (diagnostics[code, at]["message"], diagnostics[code, at]["help"])
    others = {o["name"]: o["verdict"] for o in found["operations"] if o["verdict"] not in ("host", "impossible")}
    assert {name: others[name] for name in ("a", "b", "c", "d", "e")} == dict.fromkeys("abcde", "native")
    assert {name: others[name] for name in ("n1", "n2", "n4")} == dict.fromkeys(("n1", "n2", "n4"), "custom neuron program")


def test_people_read_the_same(here):
    answer = snn("check", *OPTIONS)
    assert answer.status == 1
    assert len(re.findall(r"^error\[SNN\d+\]", answer.err, re.M)) == len(BLOCKERS)
    assert f"{len(BLOCKERS)} things are in the way" in answer.err
    for code, at in BLOCKERS:
        assert f"[{code}]" in answer.err
        assert at is None or f"net.py:{at} in forward" in answer.err
    assert answer.err.count("  help: ") == len(BLOCKERS)


def test_what_is_repaired_is_no_longer_listed(here):
    found = snn("check", *OPTIONS, "--arch-args", '{"damaged": false}', "--json").json
    assert {d["code"] for d in found["diagnostics"]} == {code for code, _ in BLOCKERS} - {"SNN125"}

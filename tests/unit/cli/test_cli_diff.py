"""``snncompile diff`` on a user's network: every kind of side, what is said, and the folder that shows a difference alone."""

import shlex
import subprocess
import sys
from pathlib import Path

import nir
import numpy as np
import pytest
from user_project import FOREIGN, snn

from snncompile.backends.bundle import read_bundle
from snncompile.cli.commands.diff import diff as command
from snncompile.cli.side_name import STAGES, SideName, SideParameter
from snncompile.ir.integer import IntInput

MODEL = ("--data", "data.npz", *FOREIGN)


@pytest.fixture
def there(bundle, monkeypatch):
    """A copy of the user's folder with a bundle."""
    return bundle.parent


def test_a_model_equals_its_graphs_and_a_bundle_its_executors(there):
    for a, b, by in (
        ("weights.pt", "weights.pt:captured", "float"), ("weights.pt:captured", "weights.pt:folded", "float"),
        ("net.snn", "net.snn:hops", "bits"), ("net.snn:onnx", "weights.pt:integer", "bits"),
    ):  # fmt: skip
        answer = snn("-q", "diff", a, b, *MODEL, "--json")
        assert answer.status == 0, answer.out + answer.err
        found = answer.json
        assert (found["equal"], found["compared_by"], found["reproduction"]) == (True, by, None)
        rows = {p["name"]: p for p in found["populations"]}
        assert set(rows) == {"x", "lif", *(n for n in rows if n not in ("x", "lif"))}
        assert len(rows) == 3, "the readout is compared too"
        assert all(p["differing"] == 0 < p["compared"] for p in found["populations"])
    assert not Path("reproduction").exists()


def test_a_difference_is_shown_explained_and_reproduced(there):
    answer = snn("-q", "diff", "weights.pt:folded", "net.snn", *MODEL)
    assert answer.status == 1
    assert "first difference: 'x', step 1" in answer.out
    assert "cause: payload rounding; repaired, none of" in answer.out
    (entry,) = read_bundle(Path("net.snn")).graph.of(IntInput)
    x = np.random.default_rng(1).integers(entry.low, entry.high + 1, (30, 1, 4, 4)) * entry.lsb + entry.offset
    np.savez("grid.npz", x=x)
    answer = snn("-q", "diff", "weights.pt:folded", "net.snn", "--data", "grid.npz", *FOREIGN, "--json")
    found = answer.json
    assert answer.status == 1
    at = found["first_divergence"]
    assert at["location"]["file"] == "net.py"
    assert {c["cause"] for c in found["explanation"]["causes"] if c["confirmed"]} <= {"weight rounding", "bias rounding"}
    assert found["explanation"]["left"] == 0 < found["explanation"]["events"]
    script = Path(found["reproduction"]) / "reproduce.py"
    assert len(script.read_text().splitlines()) < 25
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert run.stdout.count(at["population"]) == 6
    a, b = at["values"]["membrane before the reset"]
    assert str(a) in run.stdout
    assert a != b
    again = snn("-q", "diff", "weights.pt:folded", "net.snn", "--data", "grid.npz", *FOREIGN, "--json")
    assert again.json == found, "a reproduction of ours is written anew"


def test_sides_are_read_from_the_right(there):
    def read(text):
        return SideParameter().convert(text, None, None)

    assert read("net.snn:lava") == SideName(Path("net.snn"), None, "lava")
    assert read("a/net.nir@sinabs:folded") == SideName(Path("a/net.nir"), "sinabs", "folded")
    assert read(":captured") == SideName(None, None, "captured")
    Path("odd:folded").touch()
    assert read("odd:folded") == SideName(Path("odd:folded"), None, None)
    assert all(read(f"m.pt:{stage}").stage == stage for stage in STAGES)


def test_the_manual_names_every_stage_and_its_commands_are_commands():
    text = (Path(__file__).parents[3] / "docs" / "diff.md").read_text()
    assert all(f"`{stage}`" in text for stage in STAGES)
    lines = [shlex.split(line, comments=True) for line in text.splitlines() if line.startswith("snncompile diff")]
    assert len(lines) == 7
    for line in lines:
        command.make_context("diff", line[2:])


def test_a_stage_that_does_not_exist_is_a_usage_error(there):
    answer = snn("diff", "net.snn:lavva", "net.snn", "--data", "data.npz")
    assert answer.status == 2
    assert "there is no 'lavva'; did you mean lava?" in answer.err


def test_one_file_under_two_dialects_is_told_apart(there):
    rng = np.random.default_rng(0)
    ones = np.ones(6)
    nodes = {
        "input": nir.Input(input_type={"input": np.array([8])}),
        "fc": nir.Affine(weight=rng.normal(0.2, 0.5, (6, 8)), bias=0.1 * ones),
        "lif": nir.LIF(tau=5e-3 * ones, r=ones, v_leak=0 * ones, v_threshold=0.4 * ones, v_reset=0 * ones),
        "output": nir.Output(output_type={"output": np.array([6])}),
    }
    nir.write("net.nir", nir.NIRGraph(nodes=nodes, edges=[("input", "fc"), ("fc", "lif"), ("lif", "output")]))
    np.savez("spikes.npz", x=(rng.random((10, 6, 8)) < 0.4).astype(np.float32))
    options = ("--data", "spikes.npz", "--steps", 6, "--json")
    assert snn("-q", "diff", "net.nir@norse", "net.nir@norse:folded", *options).status == 0
    found = snn("-q", "diff", "net.nir@snntorch", "net.nir@norse", *options).json
    assert (found["equal"], found["first_divergence"]["population"], found["explanation"]["left"]) == (False, "lif", 0)
    causes = {c["cause"]: c["detail"] for c in found["explanation"]["causes"] if c["confirmed"]}
    assert "'input' counts 100 times as much in it" in causes["input scaling"], "the tools' time units differ"

"""Networks with several inputs and outputs, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from user_project import snn

NET = """
import torch
from torch import nn

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc, self.out, self.other = nn.Conv2d(2, 4, 3), nn.Linear(5, 16), nn.Linear(16, 3), nn.Linear(16, 2)
        self.v = 0.0

    def forward(self, image, cue):
        i = self.conv(image).flatten(1) + self.fc(cue)
        m = 0.5 * self.v + i
        s = (m >= 0.5).float()
        self.v = m - 0.5 * s
        return {"classes": self.out(s), "side": self.other(s)}
"""
NAMED = ("--arch", "two.py:Two", "--input-shape", "image=2,4,4", "--input-shape", "cue=5", "--steps", "4")
ORDERED = ("--arch", "two.py:Two", "--input-shape", "2,4,4", "--input-shape", "5", "--steps", "4")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("two.py").write_text(NET)
    rng = np.random.default_rng(0)
    np.savez("data.npz", image=rng.random((6, 4, 2, 4, 4)), cue=rng.random((6, 5)), y=np.arange(6) % 2)
    return tmp_path


@pytest.mark.parametrize("options", [NAMED, ORDERED], ids=["named", "in order"])
def test_two_inputs_go_through_every_command(here, options):
    answer = snn("export", *options, "--data", "data.npz", "--no-lava", "-o", "two.snn", "--json")
    assert answer.status == 0, answer.err
    verified = snn("verify", "two.snn", "--data", "data.npz", *options[:2], "--backend", "reference", "--backend", "onnx", "--json")
    assert verified.status == 0, verified.err
    assert verified.json["backend"]["onnx"]["differing_bits"] == 0
    assert verified.json["capture"]["differing_spikes"] == 0
    ran = snn("run", "two.snn", "--data", "data.npz", "--json", "-o", "out.npz")
    assert ran.status == 0, ran.err
    assert np.load("out.npz")["outputs"].shape == (6, 4, 3)
    assert "side" in snn("inspect", "two.snn").out
    checked = snn("check", *options, "--data", "data.npz", "--json")
    assert checked.json["ok"], checked.out
    same = snn("diff", "two.snn:integer", "two.snn:onnx", "--data", "data.npz", "--json")
    assert (same.status, same.json["equal"]) == (0, True), same.err
    assert snn("convert", "two.snn", "-o", "two.onnx").status == 0


def test_the_deciding_output_is_chosen(here):
    answer = snn("export", *NAMED, "--data", "data.npz", "--no-lava", "-o", "two.snn", "--readout-of", "side")
    assert answer.status == 0, answer.err
    ran = snn("run", "two.snn", "--data", "data.npz", "--json")
    assert np.asarray(ran.json["logits"]).shape == (6, 2)
    assert snn("verify", "two.snn", "--data", "data.npz", *NAMED[:2], "--backend", "reference").status == 0
    ledger = json.loads(snn("inspect", "two.snn", "--ledger", "--json").out)["ledger"]
    assert [line["value"] for line in ledger if line["what"] == "output that decides"] == ["'side'"]


def test_an_unknown_output_is_named(here):
    answer = snn("export", *NAMED, "--data", "data.npz", "--no-lava", "--readout-of", "sides")
    assert answer.status == 1
    assert "SNN104" in answer.err
    assert "classes, side" in answer.err


@pytest.mark.parametrize(
    ("arrays", "code", "words"),
    [
        ({"image": (6, 2, 4, 4)}, "SNN021", "no array 'cue'"),
        ({"image": (6, 2, 4, 4), "cue": (6, 4)}, "SNN022", "cue in data.npz has shape [6, 4]"),
        ({"image": (6, 2, 4, 4), "cue": (5, 5)}, "SNN022", "6 of 'image', 5 of 'cue'"),
    ],
)
def test_missing_and_misshapen_arrays_are_named(here, arrays, code, words):
    np.savez("data.npz", **{k: np.zeros(shape) for k, shape in arrays.items()})
    answer = snn("export", *NAMED, "--data", "data.npz", "--no-lava")
    assert answer.status == 1
    assert code in answer.err
    assert words in " ".join(answer.err.split())


@pytest.mark.parametrize(
    ("shapes", "words"), [(("image=2,4,4", "5"), "name all inputs or none"), (("a=2", "a=3"), "two shapes"), (("1x=2",), "not the name")]
)
def test_shapes_that_contradict_each_other_are_a_usage_error(here, shapes, words):
    options = [part for shape in shapes for part in ("--input-shape", shape)]
    answer = snn("check", "--arch", "two.py:Two", *options, "--steps", "4")
    assert answer.status == 2
    assert words in " ".join(answer.err.split())


def test_more_steps_than_can_be_proved_are_refused_at_once(here):
    for steps in ("1000000", "1000000000"):
        answer = snn("export", *NAMED[:-1], steps, "--no-lava")
        assert answer.status == 1
        assert "at most 100,000 steps" in answer.err


def test_quiet_stands_on_either_side_of_the_command(here):
    answer = snn("check", *NAMED, "-q")
    assert "reading the network" not in answer.err


def test_a_folder_is_no_file_to_write_to(here):
    assert snn("export", *NAMED, "--no-lava", "-o", "two.snn").status == 0
    (here / "results").mkdir()
    answer = snn("run", "two.snn", "--data", "data.npz", "-o", "results")
    assert answer.status == 1
    assert "is a folder" in answer.err
    assert not (here / "results.npz").exists()


def test_a_network_that_returns_its_last_step_is_read_out_there(here):
    loop = NET.replace("def forward(self, image, cue):", "def forward(self, x):").split("        i = self.conv")[0]
    loop += (
        "        v = 0.0\n        for t in range(x.shape[1]):\n            m = 0.5 * v + self.fc(x[:, t])\n"
        "            s = (m >= 0.5).float()\n            v = m - 0.5 * s\n        return self.out(s)\n"
    )
    Path("last.py").write_text(loop)
    options = ("--arch", "last.py:Two", "--input-shape", "5", "--steps", "4", "--layout", "BT", "--no-lava", "-o", "last.snn")
    answer = snn("export", *options, "--input-range", "0,1", "--json")
    assert answer.status == 0, answer.err
    assert answer.json["manifest"]["readout"] == "last"

"""Wrong data and wrong wishes to learn, from the outside: a code and a way out, on every command that reads them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_learning_cli import CLASSES, DEEP, INPUTS, NET, STEPS, snn

SAMPLES = 16
OUT = ("--no-lava", "--input-range", "0,255,1")
READOUT = (*NET, "--learn", "out", *OUT)
LOCAL = (*DEEP, "--learn", "fc1,fc2", "--rule", "ltl", *OUT)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """readout.snn and local.snn, that learn; learned.snn."""
    path = tmp_path_factory.mktemp("bad")
    for name, options in (("readout", READOUT), ("local", LOCAL)):
        status, _, err = snn("export", *options, "-o", path / f"{name}.snn")
        assert status == 0, err
    np.savez(path / "good.npz", **arrays())
    status, _, err = snn("learn", path / "readout.snn", "--data", path / "good.npz", "-o", path / "learned.snn")
    assert status == 0, err
    status, _, err = snn("learn", path / "readout.snn", "--data", path / "good.npz", "-o", path / "learned.zip")
    assert status == 0, err
    return path


def arrays(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    """A good stream, with something changed or left out."""
    g = np.random.default_rng(0)
    found = {"x": g.integers(0, 256, (SAMPLES, INPUTS)).astype(np.uint8), "y": g.integers(0, CLASSES, SAMPLES)}
    return {k: v for k, v in {**found, **changes}.items() if v is not None}


def taught(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    """A good stream with a teacher's activities."""
    g = np.random.default_rng(1)
    given = {"teacher.fc1": g.random((SAMPLES, 20)), "teacher.fc2": g.random((SAMPLES, 14))}
    return arrays(**{**given, **{f"teacher.{k}": v for k, v in changes.items()}})


def refused(code: str, said: str, *command: object) -> None:
    """The code, the words and a way out, as text and as JSON."""
    status, out, err = snn(*command, "--json")
    assert status == 1, err
    assert f"error[{code}]" in err
    assert said in err
    found = json.loads(out)
    assert found["ok"] is False
    assert found["diagnostics"][0]["code"] == code
    assert found["diagnostics"][0]["help"]


GOOD = arrays()
DATA = {
    "labels are strings": ({"y": np.array(["a"] * SAMPLES)}, "SNN023", "y in"),
    "labels are objects": ({"y": np.array([{}] * SAMPLES, dtype=object)}, "SNN023", "pickled objects"),
    "samples are strings": ({"x": np.full((SAMPLES, INPUTS), "a")}, "SNN023", "x in"),
    "a label is too large": ({"y": GOOD["y"] + CLASSES}, "SNN026", f"the network has {CLASSES} outputs"),
    "a label is -2": ({"y": GOOD["y"] - 3}, "SNN026", "are not all class numbers"),
    "a label is NaN": ({"y": np.where(GOOD["y"] == 0, np.nan, GOOD["y"])}, "SNN026", "are not all class numbers"),
    "labels are fractions": ({"y": GOOD["y"] + 0.5}, "SNN026", "are not all class numbers"),
    "labels are one-hot": ({"y": np.eye(CLASSES)[GOOD["y"]]}, "SNN026", "y.argmax"),
    "there are few labels": ({"y": GOOD["y"][:3]}, "SNN026", "x has 16 samples"),
    "a sample is NaN": ({"x": np.where(GOOD["x"] > 200, np.nan, GOOD["x"])}, "SNN024", "NaN or infinity"),
    "T is wrong": ({"x": np.repeat(GOOD["x"][:, None], STEPS + 1, 1)}, "SNN022", f"the file has {STEPS + 1} steps"),
    "the shape is wrong": ({"x": GOOD["x"][:, 1:]}, "SNN022", "has shape [16, 11]"),
    "there are no samples": ({"x": GOOD["x"][:0], "y": GOOD["y"][:0]}, "SNN025", "holds no samples"),
    "there is no x": ({"x": None}, "SNN021", "has no array 'x'"),
}


@pytest.mark.parametrize("what", DATA)
@pytest.mark.parametrize("command", ["export", "learn", "verify", "test"])
def test_wrong_data_are_refused_by_every_command(here, tmp_path, what, command):
    changes, code, said = DATA[what]
    np.savez(tmp_path / "bad.npz", **arrays(**changes))
    commands = {
        "export": ("export", *READOUT, "--data", tmp_path / "bad.npz", "-o", tmp_path / "out.snn"),
        "learn": ("learn", here / "readout.snn", "--data", tmp_path / "bad.npz", "-o", tmp_path / "out.snn"),
        "verify": ("verify", here / "readout.snn", "--learning", "--no-lava", "--data", tmp_path / "bad.npz"),
        "test": ("verify", here / "readout.snn", "--learning", "--no-lava", "--data", here / "good.npz", "--test", tmp_path / "bad.npz"),
    }
    refused(code, said, *commands[command])
    assert not (tmp_path / "out.snn").exists()


TEACHERS = {
    "strings": ({"fc1": np.full((SAMPLES, 20), "a")}, "the array there holds <U1, not real numbers"),
    "complex": ({"fc1": np.ones((SAMPLES, 20), dtype=complex)}, "the array there holds complex128, not real numbers"),
    "none for a layer": ({"fc1": None}, "it holds 'teacher.fc2' [16, 14]"),
    "another name": ({"fc1": None, "lif1": np.ones((SAMPLES, 20))}, "'teacher.lif1' [16, 20]"),
    "too large": ({"fc1": np.full((SAMPLES, 20), 1.5)}, "the array there holds 1.5..1.5"),
    "too small": ({"fc1": np.full((SAMPLES, 20), -0.25)}, "the array there holds -0.25..-0.25"),
    "NaN": ({"fc1": np.full((SAMPLES, 20), np.nan)}, "the array there holds NaN"),
    "few neurons": ({"fc1": np.ones((SAMPLES, 3))}, "the array there has shape [16, 3]"),
    "few samples": ({"fc1": np.ones((3, 20))}, "the array there has shape [3, 20]"),
    "a number": ({"fc1": np.array(0.5)}, "the array there has shape []"),
    "with time": ({"fc1": np.ones((SAMPLES, STEPS, 20))}, "the array there has shape [16, 4, 20]"),
}


@pytest.mark.parametrize("what", TEACHERS)
def test_a_wrong_teacher_is_refused_by_every_command(here, tmp_path, what):
    changes, said = TEACHERS[what]
    np.savez(tmp_path / "bad.npz", **taught(**changes))
    for more in ((), ("--headroom", 2)):
        refused("SNN815", said, "export", *LOCAL, *more, "--data", tmp_path / "bad.npz", "-o", tmp_path / "out.snn")
    refused("SNN815", said, "learn", here / "local.snn", "--data", tmp_path / "bad.npz", "-o", tmp_path / "out.snn")
    refused("SNN815", said, "verify", here / "local.snn", "--learning", "--no-lava", "--data", tmp_path / "bad.npz")
    assert not list(tmp_path.glob("*.snn"))


def test_an_export_measures_on_data_without_a_teacher_and_one_sample_is_enough(here, tmp_path):
    np.savez(tmp_path / "plain.npz", **arrays())
    status, _, err = snn("export", *LOCAL, "--data", tmp_path / "plain.npz", "-o", tmp_path / "out.snn")
    assert status == 0, err
    refused("SNN815", "'teacher.fc1'", "learn", here / "local.snn", "--data", tmp_path / "plain.npz", "-o", tmp_path / "never.snn")
    np.savez(tmp_path / "one.npz", **{k: v[:1] for k, v in taught().items()})
    for command in (("learn", "-o", tmp_path / "learned.snn"), ("verify", "--learning", "--no-lava")):
        status, _, err = snn(command[0], here / "local.snn", *command[1:], "--data", tmp_path / "one.npz")
        assert status == 0, err


def test_labels_are_needed_to_learn_and_to_test(here, tmp_path):
    np.savez(tmp_path / "bare.npz", **arrays(y=None))
    bare = tmp_path / "bare.npz"
    refused("SNN813", "no labels", "learn", here / "readout.snn", "--data", bare, "-o", tmp_path / "out.snn")
    refused("SNN813", "no labels", "verify", here / "readout.snn", "--learning", "--no-lava", "--data", bare)
    refused("SNN813", "no labels", "verify", here / "readout.snn", "--learning", "--no-lava", "--data", here / "good.npz", "--test", bare)


WISHES = {
    "a layer that is not there": (("--learn", "out,conv9"), "SNN805", "no layer 'conv9'"),
    "a layer twice": (("--learn", "out,out"), "SNN810", "the layer 'out' is named twice"),
    "a layer by two names": (("--learn", "out", "--learn", "out_readout"), "SNN810", "'out_readout' is named as 'out', too"),
    "no layer": (("--learn", " , "), "SNN810", "--learn names no layer"),
    "a negative rate": (("--learn", "out", "--learning-rate", -0.1), "SNN810", "no rate -0.1"),
    "no rate": (("--learn", "out", "--learning-rate", 0), "SNN810", "no rate 0.0"),
    "an infinite rate": (("--learn", "out", "--learning-rate", "inf"), "SNN810", "no rate inf"),
    "a rate that is no number": (("--learn", "out", "--learning-rate", "nan"), "SNN810", "no rate nan"),
    "a huge rate": (("--learn", "out", "--learning-rate", 1e30), "SNN808", "the learning rate asks for steps"),
    "a tiny rate": (("--learn", "out", "--learning-rate", 1e-30), "SNN808", "the learning rate asks for steps"),
    "no headroom": (("--learn", "out", "--headroom", 0), "SNN810", "no headroom 0.0"),
    "a negative headroom": (("--learn", "out", "--headroom", "out=-1"), "SNN810", "no headroom -1.0"),
    "an infinite headroom": (("--learn", "out", "--headroom", "inf"), "SNN810", "no headroom inf"),
    "a headroom of nothing": (("--learn", "out", "--headroom", "=3"), "SNN810", "no headroom for ''"),
    "two headrooms": (("--learn", "out", "--headroom", "out=2,out=3"), "SNN810", "two headrooms, 2 and 3"),
    "a rule without a name": (("--learn", "out", "--rule", ""), "SNN807", "no learning rule is called ''"),
    "a rule for no layer": (("--rule", "sltt"), "SNN810", "--rule says how a layer learns, and none does"),
    "a rate for no layer": (("--learning-rate", 3), "SNN810", "--learning-rate says how"),
    "a warm-up that nothing reads": (("--learn", "out", "--warm-up", 2), "SNN810", "'ottt' does not read --warm-up"),
    "a trace that nothing reads": (
        ("--learn", "out", "--rule", "sltt", "--trace-leak", 0.5),
        "SNN810",
        "'sltt' does not read --trace-leak",
    ),
    "feedback that nothing reads": (("--learn", "out", "--rule", "ltl", "--feedback", "transpose"), "SNN810", "does not read --feedback"),
}


@pytest.mark.parametrize("what", WISHES)
def test_a_wrong_wish_is_refused(tmp_path, what):
    wishes, code, said = WISHES[what]
    refused(code, said, "export", *NET, *OUT, *wishes, "-o", tmp_path / "out.snn")


@pytest.mark.parametrize("name", ["learned.snn", "learned.zip"])
def test_a_bundle_is_no_network_to_export(here, tmp_path, name):
    refused("SNN002", "is a bundle, which is compiled already", "export", here / name, "--learn", "out", "-o", tmp_path / "out.snn")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--test", "good.npz"), "--test goes only with --learning"),
        (("--no-lava",), "--no-lava goes only with --learning"),
        (("--learning", "--backend", "lava"), "--backend goes not with --learning"),
        (("--learning", "--against", "model.pt"), "--against goes not with --learning"),
    ],
)
def test_options_that_nothing_reads_are_a_usage_error(here, options, said):
    status, out, err = snn("verify", here / "readout.snn", "--data", here / "good.npz", *options, "--json")
    assert status == 2
    assert said in err
    assert said in json.loads(out)["usage_error"]

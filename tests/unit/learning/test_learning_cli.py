"""The command line of learning: export with a plastic layer, verify it, let it learn, save what it learned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_learner import CLASSES, INPUTS, STEPS

from snncompile.backends.bundle import read_bundle
from snncompile.cli.app import cli

DEEP = ("--arch", f"{Path(__file__).with_name('tiny_learner.py')}:DeepLearner", "--input-shape", INPUTS, "--steps", STEPS)
NET = ("--arch", f"{Path(__file__).with_name('tiny_learner.py')}:TinyLearner", "--input-shape", INPUTS, "--steps", STEPS)


def snn(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, [str(a) for a in ("-q", *arguments)], prog_name="snncompile")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """stream.npz: three noisy patterns; learner.snn: the network, learning on the chip."""
    path = tmp_path_factory.mktemp("learning")
    g = np.random.default_rng(0)
    centres, y = g.random((CLASSES, INPUTS)), g.integers(0, CLASSES, 120)
    x = np.clip(centres[y] * 200 + g.normal(0, 30, (120, INPUTS)), 0, 255).astype(np.uint8)
    np.savez(path / "stream.npz", x=x, y=y)
    np.savez(path / "unlabelled.npz", x=x)
    teacher = {"teacher.fc1": g.random((CLASSES, 20))[y], "teacher.fc2": g.random((CLASSES, 14))[y]}
    np.savez(path / "taught.npz", x=x, y=y, **teacher)
    np.savez(path / "wrong.npz", x=x, y=y, **{**teacher, "teacher.fc1": 2 * teacher["teacher.fc1"]})
    options = ("--learn", "out", "--rule", "ottt", "--learning-rate", 0.1, "--no-lava", "--input-range", "0,255,1")
    status, _, err = snn("export", *NET, *options, "--data", path / "stream.npz", "-o", path / "learner.snn")
    assert status == 0, err
    return path


def test_an_exported_learner_learns_as_pytorchs_rule_does(folder):
    status, out, err = snn("verify", folder / "learner.snn", "--learning", "--data", folder / "stream.npz", "--no-lava", "--json")
    assert status == 0, err
    found = json.loads(out)["learning"]
    assert found["update_correlation"] > 0.95
    assert abs(found["update_slope"] - 1) < 0.05
    assert found["accuracy_on_chip"] > found["accuracy_no_learning"] + 0.3
    assert abs(found["accuracy_on_chip"] - found["accuracy_pytorch"]) < 0.1


def test_verify_learning_compares_lava_bit_for_bit(folder):
    few = ("--samples", 4, "--json")
    status, out, err = snn("verify", folder / "learner.snn", "--learning", "--data", folder / "stream.npz", *few)
    assert status == 0, err
    found = json.loads(out)["learning"]
    assert found["differing_bits"] == 0
    assert found["lava"]["samples"] == 4
    assert found["steps"] == found["lava"]["steps"] > 4 * STEPS


def test_what_was_learned_is_a_bundle_like_any_other(folder):
    status, out, err = snn("learn", folder / "learner.snn", "--data", folder / "stream.npz", "-o", folder / "learned.snn", "--json")
    assert status == 0, err
    assert json.loads(out)["synapses_changed"] > 10
    before, after = read_bundle(folder / "learner.snn"), read_bundle(folder / "learned.snn")
    assert after.learning == before.learning
    for layer in after.learning.layers:
        assert np.any(layer.chip_weights(after.graph) != layer.chip_weights(before.graph))
    status, _, err = snn("verify", folder / "learned.snn", "--data", folder / "stream.npz")
    assert status == 0, err
    status, _, err = snn("verify", folder / "learned.snn", "--learning", "--data", folder / "stream.npz", "--no-lava")
    assert status == 0, err


def test_learning_needs_a_learner_and_labels(folder):
    status, _, err = snn("verify", folder / "learner.snn", "--learning", "--data", folder / "unlabelled.npz")
    assert status == 1
    assert "SNN813" in err
    status, _, err = snn("export", *NET, "--no-lava", "--input-range", "0,255,1", "-o", folder / "plain.snn")
    assert status == 0, err
    status, _, err = snn("learn", folder / "plain.snn", "--data", folder / "stream.npz", "-o", folder / "never.snn")
    assert status == 1
    assert "SNN812" in err
    assert not (folder / "never.snn").exists()


@pytest.mark.parametrize(
    ("layers", "rule", "rate", "data"),
    [("fc2,out", "ottt", 0.1, "stream.npz"), ("fc1, fc2, out", "sltt", 0.2, "stream.npz"), ("fc1,fc2,out", "ltl", 0.3, "taught.npz")],
)
def test_several_layers_learn_are_verified_and_learn_on(folder, layers, rule, rate, data):
    made, learned = folder / f"{rule}.snn", folder / f"{rule}_learned.snn"
    options = ("--learn", layers, "--rule", rule, "--learning-rate", rate, "--no-lava", "--input-range", "0,255,1")
    status, _, err = snn("export", *DEEP, *options, "--data", folder / data, "-o", made)
    assert status == 0, err
    status, out, err = snn("verify", made, "--learning", "--data", folder / data, "--samples", 3, "--json")
    assert status == 0, err
    found = json.loads(out)["learning"]
    names = [x.strip() for x in layers.split(",")]
    assert [x["layer"] for x in found["layers"]] == names
    assert found["differing_bits"] == 0 == sum(x["differing_bits"] for x in found["layers"])
    assert found["steps"] == found["lava"]["steps"] > 3 * STEPS
    assert found["update_correlation"] == min(x["update_correlation"] for x in found["layers"])
    assert found["layers"][-1]["update_correlation"] > 0.8
    assert [x["backpropagation"] is not None for x in found["layers"]] == [rule != "ltl"] * len(names)
    status, out, err = snn("learn", made, "--data", folder / data, "-o", learned, "--json")
    assert status == 0, err
    before, after = read_bundle(made), read_bundle(learned)
    for layer in after.learning.layers:
        assert np.any(layer.chip_weights(after.graph) != layer.chip_weights(before.graph))
    status, _, err = snn("verify", learned, "--data", folder / data)
    assert status == 0, err
    status, _, err = snn("verify", learned, "--learning", "--data", folder / data, "--no-lava")
    assert status == 0, err


def test_the_manifest_states_the_feedback_of_a_hidden_layer(folder):
    options = ("--learn", "fc2", "--learn", "out", "--rule", "ottt", "--no-lava", "--input-range", "0,255,1", "--learning-seed", 7)
    status, _, err = snn("export", *DEEP, *options, "-o", folder / "seeded.snn")
    assert status == 0, err
    hidden, readout = read_bundle(folder / "seeded.snn").manifest["learning"]["layers"]
    assert hidden["feedback_seed"] == 7
    assert np.array(hidden["modulator"]["feedback"]).shape == (14, CLASSES)
    assert hidden["psi"] == "sigmoid:4"
    assert readout["modulator"] is None
    status, _, err = snn("export", *DEEP, *options, "--feedback", "transpose", "-o", folder / "transposed.snn")
    assert status == 0, err
    bundle = read_bundle(folder / "transposed.snn")
    hidden, _ = bundle.manifest["learning"]["layers"]
    assert hidden["feedback_seed"] is None
    weights = bundle.graph.by_name["out"].weight.T
    assert np.corrcoef(np.array(hidden["modulator"]["feedback"]).ravel(), weights.ravel())[0, 1] > 0.999


def test_a_local_rule_needs_its_teacher(folder):
    options = ("--learn", "fc1,fc2", "--rule", "ltl", "--no-lava", "--input-range", "0,255,1", "-o", folder / "local.snn")
    status, _, err = snn("export", *DEEP, *options, "--data", folder / "stream.npz")
    assert status == 0, err
    for data in ("stream.npz", "wrong.npz"):
        status, _, err = snn("learn", folder / "local.snn", "--data", folder / data, "-o", folder / "never.snn")
        assert status == 1
        assert "SNN815" in err


def test_values_of_a_stream_outside_the_range_are_warned_of(folder, tmp_path):
    with np.load(folder / "stream.npz") as stream:
        x, y = stream["x"].astype(float), stream["y"]
    x[3, 1] = 999
    np.savez(tmp_path / "beyond.npz", x=x, y=y)
    status, _, err = snn("verify", folder / "learner.snn", "--learning", "--data", tmp_path / "beyond.npz", "--no-lava", "--json")
    assert status == 0, err
    assert f"1 of {x.size} values of 'x' lie outside its range 0..255 and were clipped" in " ".join(err.split())


def test_a_sample_labelled_minus_one_is_seen_and_not_learned_from(folder):
    with np.load(folder / "stream.npz") as stream:
        x, y = stream["x"], stream["y"]
    np.savez(folder / "none.npz", x=x, y=np.full(len(y), -1))
    np.savez(folder / "half.npz", x=x, y=np.where(np.arange(len(y)) % 2, y, -1))
    status, out, err = snn("learn", folder / "learner.snn", "--data", folder / "none.npz", "-o", folder / "same.snn", "--json")
    assert status == 0, err
    assert json.loads(out)["synapses_changed"] == 0
    assert json.loads(out)["accuracy_while_learning"] is None
    status, out, err = snn("verify", folder / "learner.snn", "--learning", "--data", folder / "half.npz", "--no-lava", "--json")
    assert status == 0, err
    found = json.loads(out)["learning"]
    assert found["update_correlation"] > 0.9
    assert found["accuracy_on_chip"] > 0.5  # of the labelled half
    status, _, err = snn("verify", folder / "learner.snn", "--learning", "--data", folder / "none.npz", "--no-lava")
    assert status == 1
    assert "SNN813" in err  # no accuracy without a label
    np.savez(folder / "minus_two.npz", x=x, y=y - 2)
    status, _, err = snn("learn", folder / "learner.snn", "--data", folder / "minus_two.npz", "-o", folder / "never.snn")
    assert status == 1
    assert "SNN026" in err


def test_weights_that_reach_the_limit_of_their_range_are_counted_and_said(folder):
    options = ("--learn", "out", "--learning-rate", 2, "--headroom", 1, "--no-lava", "--input-range", "0,255,1")
    status, _, err = snn("export", *NET, *options, "--data", folder / "stream.npz", "-o", folder / "tight.snn")
    assert status == 0, err
    status, _, err = snn("learn", folder / "tight.snn", "--data", folder / "stream.npz", "-o", folder / "stuck.snn")
    assert status == 0, err
    assert "ended at the limit of their range" in err


def test_a_readout_of_zeros_learns_from_nothing(folder):
    net = ("--arch", f"{Path(__file__).with_name('tiny_learner.py')}:Blank", *NET[2:])
    options = ("--learn", "out", "--learning-rate", 0.1, "--no-lava", "--input-range", "0,255,1")
    status, _, err = snn("export", *net, *options, "--data", folder / "stream.npz", "-o", folder / "blank.snn")
    assert status == 0, err
    status, out, err = snn("verify", folder / "blank.snn", "--learning", "--data", folder / "stream.npz", "--no-lava", "--json")
    assert status == 0, err
    found = json.loads(out)["learning"]
    assert found["update_correlation"] > 0.9
    assert found["accuracy_on_chip"] > 0.6


def test_feedback_through_a_readout_of_zeros_is_refused(folder):
    net = ("--arch", f"{Path(__file__).with_name('tiny_learner.py')}:DeepBlank", *DEEP[2:])
    options = ("--learn", "fc2,out", "--feedback", "transpose", "--no-lava", "--input-range", "0,255,1")
    status, _, err = snn("export", *net, *options, "-o", folder / "never.snn")
    assert status == 1
    assert "SNN814" in err
    assert "all 0" in err


def test_the_softmax_of_one_output_is_refused_and_its_square_error_is_not(folder):
    net = ("--arch", f"{Path(__file__).with_name('tiny_learner.py')}:OneClass", *NET[2:])
    options = ("--learn", "out", "--learning-rate", 0.1, "--no-lava", "--input-range", "0,255,1")
    status, _, err = snn("export", *net, *options, "-o", folder / "one.snn")
    assert status == 1
    assert "SNN810" in err
    assert "--loss mse" in err
    status, _, err = snn("export", *net, *options, "--loss", "mse", "-o", folder / "one.snn")
    assert status == 0, err
    with np.load(folder / "stream.npz") as stream:
        np.savez(folder / "one.npz", x=stream["x"], y=np.zeros_like(stream["y"]))
    status, out, err = snn("learn", folder / "one.snn", "--data", folder / "one.npz", "-o", folder / "one_learned.snn", "--json")
    assert status == 0, err
    assert json.loads(out)["synapses_changed"] > 0


def test_a_trace_that_never_fades_is_refused(folder):
    options = ("--learn", "out", "--trace-leak", 0.999999, "--no-lava", "--input-range", "0,255,1")
    status, _, err = snn("export", *NET, *options, "-o", folder / "never.snn")
    assert status == 1
    assert "SNN811" in err
    assert "2772587 idle model steps" in err


def test_headroom_is_given_for_all_layers_or_by_layer(folder):
    options = (*DEEP, "--learn", "fc2,out", "--no-lava", "--input-range", "0,255,1", "-o", folder / "room.snn", "--headroom")
    units = {}
    for text in ("0.75", "1.5", "fc2=3", "fc2=3,out=1.5"):
        status, _, err = snn("export", *options, text)
        assert status == 0, err
        units[text] = [np.array(x.lsb) for x in read_bundle(folder / "room.snn").learning.layers]
    for k in range(2):
        np.testing.assert_array_equal(units["fc2=3"][k], units["fc2=3,out=1.5"][k])
        np.testing.assert_array_equal(units["fc2=3"][k], (2, 1)[k] * units["1.5"][k])
        np.testing.assert_array_equal(units["1.5"][k], 2 * units["0.75"][k])
    for text, what in (("much", "no headroom 'much'"), ("fc1=2", "no headroom for 'fc1'"), ("-0.5", "no headroom -0.5")):
        status, _, err = snn("export", *options, text)
        assert status == 1
        assert what in err


@pytest.mark.parametrize("field", ["rest", "rate", "readout"])
def test_an_edited_learning_is_a_damaged_bundle(folder, tmp_path, field):
    edited = tmp_path / "edited.snn"
    shutil.copytree(folder / "learner.snn", edited)
    manifest = json.loads((edited / "manifest.json").read_text())
    manifest["learning"][field] = {"rest": 77, "rate": 9.0, "readout": "other"}[field]
    (edited / "manifest.json").write_text(json.dumps(manifest))
    status, _, err = snn("learn", edited, "--data", folder / "stream.npz", "-o", tmp_path / "learned.snn")
    assert status == 1
    assert "SNN033" in err
    assert "learning is not what was written" in err

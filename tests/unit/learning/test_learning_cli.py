"""The command line of learning: export with a plastic layer, verify it, let it learn, save what it learned."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_learner import CLASSES, INPUTS, STEPS

from snncompile.backends.bundle import read_bundle
from snncompile.cli.app import cli

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
    assert np.any(after.learning.chip_weights(after.graph) != before.learning.chip_weights(before.graph))
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

"""The examples of all methods: each script trains from data files to a checkpoint; committed models are small and say what they are."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from snncompile.online import load_checkpoint
from snncompile.online.rule import direct_coding, summed_logits
from snncompile.online.speech import FILE

EXAMPLES = Path(__file__).parents[3] / "examples"
METHODS = {
    "ottt": "OTTT_A", "ndot": "NDOT_A", "sltt": "SLTT", "osr": "OSR_A", "empf": "EMPF_R", "empf_ternary": "EMPF_R", "empf_seca1": "EMPF_R",
    "empf_seca2": "EMPF_R", "ltl": "LTL", "tet": "TET", "glif": "STBP", "asgl": "STBP", "shortcut": "TET",
}  # fmt: skip


def script(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / name / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    random = np.random.default_rng(0)
    for prefix, count in (("train", 24), ("t10k", 8)):
        for name, sizes, top in (("images-idx3", (count, 28, 28), 256), ("labels-idx1", (count,), 10)):
            header = bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)
            data = random.integers(0, top, sizes, dtype=np.uint8).tobytes()
            (tmp_path / f"{prefix}-{name}-ubyte.gz").write_bytes(gzip.compress(header + data))
    return tmp_path


@pytest.mark.parametrize("name", METHODS)
def test_a_script_trains_from_files_to_a_checkpoint_of_its_method(name, folder):
    out = folder / "out" / "model.pt"
    arguments = ["--data", str(folder), "--epochs", "1", "--steps", "2", "--batch-size", "12", "--samples", "18", "--out", str(out)]
    result = CliRunner().invoke(script(name), arguments)
    assert result.exit_code == 0, result.output
    checkpoint = load_checkpoint(out)
    assert (checkpoint.method, checkpoint.steps, checkpoint.arch_args.get("steps", 2)) == (METHODS[name], 2, 2)
    assert f"--method {METHODS[name]} " in checkpoint.training["command"]
    assert checkpoint.training["command"].endswith(" --samples 18")
    assert checkpoint.training["train_samples"] == 18
    assert summed_logits(checkpoint.build(), direct_coding(torch.zeros(1, 1, 28, 28), 2)).shape == (1, 10)
    assert out.stat().st_size < 300_000


def test_spoken_digits_are_learned_as_sequences(folder):
    audio = np.random.default_rng(0).integers(-999, 999, 20_000).astype(np.int16)
    np.savez(folder / FILE, audio=audio, offset=np.linspace(0, 20_000, 21, dtype=int), digit=np.arange(20) % 10, index=np.arange(20) % 10)
    out = folder / "model.pt"
    result = CliRunner().invoke(script("fsdd"), ["--data", str(folder), "--epochs", "1", "--out", str(out)])
    assert result.exit_code == 0, result.output
    checkpoint = load_checkpoint(out)
    assert (checkpoint.method, checkpoint.steps, checkpoint.training["test_samples"]) == ("OTTT_A", 16, 10)
    assert checkpoint.input == {"shape": [3, 32, 2], "layout": "step", "dtype": "uint8", "low": 0, "high": 1}


def test_every_recipe_is_tried():
    recipes = {path.parent.name for path in EXAMPLES.glob("*/train.py") if "Recipe(" in path.read_text()}
    assert recipes == {*METHODS, "mnist_ottt", "fsdd"}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/model.pt")), ids=lambda path: path.parent.name)
def test_a_committed_model_is_small_and_its_readme_gives_its_command_and_accuracy(path):
    training = load_checkpoint(path).training
    text = (path.parent / "README.md").read_text()
    assert path.stat().st_size < 300_000
    assert training["command"] in " ".join(text.split())
    assert f"{100 * training['test_accuracy']:.2f} %" in text
    assert f"{training['test_samples']:,}" in text

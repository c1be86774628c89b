"""The MNIST example: the committed model and images belong together, and the script runs from data files to checkpoint."""

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

EXAMPLE = Path(__file__).parents[3] / "examples" / "mnist_ottt"


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("mnist_ottt_train", EXAMPLE / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    return module


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for prefix, count in (("train", 40), ("t10k", 20)):
        for name, sizes, top in (("images-idx3", (count, 28, 28), 256), ("labels-idx1", (count,), 10)):
            header = bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)
            data = random.integers(0, top, sizes, dtype=np.uint8).tobytes()
            (tmp_path / f"{prefix}-{name}-ubyte.gz").write_bytes(gzip.compress(header + data))
    return tmp_path


def test_the_committed_model_reads_the_committed_images():
    checkpoint = load_checkpoint(EXAMPLE / "model.pt")
    assert (checkpoint.arch, checkpoint.method, checkpoint.steps) == ("ottt_vgg", "OTTT_A", 6)
    assert checkpoint.training["test_accuracy"] >= 0.99
    with np.load(EXAMPLE / "images.npz") as file:
        x, y = file["x"], file["y"]
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((256, 1, 28, 28), np.uint8, (256,), np.int64)
    logits = summed_logits(checkpoint.build(), direct_coding(torch.from_numpy(x).float(), checkpoint.steps))
    assert (logits.argmax(1).numpy() == y).mean() >= 0.98


def test_the_committed_files_stay_small():
    assert (EXAMPLE / "model.pt").stat().st_size < 300_000
    assert (EXAMPLE / "images.npz").stat().st_size < 100_000


def test_the_script_trains_from_files_to_a_checkpoint_that_does_not_name_the_folder(script, folder, tmp_path):
    out = tmp_path / "out" / "model.pt"
    result = CliRunner().invoke(script.main, ["--data", str(folder), "--epochs", "1", "--steps", "2", "--out", str(out)])
    assert result.exit_code == 0, result.output
    checkpoint = load_checkpoint(out)
    assert checkpoint.training["train_samples"] == 40
    assert checkpoint.training["command"].startswith("python train.py --data FOLDER --epochs 1 --steps 2 ")
    assert str(folder).encode() not in out.read_bytes()


def test_the_script_writes_the_first_test_images(script, folder, tmp_path):
    out = tmp_path / "images.npz"
    assert CliRunner().invoke(script.main, ["--data", str(folder), "--images-out", str(out)]).exit_code == 0
    with np.load(out) as file:
        assert (file["x"].shape, file["y"].shape) == ((20, 1, 28, 28), (20,))


def test_the_script_names_a_missing_file(script, tmp_path):
    result = CliRunner().invoke(script.main, ["--data", str(tmp_path)])
    assert result.exit_code == 1
    assert "SNN720" in result.output

"""Whatever stands in a file, the command line gives an answer or an error with a code: it never hangs, crashes or shows a traceback."""

from __future__ import annotations

import re
import shutil
import time
import warnings

import h5py
import numpy as np
import onnx
import pytest
import torch
from contents import other_data, other_onnx, other_weights
from damage import damaged, edited
from one_network import MODEL
from user_project import snn

FEW, MANY = range(12), range(1000, 1400)
STEPS = ("--steps", "6")
LONG = 60
"""Seconds; the HDF5 library gets 3 of the processor's."""
COMMANDS = {
    "net.nir": ("inspect", "{0}", "--stage", "captured", *STEPS), "net.net": ("inspect", "{0}", "--stage", "integer"),
    "net.onnx": ("inspect", "{0}", "--stage", "captured", *STEPS), "weights.pt": ("inspect", "{0}", "--stage", "captured", *MODEL),
    "spikes.npz": ("run", "net.snn", "--backend", "reference", "--data", "{0}"),
}  # fmt: skip
SPREAD = [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=[pytest.mark.slow, pytest.mark.timeout(7200)])]


@pytest.fixture(autouse=True)
def there(forms, tmp_path, monkeypatch):
    for file in forms.iterdir():
        (shutil.copytree if file.is_dir() else shutil.copyfile)(file, tmp_path / file.name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answered(what, command):
    """The exit status: 0, or 1 with a code, within a minute."""
    started = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = snn("-q", *command)
    assert answer.status in (0, 1), (what, answer.err)
    assert answer.status == 0 or re.search(r"error\[SNN\d{3}\]", answer.err), (what, answer.err)
    assert "Traceback" not in answer.err + answer.out, (what, answer.err)
    assert time.monotonic() - started < LONG, what
    return answer.status


@pytest.mark.parametrize("seeds", SPREAD)
@pytest.mark.parametrize("name", COMMANDS)
def test_damaged_bytes(name, seeds, there):
    raw = (there / name).read_bytes()
    broken = there / f"broken{(there / name).suffix}"
    command = [part.format(broken.name) for part in map(str, COMMANDS[name])]
    broken.write_bytes(raw)
    assert answered("whole", command) == 0
    refused = 0
    for seed in seeds:
        broken.write_bytes(damaged(raw, seed))
        refused += answered(seed, command)
    assert refused > len(seeds) // 3


@pytest.mark.parametrize("seeds", SPREAD)
@pytest.mark.parametrize("name", ["net.nir", "net.net"])
def test_another_structure_of_hdf5(name, seeds, there):
    refused = 0
    for seed in seeds:
        shutil.copyfile(name, f"other_{name}")
        with h5py.File(f"other_{name}", "a") as file:
            what = edited(file, seed)
        refused += answered(f"{seed}: {what}", [part.format(f"other_{name}") for part in COMMANDS[name]])
    assert refused > len(seeds) // 3


@pytest.mark.parametrize("seeds", SPREAD)
def test_another_onnx_graph(seeds):
    refused = 0
    for seed in seeds:
        model = onnx.load("net.onnx")
        what = other_onnx(model, seed)
        onnx.save(model, "other.onnx")
        refused += answered(f"{seed}: {what}", [part.format("other.onnx") for part in COMMANDS["net.onnx"]])
    assert refused > len(seeds) // 3


@pytest.mark.parametrize("seeds", SPREAD)
def test_other_things_than_weights(seeds):
    state = torch.load("weights.pt", weights_only=True)
    refused = 0
    for seed in seeds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(other_weights(state, seed), "other.pt")
        refused += answered(seed, [str(part).format("other.pt") for part in COMMANDS["weights.pt"]])
    assert refused > len(seeds) // 3


@pytest.mark.parametrize("seeds", SPREAD)
def test_other_things_than_samples(seeds):
    with np.load("spikes.npz") as archive:
        x = archive["x"]
    refused = 0
    for seed in seeds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            np.savez("other.npz", **other_data(x, seed))
        refused += answered(seed, [part.format("other.npz") for part in COMMANDS["spikes.npz"]])
    assert refused > len(seeds) // 3


def test_a_pickle_is_refused_and_nothing_of_it_runs(there):
    (there / "trap.py").write_text(
        "class Trap:\n    def __reduce__(self):\n        return eval, (\"open('sprung', 'w').close()\",)\n", encoding="utf-8"
    )
    import sys

    sys.path.insert(0, str(there))
    try:
        import trap
    finally:
        sys.path.remove(str(there))
    torch.save({"model": trap.Trap()}, "trap.pt")
    np.savez("trap.npz", x=np.array([trap.Trap()], dtype=object))
    answer = snn("-q", "inspect", "trap.pt", *MODEL)
    assert (answer.status, "error[SNN005]" in answer.err) == (1, True)
    answer = snn("-q", "run", "net.snn", "--backend", "reference", "--data", "trap.npz")
    assert (answer.status, "error[SNN023]" in answer.err) == (1, True)
    assert not (there / "sprung").exists()

"""The imported program against Lava itself: its own Conv, Dense, DelayDense and LIFReset processes, built as netx builds them."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from net_files import conv, cuba, dense, even, plain, spikes, write_net

from snncompile.backends.lava.interpreter import find_interpreter
from snncompile.importers.netx import load_net
from snncompile.ir import reference

STEPS = 16
TIMEOUT_S = 120


def on_lava(folder: Path, layers, x: np.ndarray) -> list[np.ndarray]:
    """Spikes by layer, (T, *shape of the file): in a process group of its own, because Lava hangs for ever on a fault."""
    data = {"x": x.transpose(0, *range(x.ndim - 1, 0, -1)), "kinds": np.array([layer["type"] for layer in layers])}
    for k, layer in enumerate(layers):
        n = layer["neuron"]
        data[f"weight_{k}"] = np.asarray(layer["weight"])
        data[f"delay_{k}"] = np.asarray(layer.get("delay", 0))
        data[f"bias_{k}"] = np.asarray(layer.get("bias", 0))
        window = (layer["stride"][0], layer["padding"][0]) if layer["type"] == "conv" else (1, 0)
        data[f"numbers_{k}"] = np.array([n["iDecay"], n["vDecay"], n["vThMant"], *window])
    np.savez(folder / "in.npz", **data)
    command = [find_interpreter().path, Path(__file__).with_name("lava_builtins.py"), folder / "in.npz", folder / "out.npz"]
    process = subprocess.Popen([str(c) for c in command], env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True, cwd=folder)
    try:
        assert process.wait(TIMEOUT_S) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    with np.load(folder / "out.npz") as found:
        return [found[f"s_{k}"].transpose(0, *range(found[f"s_{k}"].ndim - 1, 0, -1)) for k in range(len(layers))]


@pytest.mark.slow
def test_every_spike_is_that_of_lavas_own_processes(tmp_path):
    g = np.random.default_rng(0)
    layers = [
        conv(even(g, 4, 2, 3, 3), (4, 4, 3), cuba(30), stride=2, padding=1, bias=2 * g.integers(0, 5, 4)),
        conv(even(g, 6, 4, 2, 2), (6, 3, 2), cuba(40, 2000, 300)),
        dense(even(g, 9, 36), cuba(35, 2048, 300), delay=g.integers(0, 6, 9)),
        dense(even(g, 5, 9), cuba(30, 4096, 64), bias=2 * g.integers(-2, 4, 5)),
    ]  # fmt: skip
    x = spikes(g, STEPS, 2, 7, 6, rate=0.5)
    file = [plain("input", 2, 7, 6), *layers[:2], plain("flatten", 36, 1, 1), *layers[2:]]
    program = load_net(write_net(tmp_path / "net.net", file, STEPS))
    names = ["layer1", "layer2", "layer4", "layer5"]
    ours = reference.run(program.result.graph, {"input": x[None]}, record=names)
    for name, theirs in zip(names, on_lava(tmp_path, layers, x), strict=True):
        assert np.array_equal(ours[name][0], theirs), name
        assert theirs.any()

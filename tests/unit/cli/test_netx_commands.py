"""lava-dl's files on the command line: exported, run, verified and inspected like any other network."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from user_project import snn

sys.path.append(str(Path(__file__).parents[1] / "importers"))
from lava_by_hand import replay
from net_files import conv, cuba, dense, even, plain, pool, spikes, write_net

STEPS = 12


def layers():
    g = np.random.default_rng(0)
    return [
        plain("input", 2, 6, 6),
        conv(even(g, 4, 2, 3, 3), (4, 6, 6), cuba(30), padding=1),
        plain("flatten", 144, 1, 1),
        dense(even(g, 8, 144), cuba(60), delay=g.integers(0, 4, 8)),
        plain("average", 4),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("netx")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_net(folder / "net.net", layers(), STEPS)
        x = spikes(np.random.default_rng(1), 5, STEPS, 2, 6, 6, rate=0.4)
        np.savez("data.npz", x=x, y=np.arange(5) % 4)
        answer = snn("-q", "export", "net.net", "--data", "data.npz", "--no-lava", "--json")
        assert answer.status == 0, answer.err
    return folder, answer.json, x


def test_export_says_what_the_file_means_and_claims_no_float_network(exported):
    _, out, _ = exported
    assert out["manifest"]["source"]["kind"] == "lava-dl .net"
    assert out["manifest"]["steps"] == STEPS
    assert out["verification"]["quantize"]["float_accuracy"] is None
    meanings = [(row["what"], row["value"]) for row in out["manifest"]["ledger"]]
    assert ("input", "spikes, 0 or 1") in meanings
    assert any("v > vThMant << 6" in value for _, value in meanings)


def test_the_outputs_are_the_averages_of_the_last_spikes(exported, monkeypatch):
    folder, _, x = exported
    monkeypatch.chdir(folder)
    assert snn("-q", "run", "net.snn", "--data", "data.npz", "--output", "out.npz").status == 0
    with np.load("out.npz") as found:
        logits = found["logits"]
    for k in range(len(x)):
        last = replay(layers()[:-1], x[k])[3][0]
        assert np.allclose(logits[k], last.reshape(STEPS, 4, 2).mean(axis=2).sum(axis=0))
        assert last.any()


def test_a_bundle_is_verified_against_its_file_and_no_other(exported, monkeypatch):
    folder, _, _ = exported
    monkeypatch.chdir(folder)
    answer = snn("-q", "verify", "net.snn", "--data", "data.npz", "--against", "net.net", "--backend", "reference")
    assert answer.status == 0, answer.err
    write_net(folder / "other.net", layers(), STEPS)
    with h5py.File(folder / "other.net", "r+") as file:
        file["layer/3/weight"][0, 0] += 2
    answer = snn("-q", "verify", "net.snn", "--data", "data.npz", "--against", "other.net", "--backend", "reference")
    assert answer.status == 1
    assert "error[SNN040]: net.snn was not made from other.net: 'layer3_synapse" in answer.err
    write_net(folder / "third.net", [dense(even(np.random.default_rng(2), 3, 5), cuba())], STEPS)
    answer = snn("-q", "verify", "net.snn", "--data", "data.npz", "--against", "third.net")
    assert answer.status == 1
    assert "error[SNN040]: net.snn was not made from third.net" in answer.err


def test_inspect_shows_the_integers_and_has_no_earlier_stage(exported, monkeypatch):
    folder, _, _ = exported
    monkeypatch.chdir(folder)
    assert "%layer3 = int_neuron" in snn("-q", "inspect", "net.net").out
    assert "[file] start of a sample" in snn("-q", "inspect", "net.net", "--ledger").out
    answer = snn("-q", "inspect", "net.net", "--stage", "captured")
    assert answer.status == 1
    assert "error[SNN037]: net.net holds integers" in answer.err


def test_check_lists_every_layer_that_is_in_the_way(exported, monkeypatch):
    folder, _, _ = exported
    monkeypatch.chdir(folder)
    assert "nothing is in the way" in snn("-q", "check", "net.net").out
    odd = layers()
    odd[1]["neuron"]["type"], odd[3]["neuron"]["refDelay"] = b"SDNN", 2
    write_net(folder / "odd.net", odd, STEPS)
    answer = snn("-q", "check", "odd.net", "--json")
    assert answer.status == 1
    assert [d["message"].split(":")[0] for d in answer.json["diagnostics"]] == [
        "'layer/1/neuron/type' is SDNN", "'layer/3/neuron/refDelay' is 2",
    ]  # fmt: skip


def test_two_exports_are_the_same_bytes(exported, monkeypatch):
    folder, _, _ = exported
    monkeypatch.chdir(folder)
    for name in ("a.zip", "b.zip"):
        assert snn("-q", "export", "net.net", "--no-lava", "-o", name).status == 0
    assert (folder / "a.zip").read_bytes() == (folder / "b.zip").read_bytes()


def test_pooling_sums_each_window(tmp_path, monkeypatch):
    """netx runs no pooling; lava-dl's is a weighted sum over the window of one channel, here by a dense layer of the same sums."""
    monkeypatch.chdir(tmp_path)
    weight = np.full((1, 1, 2, 2), 20)
    same = np.zeros((8, 32), dtype=int)
    for c, y, x in np.ndindex(2, 4, 4):
        same[c * 4 + y // 2 * 2 + x // 2, c * 16 + y * 4 + x] = 20
    write_net(tmp_path / "pool.net", [plain("input", 2, 4, 4), pool(weight, (2, 2, 2), cuba(30))], STEPS)
    write_net(tmp_path / "dense.net", [plain("input", 2, 4, 4), plain("flatten", 32, 1, 1), dense(same, cuba(30))], STEPS)
    np.savez("data.npz", x=spikes(np.random.default_rng(3), 4, STEPS, 2, 4, 4))
    outputs = []
    for name in ("pool", "dense"):
        assert snn("-q", "export", f"{name}.net", "--no-lava").status == 0
        assert snn("-q", "run", f"{name}.snn", "--data", "data.npz", "--output", f"{name}.npz").status == 0
        with np.load(f"{name}.npz") as found:
            outputs.append(found["logits"].reshape(4, -1))
    assert np.array_equal(*outputs)
    assert outputs[0].any()

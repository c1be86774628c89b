"""Checkpoints: what is written is what is read, without running code, and every mistake is named."""

from __future__ import annotations

import pytest
import torch

from snncompile.errors import CompileError
from snncompile.online import Checkpoint, build_network, is_checkpoint, load_checkpoint, save_checkpoint
from snncompile.online.rule import direct_coding, summed_logits

ARGS = {"config": [2, "A", 3], "in_channels": 1, "num_classes": 4, "input_size": [4, 4], "mean": [0.1], "std": [0.3]}


@pytest.fixture
def checkpoint():
    torch.manual_seed(0)
    return Checkpoint(
        arch="ottt_vgg",
        arch_args=ARGS,
        method="OTTT_A",
        steps=6,
        input={"shape": [1, 4, 4], "layout": "step", "dtype": "uint8", "low": 0, "high": 255},
        readout="sum",
        classes=4,
        training={"dataset": "none", "epochs": 0},
        state_dict=build_network("ottt_vgg", **ARGS).state_dict(),
    )


@pytest.fixture
def saved(checkpoint, tmp_path):
    path = tmp_path / "model.pt"
    save_checkpoint(path, checkpoint)
    return path


def change(path, **changes):
    content = torch.load(path, weights_only=True) | changes
    torch.save({key: value for key, value in content.items() if value is not None}, path)


def code_and_text(path):
    with pytest.raises(CompileError) as caught:
        load_checkpoint(path).build()
    return caught.value.code, str(caught.value)


def test_a_checkpoint_survives_the_round_trip_and_computes_the_same(checkpoint, saved):
    loaded = load_checkpoint(saved)
    for name in ("arch", "arch_args", "method", "steps", "input", "readout", "classes", "training"):
        assert getattr(loaded, name) == getattr(checkpoint, name)
    net = loaded.build()
    assert not net.training
    x = torch.randint(0, 256, (3, 1, 4, 4)).float()
    assert torch.equal(summed_logits(net, direct_coding(x, 6)), summed_logits(checkpoint.build(), direct_coding(x, 6)))


def test_the_file_is_a_plain_dictionary_that_loads_without_running_code(saved):
    content = torch.load(saved, weights_only=True)
    assert is_checkpoint(content)
    assert list(content) == [
        "format", "version", "arch", "arch_args", "method", "steps", "input", "readout", "classes", "training", "state_dict",
    ]  # fmt: skip
    assert (content["format"], content["version"]) == ("snncompile-checkpoint", 1)
    assert all(tensor.is_contiguous() and tensor.device.type == "cpu" for tensor in content["state_dict"].values())


def test_other_objects_are_not_taken_for_checkpoints():
    assert not is_checkpoint({"state_dict": {}})
    assert not is_checkpoint([1, 2])
    assert not is_checkpoint(torch.nn.Linear(1, 1))


def test_saving_replaces_the_file_whole_and_leaves_nothing_beside_it(checkpoint, saved):
    save_checkpoint(saved, checkpoint)
    assert [path.name for path in saved.parent.iterdir()] == ["model.pt"]


def test_a_failed_save_keeps_the_old_file_and_leaves_nothing_beside_it(checkpoint, saved, monkeypatch):
    before = saved.read_bytes()

    def full_disk(content, file):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(saved, checkpoint)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["model.pt"]


def test_a_missing_file_is_named(tmp_path):
    code, text = code_and_text(tmp_path / "absent.pt")
    assert code == "SNN710"
    assert "absent.pt" in text


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 a broken archive"], ids=["empty", "text", "zip"])
def test_a_file_that_is_no_pytorch_file_is_refused(tmp_path, content):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    assert code_and_text(path)[0] == "SNN710"


def test_a_pickled_module_is_refused_and_not_run(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(torch.nn.Linear(2, 2), path)
    assert code_and_text(path)[0] == "SNN710"


def test_a_bare_state_dict_is_refused_with_the_way_out(checkpoint, tmp_path):
    path = tmp_path / "model.pt"
    torch.save(checkpoint.state_dict, path)
    code, text = code_and_text(path)
    assert code == "SNN711"
    assert "--arch package.module:factory" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "is of version 2, this release reads version 1"),
        ({"steps": None}, "steps: missing"),
        ({"steps": "six"}, "steps: str instead of int"),
        ({"steps": True}, "steps: bool instead of int"),
        ({"steps": 0}, "steps: 0, must be at least 1"),
        ({"training": None, "readout": None}, "readout: missing\n  note: training: missing"),
        ({"readout": "median"}, "readout: 'median', this release knows sum and mean"),
        ({"state_dict": {"a": 1}}, "holds something other than tensors"),
    ],
)
def test_an_incomplete_checkpoint_is_refused_field_by_field(saved, changes, message):
    change(saved, **changes)
    code, text = code_and_text(saved)
    assert code == "SNN711"
    assert message in text


def test_an_unknown_architecture_is_refused_with_the_nearest_name(saved):
    change(saved, arch="otttvgg")
    code, text = code_and_text(saved)
    assert code == "SNN701"
    assert "did you mean ottt_vgg" in text


def test_an_unknown_architecture_argument_is_refused(saved):
    change(saved, arch_args=ARGS | {"depth": 3})
    assert code_and_text(saved)[0] == "SNN702"


def test_weights_that_do_not_fit_are_listed_one_by_one(saved):
    state = torch.load(saved, weights_only=True)["state_dict"]
    state["features.9.conv.weight"] = state.pop("features.2.conv.weight")
    state["classifier.bias"] = torch.zeros(5)
    change(saved, state_dict=state)
    code, text = code_and_text(saved)
    assert code == "SNN712"
    assert "missing: features.2.conv.weight [3, 2, 3, 3]" in text
    assert "unexpected: features.9.conv.weight [3, 2, 3, 3]" in text
    assert "wrong shape: classifier.bias is [5], the network needs [4]" in text

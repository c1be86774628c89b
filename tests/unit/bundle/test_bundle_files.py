"""Bundles: packed tensors, round trip, atomic writing, tampering."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

sys.path.append(str(Path(__file__).parents[1] / "cli"))
sys.path.append(str(Path(__file__).parents[1] / "backends" / "lava"))

from tensor_files import put, write
from test_lava_bits import guest_module
from user_project import user_folder

from snncompile import pipeline
from snncompile.backends.bundle import Bundle, draft, files, is_bundle, open_draft, read_bundle, tensors, write_bundle
from snncompile.capture.load import load_model
from snncompile.errors import CompileError
from snncompile.ir.graph import LONGEST_NAME
from snncompile.ir.text import to_text


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = user_folder(tmp_path_factory.mktemp("user"))
    loaded = load_model(folder / "weights.pt", arch=f"{folder}/net.py:Tiny", input_shape=(1, 4, 4), steps=4)
    return pipeline.compile(loaded.model, input_shape=(1, 4, 4), steps=4, input_range=(0.0, 1.0, 0.0), name="tiny")


@pytest.fixture
def bundle(compiled, tmp_path):
    return write_bundle(tmp_path / "net.snn", compiled, source={"file": "weights.pt"})


def code(function, *arguments) -> str:
    with pytest.raises(CompileError) as caught:
        function(*arguments)
    return caught.value.code


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 15), st.integers(-9, 9), st.integers(1, 7), st.integers(64, 200), st.integers(0, 2**32 - 1))
def test_packing_keeps_every_value(levels, offset, step, size, seed):
    array = offset + step * np.random.default_rng(seed).integers(0, levels + 1, (size, 2))
    packed = tensors.pack(array)
    assert packed is not None
    assert int(packed["bits"]) <= 4
    np.testing.assert_array_equal(tensors.unpack(packed), array)


@pytest.mark.parametrize(
    ("values", "stored"), [([-1, 1], "packed 1 bit"), ([-1, 0, 1], "packed 2 bit"), (list(range(-7, 8)), "packed 4 bit")]
)
def test_few_levels_take_few_bits(tmp_path, values, stored):
    array = np.resize(np.array(values, np.int8), (30, 3, 3, 3))
    assert write(tmp_path / "w.npy", array) == stored
    bits = int(stored.split()[1])
    assert (tmp_path / "w.npy").stat().st_size <= array.size * bits / 8 + 400
    np.testing.assert_array_equal(tensors.load(tmp_path, "w.npy"), array)


@pytest.mark.parametrize(
    "array", [np.arange(300) - 150, np.array(2.5), np.array([0.1, 0.2]), np.array([0.5]), np.arange(0), np.array(True)]
)
def test_stored_tensors_come_back(tmp_path, array):
    write(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(tensors.load(tmp_path, "a.npy").astype(array.dtype), array)


def test_a_record_that_contradicts_itself_is_refused():
    packed = tensors.pack(np.resize([0, 1], 64))
    packed["shape"] = 1 << 20
    with pytest.raises(ValueError, match="cannot hold"):
        tensors.unpack(packed)


@pytest.mark.parametrize("name", ["net.snn", "net.zip"])
def test_what_is_read_is_what_was_written(compiled, tmp_path, name):
    found = read_bundle(write_bundle(tmp_path / name, compiled))
    assert isinstance(found, Bundle)
    text, arrays = to_text(found.graph)
    original, originals = to_text(compiled.result.graph)
    assert text == original
    assert all(np.array_equal(arrays[k], originals[k]) and arrays[k].dtype == originals[k].dtype for k in originals)
    assert found.schedule == compiled.schedule
    assert found.populations == compiled.result.populations
    assert (found.plan_folder / "plan.json").is_file()
    assert (found.plan_folder / "run.py").is_file()


def test_small_tensors_share_one_archive(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert [n for n in manifest["files"] if n.startswith("tensors/")] == ["tensors/small.npz"]
    assert {row["file"].partition("#")[0] for row in manifest["tensors"].values()} == {"small.npz"}
    with np.load(bundle / "tensors" / "small.npz") as archive:
        assert archive["fc1.weight"].shape == tuple(manifest["tensors"]["fc1.weight"]["shape"])


def altered(path, at, raw):
    """An archive of one entry 'a' with other bytes at a place of its row in the directory."""
    np.savez(path, a=np.arange(3))
    data = bytearray(path.read_bytes())
    start = data.rindex(b"PK\1\2") + at
    data[start : start + len(raw)] = raw
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: np.savez_compressed(f, a=np.arange(3)), "is compressed or larger than 4096 bytes"),
        (lambda f: np.savez(f, a=np.arange(2000)), "is compressed or larger than 4096 bytes"),
        (lambda f: np.savez(f, b=np.arange(3)), "no item named 'a.npy'"),
        (lambda f: f.write_bytes(b"PK and no more"), "not a zip file"),
        (lambda f: altered(f, 8, b"\1\0"), "is encrypted"),
        (lambda f: altered(f, 10, b"\x63\0"), "compressed"),
        (lambda f: altered(f, 20, bytes(8)), "cannot be read"),
        (lambda f: altered(f, 42, b"\xff\xff\xff\x7f"), "cannot be read|Invalid argument"),
        (lambda f: np.savez(f, a=np.array([{}], dtype=object)), "allow_pickle"),
    ],
)
def test_an_odd_archive_is_refused(tmp_path, make, message):
    make(tmp_path / "small.npz")
    with pytest.raises(ValueError, match=message):
        tensors.load(tmp_path, "small.npz#a")
    with pytest.raises(ValueError, match=message.replace("4096", "5120")):
        guest_module("packed").small(tmp_path / "small.npz", "a")


def test_nothing_is_stored_twice(bundle):
    plan = json.loads((bundle / "lava" / "plan.json").read_text())
    named = [p["weight"] for row in plan["populations"] for p in row["ports"]]
    assert all((bundle / "lava" / n).resolve().parent == (bundle / "tensors").resolve() for n in named)
    assert not list((bundle / "lava").rglob("*.np?"))


def test_a_bundle_holds_no_path_of_this_machine(bundle, tmp_path):
    for path in bundle.rglob("*"):
        if path.is_file():
            assert str(Path.home()).encode() + b"/" not in path.read_bytes() or path.suffix == ".py"
            assert str(tmp_path).encode() not in path.read_bytes()


def test_an_unpacked_folder_of_a_zip_goes_with_its_object(compiled, tmp_path):
    found = read_bundle(write_bundle(tmp_path / "net.zip", compiled))
    folder = found.folder
    assert folder.is_dir()
    del found
    assert not folder.exists()


def test_an_older_bundle_is_replaced_and_other_things_are_not(compiled, bundle, tmp_path):
    write_bundle(bundle, compiled)
    assert is_bundle(bundle)
    (tmp_path / "notes").mkdir()
    write_bundle(tmp_path / "notes", compiled)  # an empty folder may become one
    shutil.rmtree(tmp_path / "notes")
    (tmp_path / "notes").write_text("precious")
    assert code(write_bundle, tmp_path / "notes", compiled) == "SNN031"
    assert (tmp_path / "notes").read_text() == "precious"


def test_a_failure_leaves_the_old_bundle_and_nothing_else(compiled, bundle, tmp_path, monkeypatch):
    before = {p: p.read_bytes() for p in bundle.rglob("*") if p.is_file()}

    def interrupted():
        with open_draft(bundle) as begun:
            begun.fill(compiled)
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        interrupted()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(draft, "put", full)
    assert code(write_bundle, bundle, compiled) == "SNN030"
    assert {p: p.read_bytes() for p in bundle.rglob("*") if p.is_file()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["net.snn"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_an_error(compiled, tmp_path):
    tmp_path.chmod(0o500)
    assert code(write_bundle, tmp_path / "net.snn", compiled) == "SNN030"
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda b: (b / "graph.txt").write_text("graph"), "graph.txt"),
        (lambda b: (b / "graph.txt").unlink(), "graph.txt"),
        (lambda b: (b / "lava" / "run.py").write_text("import os"), "lava/run.py"),
        (lambda b: (b / "extra.bin").touch(), "extra.bin"),
        (lambda b: (b / "manifest.json").write_text("{"), "manifest.json"),
        (lambda b: (b / "tensors" / "small.npz").write_bytes(b"PK"), "tensors/small.npz"),
    ],
)
def test_damage_is_found_and_named(bundle, damage, named):
    damage(bundle)
    with pytest.raises(CompileError, match=rf"SNN033.*{named}"):
        read_bundle(bundle)


def test_a_manifest_with_matching_hashes_is_still_checked(bundle):
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["schedule"]
    path.write_text(json.dumps(manifest))
    assert code(read_bundle, bundle) == "SNN033"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": 5}, "its steps are not those of graph.txt"),
        ({"inputs": []}, "its inputs are not those of graph.txt"),
        ({"outputs": {"out": "elsewhere"}}, "its outputs are not those of graph.txt"),
        ({"populations": []}, "its populations are not those of graph.txt"),
        ({"readout": "median"}, "readout is 'median', not one of sum, mean, last"),
    ],
)
def test_a_manifest_that_contradicts_its_program_is_refused(bundle, change, said):
    path = bundle / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CompileError, match=re.escape(said)) as caught:
        read_bundle(bundle)
    assert caught.value.code == "SNN033"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tensors", 0.5, "holds values that are no int8"),
        ("tensors", 300, "holds values that are no int8"),
        ("graph.txt", None, "is no UTF-8"),
    ],
)
def test_files_with_right_hashes_and_wrong_content_are_refused(bundle, name, content, said):
    manifest = json.loads((bundle / "manifest.json").read_text())
    if name == "tensors":
        row = next(row for row in manifest["tensors"].values() if row["dtype"] == "int8")
        put(bundle, row["file"], np.full(row["shape"], content))
    else:
        (bundle / name).write_bytes(b"\xff\xfe")
        manifest["files"][name] = files.digest(bundle / name)
        (bundle / "manifest.json").write_text(files.to_json(manifest))
    with pytest.raises(CompileError, match=said) as caught:
        read_bundle(bundle)
    assert caught.value.code == "SNN033"


def test_a_truncated_zip_is_damaged(compiled, tmp_path):
    path = write_bundle(tmp_path / "net.zip", compiled)
    path.write_bytes(path.read_bytes()[:-300])
    assert code(read_bundle, path) == "SNN033"


@pytest.mark.parametrize("name", ["/etc/evil", "../evil", "a/../../evil", "..\\evil", "C:\\evil"])
def test_paths_that_leave_the_bundle_are_refused(bundle, tmp_path, name):
    files.write_zip(bundle, tmp_path / "evil.zip")
    with zipfile.ZipFile(tmp_path / "evil.zip", "a") as archive:
        archive.writestr(name, "gotcha")
    assert code(read_bundle, tmp_path / "evil.zip") == "SNN035"


def test_a_zip_bomb_is_not_unpacked(bundle, tmp_path):
    files.write_zip(bundle, tmp_path / "bomb.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.bin", b"\0" * 10_000_000)
    with pytest.raises(CompileError, match=r"bomb\.bin is not listed"):
        read_bundle(tmp_path / "bomb.zip")


def test_a_link_in_a_bundle_is_refused(bundle, tmp_path):
    target = bundle / "graph.txt"
    shutil.move(target, tmp_path / "outside.txt")
    target.symlink_to(tmp_path / "outside.txt")
    with pytest.raises(CompileError, match=r"graph\.txt is a link"):
        read_bundle(bundle)


class Spike(torch.nn.Module):
    """Integrate and fire."""

    def __init__(self):
        super().__init__()
        self.v = 0.0

    def forward(self, x):
        """One step."""
        self.v = self.v / 2 + x
        fired = (self.v >= 1).float()
        self.v = self.v - fired
        return fired


@pytest.mark.parametrize(
    "names",
    [
        ("слой~1", "нейрон#1", "層", "ニューロン"),
        ("a" * 400, "a" * 401, "出" * 300, "出" * 301),
        ("fc", "N", "Fc", "n"),
        ("CON", "a b", "a_b", ",;"),
    ],
    ids=["of other scripts", "long", "the same but for their case", "odd"],
)
def test_layers_may_have_any_names(tmp_path, names):
    made = (torch.nn.Linear(6, 6), Spike(), torch.nn.Linear(6, 6), Spike())
    model = torch.nn.Sequential(OrderedDict(zip(names, made, strict=True))).eval()
    found = read_bundle(write_bundle(tmp_path / "net.zip", pipeline.compile(model, input_shape=(6,), steps=3, input_range=(0.0, 1.0, 0.0))))
    populations = [p.name for p in found.populations]
    assert [p.name for p in guest_module("plan").load_plan(found.plan_folder).populations] == populations
    assert len(set(populations)) == 2
    assert all(len(name.encode()) <= LONGEST_NAME + 2 for name in found.graph.by_name)

"""HDF5 files are read in a process of their own: whole ones as they are, others with an error in seconds, whatever the library does."""

from __future__ import annotations

import time

import h5py
import numpy as np
import pytest

from snncompile import hdf5
from snncompile.errors import CompileError


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["numbers"] = np.arange(6.0).reshape(2, 3)
        file["deep/whole"] = np.int16(3)
        file["deep/text"] = "a text"
        file["deep/texts"] = np.array([["a", "b"]], dtype=h5py.string_dtype())
        file["deep/fixed"] = np.array([b"xy"], dtype="S4")
        file["deep/table"] = np.zeros(2, dtype=[("a", "f4")])
        file["deep/nothing"] = h5py.Empty("f")
        file["soft"] = h5py.SoftLink("/numbers")
        file["outside"] = h5py.ExternalLink("other.h5", "/w")
        file.create_dataset("large", (2**40,), "i1", chunks=(1024,))
    return tmp_path / "a.h5"


@pytest.fixture
def child(monkeypatch, tmp_path):
    """Another program in the place of the child."""

    def replace(text):
        script = tmp_path / "child.py"
        script.write_text(text)
        monkeypatch.setattr(hdf5, "CHILD", script)
        made = hdf5._Child()
        monkeypatch.setattr(hdf5, "_CHILD", made)
        return made

    return replace


def test_a_whole_file_is_read_as_it_is(path):
    found = hdf5.read(path)
    np.testing.assert_array_equal(found["numbers"], np.arange(6.0).reshape(2, 3))
    deep = found["deep"]
    assert (deep["whole"], deep["whole"].dtype, deep["text"]) == (3, np.int16, "a text")
    assert deep["texts"].tolist() == [["a", "b"]]
    assert deep["fixed"].tolist() == ["xy"]


def test_what_is_not_taken_says_so_and_the_rest_is_read(path):
    found = hdf5.read(path)
    assert (found["soft"], found["outside"]) == (hdf5.Refused("link"), hdf5.Refused("link"))
    assert found["large"] == hdf5.Refused("large", 2**40)
    assert found["deep"]["nothing"] == hdf5.Refused("odd", "nothing")
    assert found["deep"]["table"].why == "odd"


def test_one_process_reads_many_files(path):
    hdf5.read(path)
    first = hdf5._CHILD.process
    started = time.monotonic()
    for _ in range(5):
        hdf5.read(path)
    assert hdf5._CHILD.process is first
    assert time.monotonic() - started < 5
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(hdf5.Unreadable):
        hdf5.read(path)
    assert hdf5._CHILD.process is None, "what a damaged file left behind is not trusted"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os\ninput()\nos.abort()", "crashed on it .SIGABRT."),
        ("import sys\ninput()\nsys.exit(3)", "ended with status 3"),
        ("import resource\ninput()\nresource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass", "did not come to an end with it"),
        ("print('{', end='')", "ended with status 0"),
    ],
)
def test_whatever_happens_there_is_an_error_here(path, child, program, reason):
    made = child(program)
    with pytest.raises(hdf5.Unreadable, match=reason):
        hdf5.read(path)
    assert made.process is None


def test_a_process_that_waits_for_ever_is_ended(path, child, monkeypatch):
    monkeypatch.setattr(hdf5, "WALL_SECONDS", -2)
    made = child("import time\ntime.sleep(1000)")
    started = time.monotonic()
    with pytest.raises(hdf5.Unreadable, match="within 1 seconds"):
        hdf5.read(path)
    assert time.monotonic() - started < 30
    assert made.process is None


@pytest.mark.parametrize(
    ("then", "reason"), [("while True: pass", "did not come to an end"), ("x = bytearray(1 << 32)", r"ended with status 1|crashed")]
)
def test_the_childs_own_limits_hold(path, child, then, reason):
    real = hdf5.CHILD.parent
    child(f"import sys\nsys.path.insert(0, {str(real)!r})\nfrom child import limit\ninput()\nlimit(1, 1 << 31)\n{then}")
    started = time.monotonic()
    with pytest.raises(hdf5.Unreadable, match=reason):
        hdf5.read(path)
    assert time.monotonic() - started < 60


def test_another_kind_of_file_is_no_hdf5(tmp_path):
    (tmp_path / "a.h5").write_text("text")
    with pytest.raises(hdf5.Unreadable, match="does not start like"):
        hdf5.read(tmp_path / "a.h5")
    with pytest.raises(CompileError, match="SNN003"):
        hdf5.read(tmp_path / "none.h5")

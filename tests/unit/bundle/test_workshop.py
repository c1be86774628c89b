"""Bundles change hands whole: nothing is lost when a process is killed, and nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from snncompile.backends.bundle import workshop as shop
from snncompile.backends.bundle.workshop import clear, discard, put, workshop

HOLD = "import sys, time\nfrom pathlib import Path\nfrom snncompile.backends.bundle.workshop import workshop\n"


def folder(path: Path, content: str) -> Path:
    path.mkdir(parents=True)
    (path / "file").write_text(content)
    return path


def holder(target: Path) -> subprocess.Popen[str]:
    """Another process with something half built."""
    script = f"{HOLD}with workshop(Path({str(target)!r})) as room:\n  (room / 'half').touch(); print('there', flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "there\n"
    return child


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("there", [None, "empty", "old"])
def test_a_draft_takes_the_place_of_what_is_there(tmp_path, monkeypatch, exchange, there):
    if not exchange:
        monkeypatch.setattr(shop, "_exchanged", lambda *_: False)
    target = tmp_path / "new" / "net.snn"
    if there == "old":
        folder(target, "old")
    elif there == "empty":
        target.mkdir(parents=True)
    with workshop(target) as room:
        put(folder(room / "bundle", "new"), target)
    assert (target / "file").read_text() == "new"
    assert [p.name for p in target.parent.iterdir()] == ["net.snn"]


def test_on_linux_the_two_places_are_exchanged_in_one_step(tmp_path):
    a, b = folder(tmp_path / "a", "a"), folder(tmp_path / "b", "b")
    if not shop._exchanged(a, b):
        pytest.skip("this file system exchanges no places")
    assert ((a / "file").read_text(), (b / "file").read_text()) == ("b", "a")


def test_what_is_there_stays_if_the_draft_cannot_be_moved(tmp_path, monkeypatch):
    monkeypatch.setattr(shop, "_exchanged", lambda *_: False)
    target = folder(tmp_path / "net.snn", "old")
    with pytest.raises(FileNotFoundError), workshop(target) as room:
        put(room / "missing", target)
    assert (target / "file").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["net.snn"]


def test_what_a_killed_process_left_is_cleared_away_by_the_next_and_that_of_a_living_one_is_not(tmp_path):
    target = tmp_path / "net.snn"
    with holder(target) as child:
        (left,) = tmp_path.iterdir()
        with workshop(target) as room:
            assert sorted(tmp_path.iterdir()) == sorted([left, room])
        child.kill()
    assert list(tmp_path.iterdir()) == [left]
    with workshop(tmp_path / "other.snn"):
        assert left.exists()  # of another destination
    with workshop(target) as room:
        assert list(tmp_path.iterdir()) == [room]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", [True, False])
def test_a_bundle_that_was_put_aside_by_a_killed_process_comes_back(tmp_path, there):
    target = tmp_path / "net.snn"
    folder(tmp_path / ".net.snn.tmp-dead" / "old", "old")
    if there:
        folder(target, "new")
    clear(target)
    assert (target / "file").read_text() == ("new" if there else "old")
    assert [p.name for p in tmp_path.iterdir()] == ["net.snn"]


def test_a_discarded_bundle_is_gone(tmp_path):
    discard(folder(tmp_path / "net.snn", "old"))
    (tmp_path / "net.zip").write_text("old")
    discard(tmp_path / "net.zip")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_files_change_hands_takes_effect_afterwards(tmp_path, number):
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom snncompile.signals import as_exceptions, postponed, Terminated\n"
        "try:\n  with as_exceptions():\n    with postponed():\n"
        f"      os.kill(os.getpid(), {int(number)}); Path(sys.argv[1]).write_text('whole')\n    print('too far')\n"
        "except (KeyboardInterrupt, Terminated) as e: print(type(e).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "file")], capture_output=True, text=True, check=True)
    assert done.stdout == ("KeyboardInterrupt\n" if number == signal.SIGINT else "Terminated\n")
    assert (tmp_path / "file").read_text() == "whole"


def test_two_processes_can_work_on_one_destination(tmp_path):
    target = tmp_path / "net.snn"
    script = (
        f"{HOLD}from snncompile.backends.bundle.workshop import put\nfor _ in range(150):\n"
        "  with workshop(Path(sys.argv[1])) as room:\n    (room / 'bundle').mkdir(); (room / 'bundle' / 'file').touch()\n"
        "    put(room / 'bundle', Path(sys.argv[1]))"
    )
    both = [subprocess.Popen([sys.executable, "-c", script, str(target)], env=os.environ) for _ in range(2)]
    assert [child.wait(60) for child in both] == [0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["net.snn"]

"""One guest interpreter per session, and proof after every test that nothing was left behind."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from snncompile.backends.lava import supervisor
from snncompile.backends.lava.interpreter import find_interpreter
from snncompile.backends.lava.reaper import TOKEN
from snncompile.errors import CompileError


@pytest.fixture(scope="session")
def guest():
    """The interpreter; built once and cached between sessions. Skipped only where the machine has neither Lava nor network."""
    try:
        return find_interpreter()
    except CompileError as error:
        if error.code == "SNN502" and not os.environ.get("CI"):
            pytest.skip(f"no Lava guest here: {error}")
        raise


def guests():
    """Living processes of guest runs, ours or anybody's: {process id: token}."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            rows = (folder / "environ").read_bytes().split(b"\0")
            found |= {int(folder.name): r.decode().split("=")[1] for r in rows if r.startswith(TOKEN.encode() + b"=")}
        except OSError:
            continue
    return found


def folders():
    return set(Path(tempfile.gettempdir()).glob("snnlava-*"))


def segments():
    return {p.name for pattern in ("psm_*", "sem.mp*") for p in Path("/dev/shm").glob(pattern)}


@pytest.fixture
def clean(monkeypatch):
    """Fail the test when a process, a shared memory segment or a temporary folder of its runs outlives it."""
    tokens = []
    make = supervisor.secrets.token_hex
    monkeypatch.setattr(supervisor.secrets, "token_hex", lambda n: tokens.append(make(n)) or tokens[-1])
    before = segments(), folders()
    yield tokens
    for _ in range(100):  # the kernel needs a moment to reap what was killed from outside
        mine = [pid for pid, token in guests().items() if token in tokens]
        if not mine:
            break
        time.sleep(0.05)
    assert not mine, f"processes left behind: {mine}"
    left = {name for name in segments() - before[0] if any(token in name for token in tokens)}
    assert not left, f"shared memory left behind: {left}"
    for _ in range(400):  # another process's run may just be beginning or ending: its marks and its segments come one after the other
        if others_running(tokens) or (segments() <= before[0] and folders() <= before[1]):
            return
        time.sleep(0.05)
    assert segments() <= before[0], "unmarked shared memory left behind"
    assert folders() <= before[1], "temporary folders left behind"


def others_running(tokens):
    """True while a Lava run of somebody else is going on, whose segments and folders come and go."""
    return any(token not in tokens for token in guests().values())

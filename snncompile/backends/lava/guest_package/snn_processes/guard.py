"""Leave nothing behind: no process, no shared memory, whatever dies first.

Forked children are killed by the kernel when the runner dies (Linux). The runner itself ends when its supervisor does. Shared memory
and semaphores carry the run's token in their name, so that whoever outlives the run knows which ones to remove.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import secrets
import shutil
import signal
import sys
import time
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PARENT_SECONDS = 3.0
TOKEN_VARIABLE = "SNNCOMPILE_LAVA_RUN"  # noqa: S105 - a name, not a secret
PARENT_VARIABLE = "SNNCOMPILE_LAVA_PARENT"
SCRATCH_VARIABLE = "SNNCOMPILE_LAVA_SCRATCH"


def run_token() -> str:
    """Return the 8 hexadecimal digits that mark this run, given by the supervisor or made here."""
    token = os.environ.get(TOKEN_VARIABLE, "")
    return token if len(token) == 8 and token.isalnum() else secrets.token_hex(4)


def mark_shared_memory(token: str) -> None:
    """Let every segment and semaphore created from here on carry the token: /dev/shm/psm_<token>_*, /dev/shm/sem.mp<token>-*."""
    module: Any = shared_memory
    if sys.platform == "linux" and hasattr(module, "_SHM_NAME_PREFIX") and hasattr(module, "_SHM_SAFE_NAME_LENGTH"):
        module._SHM_NAME_PREFIX = f"/psm_{token}_"
        module._SHM_SAFE_NAME_LENGTH = len(module._SHM_NAME_PREFIX) + 8
        config: Any = multiprocessing.current_process()
        config._config["semprefix"] = f"/mp{token}"


def die_with_parent(sig: int) -> None:
    """Ask the kernel to send ``sig`` to this process when its parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(sig), 0, 0, 0)


def protect_children() -> None:
    """Make every process forked from here on die with the runner and leave Ctrl-C to it."""
    runner = os.getpid()

    def in_child() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if os.getppid() == runner:
            die_with_parent(signal.SIGKILL)

    os.register_at_fork(after_in_child=in_child)


def supervisor() -> int:
    """Return the process id of the supervisor that started this run, or 0."""
    value = os.environ.get(PARENT_VARIABLE, "")
    return int(value) if value.isdigit() else 0


def follow_supervisor() -> bool:
    """End when the supervisor does; return False when it is gone already."""
    die_with_parent(signal.SIGTERM)
    return os.getppid() == supervisor()


def remove_scratch(own: Path) -> None:
    """Remove the runner's temporary folder, and the supervisor's when that cannot do it any more."""
    shutil.rmtree(own, ignore_errors=True)
    left = os.environ.get(SCRATCH_VARIABLE)
    if left and os.getppid() != supervisor():
        shutil.rmtree(left, ignore_errors=True)


def on_terminate(token: str, scratch: Path) -> None:
    """On SIGTERM (``kill``, or the supervisor's end) clean up and exit."""

    def handler(_signal: int, _frame: Any) -> None:
        kill_everything(token)
        # The signal comes when the supervisor's main thread dies; the process counts as our parent until its last thread has.
        deadline = time.monotonic() + PARENT_SECONDS
        while os.getppid() == supervisor() and time.monotonic() < deadline:
            time.sleep(0.01)
        remove_scratch(scratch)
        os._exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, handler)


def kill_everything(token: str) -> None:
    """Kill all children of the runner and remove the run's shared memory. Never raises."""
    for child in multiprocessing.active_children():
        child.kill()
    tracker = getattr(getattr(resource_tracker, "_resource_tracker", None), "_pid", None)
    if tracker:
        with contextlib.suppress(OSError):
            os.kill(tracker, signal.SIGKILL)
    for pattern in (f"psm_{token}_*", f"sem.mp{token}-*"):
        for path in Path("/dev/shm").glob(pattern):  # noqa: S108 - the kernel's own folder
            path.unlink(missing_ok=True)

"""Make sure that nothing of a guest run stays behind: processes, shared memory, semaphores.

Every process of a run carries the run's token in its environment, whatever session or parent it has by now, and every shared memory
segment carries it in its name. So other Lava runs on the same machine are never touched.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

TOKEN = "SNNCOMPILE_LAVA_RUN"  # noqa: S105 - the name of a variable, not a secret
KILL_SECONDS = 10.0


def processes_of(token: str) -> list[int]:
    """Return the living processes of this run (Linux; elsewhere the process group has to do). Zombies do not count."""
    if sys.platform != "linux":
        return []
    mark = f"{TOKEN}={token}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def kill_run(token: str, group: int | None) -> list[int]:
    """Kill the run's process group and every other process that carries its token; return those that would not die."""
    deadline = time.monotonic() + KILL_SECONDS
    if group is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    while (alive := processes_of(token)) and time.monotonic() < deadline:
        for pid in alive:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    return alive


def shared_memory_of(token: str) -> list[Path]:
    """Return what this run has in /dev/shm: segments psm_<token>_*, semaphores sem.mp<token>-*."""
    folder = Path("/dev/shm")  # noqa: S108 - the kernel's own folder
    return sorted([*folder.glob(f"psm_{token}_*"), *folder.glob(f"sem.mp{token}-*")])


def remove_shared_memory(token: str) -> None:
    """Unlink every segment and semaphore of this run."""
    for path in shared_memory_of(token):
        path.unlink(missing_ok=True)

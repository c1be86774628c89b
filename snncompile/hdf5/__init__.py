"""HDF5 files of unknown origin, read in a process of their own.

A damaged file can send the HDF5 library in circles, make it take all memory, or crash it. So it runs in a child with limits on time
and memory; what comes back is plain: names, numbers, texts. Nothing that a file holds is ever unpickled, and no file but it is opened.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snncompile.errors import fail

MAGIC = b"\x89HDF\r\n\x1a\n"
CHILD = Path(__file__).with_name("child.py")
ROOM, GROWTH = 256 << 20, 64
"""What a file may hold, in bytes: 256 MiB, and 64 times its size (it may be compressed)."""
CPU_SECONDS, WALL_SECONDS, BYTES_PER_SECOND = 3, 60, 20_000_000


class Unreadable(Exception):  # noqa: N818 - the callers' errors name it
    """The file as a whole cannot be read; the message says why."""


@dataclass(frozen=True)
class Refused:
    """A place whose value is not taken: ``link``, ``elsewhere`` (data in another file), ``deep``, ``large``, ``unreadable``, ``odd``."""

    why: str
    detail: Any = None


Value = npt.NDArray[Any] | np.generic | str | Refused
Tree = Mapping[str, Any]
"""By name: a ``Value`` or a ``Tree``. Several texts are an array of str objects; what is neither numbers nor text is ``Refused("odd")``."""


def is_hdf5(path: Path) -> bool:
    """Whether a file starts as HDF5 files do; raises OSError."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read(path: Path) -> Tree:
    """Everything in a file, by name; raises Unreadable, and CompileError SNN003."""
    try:
        if not is_hdf5(path):
            raise Unreadable("it does not start like an HDF5 file")
        size = path.stat().st_size
    except OSError as e:
        raise fail("SNN003", f"cannot read {path}: {e.strerror or e}") from e
    largest, seconds = ROOM + GROWTH * size, CPU_SECONDS + size // BYTES_PER_SECOND
    with tempfile.TemporaryDirectory(prefix="snncompile-") as scratch:
        kept = Path(scratch) / "arrays"
        request = {"path": str(path.absolute()), "arrays": str(kept), "largest": largest, "seconds": seconds}
        tree = _CHILD.ask({**request, "memory": (2 << 30) + 3 * largest}, seconds)
        if "refused" in tree:
            raise Unreadable("it needs more memory than its size allows" if tree["refused"] == "memory" else str(tree["detail"]))
        with kept.open("rb") as file:
            arrays = [np.lib.format.read_array(file, allow_pickle=False) for _ in range(_count(tree))]
    found: Tree = _tree(tree, arrays)
    return found


class _Child:
    """The process that reads. It serves file after file, for starting it takes most of the time, and is replaced after a bad one."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = os.getpid()
        self.lock = threading.Lock()
        atexit.register(self.end)

    def ask(self, request: Mapping[str, Any], seconds: int) -> dict[str, Any]:
        """The answer's tree; raises Unreadable if there is none."""
        with self.lock:
            if self.owner != os.getpid():  # a fork has none of its own yet
                self.process, self.owner = None, os.getpid()
            process = self.process = self.process if self.process is not None and self.process.poll() is None else self._start()
            assert process.stdin is not None
            assert process.stdout is not None
            wait = WALL_SECONDS + seconds
            clock = threading.Timer(wait, process.kill)
            clock.daemon = True
            clock.start()
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except BrokenPipeError:
                line = b""
            finally:
                clock.cancel()
            if not line.endswith(b"\n"):
                status = process.wait()
                self.end()
                raise Unreadable(_ended(status, seconds, wait))
            tree: dict[str, Any] = json.loads(line)
            if "refused" in tree:
                self.end()
            return tree

    def _start(self) -> subprocess.Popen[bytes]:
        env = {**os.environ, "HDF5_USE_FILE_LOCKING": "FALSE", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-B", str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
        )

    def end(self) -> None:
        """End the process, if there is one."""
        process, self.process = self.process, None
        if process is None or self.owner != os.getpid():
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.kill()
        process.wait()


_CHILD = _Child()


def _ended(status: int, seconds: int, wait: int) -> str:
    if status == -getattr(signal, "SIGXCPU", 24):
        return f"the HDF5 library did not come to an end with it within {seconds} seconds"
    if status == -getattr(signal, "SIGKILL", 9):
        return f"the HDF5 library did not come to an end with it within {wait} seconds, or the machine ran out of memory"
    if status < 0:
        return f"the HDF5 library crashed on it ({signal.Signals(-status).name})"
    return f"reading it ended with status {status}"


def _count(node: Mapping[str, Any]) -> int:
    return sum(_count(v) for v in node["group"].values()) if "group" in node else int("array" in node)


def _tree(node: Mapping[str, Any], arrays: list[npt.NDArray[Any]]) -> Any:
    if "group" in node:
        return {name: _tree(item, arrays) for name, item in node["group"].items()}
    if "array" in node:
        array = arrays[node["array"]]
        return array[()] if node["scalar"] else array
    if "text" in node:
        return node["text"]
    if "texts" in node:
        return np.array(node["texts"], dtype=object)
    return Refused("odd", node["odd"]) if "odd" in node else Refused(node["refused"], node.get("detail"))


__all__ = ["Refused", "Tree", "Unreadable", "is_hdf5", "read"]

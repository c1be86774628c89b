"""Read HDF5 files to their end, in a process of its own (see ``snncompile.hdf5``).

Every line of standard input asks for one file, ``{"path", "arrays", "largest", "seconds", "memory"}``; the answer is a line of JSON on
standard output, and the file ``arrays`` with what ``numpy.save`` writes. A node of the JSON tree is one of

    {"group": {name: node}}   {"array": k, "scalar": bool}   {"text": s}   {"texts": nested lists of s}   {"odd": what it holds}
    {"refused": "link" | "elsewhere" | "deep" | "large" | "unreadable" | "memory", "detail": number or text}
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np

DEEPEST = 32
MOST = 1_000_000
Node = dict[str, Any]


def limit(seconds: int, memory: int) -> None:
    """Let the system end this process when the library runs in circles, or takes memory without end."""
    try:
        import resource  # noqa: PLC0415 - Windows has none: there the parent's clock alone
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    for kind, most in ((resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + seconds), (resource.RLIMIT_AS, memory)):
        with contextlib.suppress(ValueError, OSError):  # macOS knows no limit of memory
            resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))


class Reader:
    """The tree of one file; arrays are put aside."""

    def __init__(self, largest: int) -> None:
        self.left = largest
        self.nodes = 0
        self.arrays: list[Any] = []

    def group(self, group: Any, depth: int) -> Node:
        """Everything in a group."""
        if depth > DEEPEST:
            return {"refused": "deep", "detail": depth}
        found: dict[str, Node] = {}
        for key in group:
            self.nodes += 1
            if self.nodes > MOST:
                return {"refused": "unreadable", "detail": f"it has more than {MOST:,} entries"}
            name = text(key)
            twice = {"refused": "unreadable", "detail": "two names in it are no UTF-8"}
            found[name] = twice if name in found else self.item(group, key, depth)
        return {"group": found}

    def item(self, group: Any, key: str, depth: int) -> Node:
        """One entry of a group."""
        try:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                return {"refused": "link"}
            item = group[key]
            if isinstance(item, h5py.Group):
                return self.group(item, depth + 1)
            return self.dataset(item) if isinstance(item, h5py.Dataset) else {"odd": "a named type"}
        except (MemoryError, RecursionError):
            raise
        except Exception as e:  # whatever the library says of damaged data
            return {"refused": "unreadable", "detail": first_line(e)}

    def dataset(self, item: Any) -> Node:
        """The value of a dataset."""
        if item.external or item.is_virtual:
            return {"refused": "elsewhere"}
        if item.shape is None:
            return {"odd": "nothing"}
        size = item.size * max(1, item.dtype.itemsize)
        if size > self.left:
            return {"refused": "large", "detail": item.size}
        self.left -= size
        value = item[()]
        if isinstance(value, (bytes, str)):
            return {"text": text(value)}
        array = np.asarray(value)
        if array.dtype.kind in "SUO":
            found = texts(array.tolist())
            return {"odd": str(item.dtype)} if found is None else {"texts": found}
        if array.dtype.kind not in "biufc":
            return {"odd": str(array.dtype)}
        self.arrays.append(array)
        return {"array": len(self.arrays) - 1, "scalar": not isinstance(value, np.ndarray)}


def texts(value: object) -> Any:
    """Nested lists of texts; None if anything else is in them."""
    if isinstance(value, list):
        found = [texts(v) for v in value]
        return None if any(f is None for f in found) else found
    return text(value) if isinstance(value, (bytes, str)) else None


def text(value: bytes | str) -> str:
    """As UTF-8; what is none is replaced."""
    raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "replace")


def first_line(e: Exception) -> str:
    """What an error says, in one line."""
    lines = str(e).strip("'\"").splitlines()
    return lines[0].encode("utf-8", "replace").decode() if lines else type(e).__name__


def answer(request: dict[str, Any]) -> Node:
    """The tree of a file; its arrays are written."""
    limit(request["seconds"], request["memory"])
    try:
        with h5py.File(request["path"], "r") as file:
            reader = Reader(request["largest"])
            tree = reader.group(file, 0)
        with Path(request["arrays"]).open("wb") as out:
            for array in reader.arrays:
                np.save(out, array, allow_pickle=False)
    except MemoryError:
        return {"refused": "memory"}
    except Exception as e:  # whatever the library says of damaged data
        return {"refused": "unreadable", "detail": first_line(e)}
    return tree


def main() -> None:
    """Answer until standard input ends."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

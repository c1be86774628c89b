"""Files named on the command line: is there one, and if not, what was probably meant."""

from __future__ import annotations

import difflib
import os
import secrets
import struct
import zipfile
import zlib
from pathlib import Path

from snncompile.errors import fail

BAD_ZIP = (
    OSError, EOFError, KeyError, ValueError, RuntimeError, NotImplementedError, OverflowError, MemoryError, zipfile.BadZipFile, zlib.error,
    struct.error,
)  # fmt: skip
"""What ``zipfile`` raises for damaged archives."""


def check_file(path: Path) -> None:
    """Raise SNN001 (with the nearest names) if there is no such file, SNN002 if it is a folder, SNN003 if it cannot be looked at."""
    try:
        if path.is_file():
            return
        folder, exists = path.is_dir(), path.exists()
        siblings = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else None
    except OSError as e:
        raise fail("SNN003", f"cannot read {path}: {e.strerror}") from e
    if exists:
        inside = sorted(p.name for p in path.iterdir() if p.suffix in (".pt", ".pth", ".ckpt", ".npz")) if folder else []
        way_out = f"name a file in it: {', '.join(str(path / n) for n in inside[:3])}" if inside else None
        raise fail("SNN002", f"{path} is {'a folder' if folder else 'not a regular file'}, expected a file", help=way_out)
    if siblings is None:
        raise fail("SNN001", f"{path} does not exist", notes=[f"there is no folder {path.parent}"])
    near = difflib.get_close_matches(path.name, siblings, n=3, cutoff=0.65)
    way_out = f"did you mean {' or '.join(str(path.parent / n) for n in near)}?" if near else None
    raise fail("SNN001", f"{path} does not exist", help=way_out)


def read(path: Path) -> bytes:
    """All bytes of a file (SNN003)."""
    try:
        return path.read_bytes()
    except OSError as e:
        raise fail("SNN003", f"cannot read {path}: {e.strerror}") from e


def write(path: Path, content: bytes) -> None:
    """A file whole or not at all: whatever was there stays until then (OSError)."""
    draft = path.absolute().with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with draft.open("xb") as file:
            file.write(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


__all__ = ["BAD_ZIP", "check_file", "read", "write"]

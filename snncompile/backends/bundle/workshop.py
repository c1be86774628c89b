"""Where a bundle is built: a hidden folder beside its destination, which vanishes whatever happens.

    .NAME.tmp-XXXX/          locked while its process lives
        bundle/              the draft: no reader takes the folder above it for a bundle
        bundle.zip           its archive, if that was asked for
        old                  what was at the destination, where two places cannot be exchanged at once

A process that was killed leaves such a folder without its lock; the next one that writes to the same destination clears it away.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snncompile.signals import postponed

try:
    import fcntl
except ImportError:  # no such locks here: nothing that was left is cleared away
    fcntl = None  # type: ignore[assignment]

OLD = "old"
TRIES = 3
AT_FDCWD, EXCHANGE = -100, 2
"""Linux: renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE)."""


@contextmanager
def workshop(destination: Path) -> Iterator[Path]:
    """An empty folder on the destination's file system, and after all nothing of it; parents of the destination are made."""
    target = destination.absolute()
    made = [p for p in target.parents if not p.exists()]
    room: Path | None = None
    lock: int | None = None
    try:
        with postponed():
            target.parent.mkdir(parents=True, exist_ok=True)
            clear(target)
            room, lock = _room(target)
        yield room
    finally:
        with postponed():
            if room is not None:
                shutil.rmtree(room, ignore_errors=True)
            if lock is not None:
                os.close(lock)
            for parent in made:  # folders made for nothing
                if parent.is_dir() and not any(parent.iterdir()):
                    parent.rmdir()


def _room(target: Path) -> tuple[Path, int | None]:
    """A new folder and its lock. Before it has one, another process may take the folder for a dead one's and clear it away."""
    for _ in range(TRIES):
        room = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.tmp-"))
        lock = _locked(room)
        if lock is not None and room.is_dir():
            return room, lock
        if lock is not None:
            os.close(lock)
        shutil.rmtree(room, ignore_errors=True)
    return Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.tmp-")), None  # a file system without locks


def clear(target: Path) -> None:
    """Remove what killed processes left for this destination; what they had put aside goes back."""
    for room in sorted(target.parent.glob(f".{target.name.replace('[', '[[]')}.tmp-*")):
        lock = _locked(room) if room.is_dir() and not room.is_symlink() else None
        if lock is None:
            continue  # another process works there
        try:
            if (room / OLD).exists() and not target.exists():
                (room / OLD).replace(target)
            shutil.rmtree(room, ignore_errors=True)
        finally:
            os.close(lock)


def put(draft: Path, destination: Path) -> None:
    """A finished draft (file or folder, inside a workshop) takes the place of what is at ``destination``, which keeps it on failure."""
    if draft.is_file() or not destination.exists() or not any(destination.iterdir()):
        draft.replace(destination)
    elif not _exchanged(draft, destination):
        aside = draft.with_name(OLD)
        with postponed():
            destination.replace(aside)
            try:
                draft.replace(destination)
            except BaseException:
                aside.replace(destination)
                raise


def discard(path: Path) -> None:
    """Remove a bundle, all of it at once."""
    with workshop(path) as room:
        path.replace(room / "gone")


def _exchanged(a: Path, b: Path) -> bool:
    """Whether two places could be exchanged in one step, as Linux does on most file systems."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    return bool(call(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), EXCHANGE) == 0)


def _locked(folder: Path) -> int | None:
    """The descriptor of a folder that no other process has locked, now locked; None if that cannot be."""
    if fcntl is None:
        return None
    try:
        found = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(found)
        return None
    return found


__all__ = ["clear", "discard", "put", "workshop"]

"""What a stage freed goes back to the system, so that the next one does not stand on top of it."""

from __future__ import annotations

import ctypes
import sys


def trim() -> None:
    """Hand free memory back. glibc keeps freed arrays of up to 32 MB in its heap, between others that are still in use."""
    if sys.platform == "linux":
        release = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none, and no need of it
        if release is not None:
            release(0)


__all__ = ["trim"]

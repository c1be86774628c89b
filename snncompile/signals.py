"""Requests to end (Ctrl-C, SIGTERM, a terminal that closes): as exceptions, put off while files change hands, or heard at a good moment."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
PATIENCE, PAUSE = 2.0, 0.01
"""Seconds."""
TORCH = f"{os.sep}site-packages{os.sep}torch{os.sep}"
Handler = Callable[[int, FrameType | None], Any]


class Terminated(BaseException):
    """A signal other than Ctrl-C asked the process to end; like that it passes every ``except Exception``."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def handled(handler: Handler, numbers: tuple[int, ...] = NUMBERS) -> Iterator[dict[int, Any]]:
    """``handler`` in the place of those that are there (their dictionary), but for signals that are ignored, as under nohup."""
    before: dict[int, Any] = {}
    if threading.current_thread() is not threading.main_thread():
        yield before
        return
    try:
        for number in numbers:
            if (old := signal.getsignal(number)) not in (None, signal.SIG_IGN):
                before[number] = old
                signal.signal(number, handler)
        yield before
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def as_exceptions() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind like Ctrl-C, so that drafts and guests are cleaned up.

    An exception in the midst of an import, or of Python code that PyTorch's C++ has called, can end the whole process: there it waits for
    a better moment, for at most ``PATIENCE`` seconds.
    """
    waiting: list[threading.Timer] = []
    since: list[float] = []

    def stop(number: int, frame: FrameType | None) -> None:
        since.append(time.monotonic())
        if since[-1] - since[0] < PATIENCE and hasattr(signal, "pthread_kill") and _delicate(frame):
            again = threading.Timer(PAUSE, signal.pthread_kill, (threading.main_thread().ident, number))
            again.daemon = True
            waiting.append(again)
            again.start()
            return
        since.clear()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Terminated(number)

    with handled(stop):
        try:
            yield
        finally:
            for timer in waiting:
                timer.cancel()


def _delicate(frame: FrameType | None) -> bool:
    """Whether a module is being imported, or PyTorch is at work."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith("<frozen importlib") or TORCH in file:
            return True
        frame = frame.f_back
    return False


@contextmanager
def postponed() -> Iterator[None]:
    """What arrives meanwhile takes effect at the end: for the moments in which files change hands."""
    arrived: list[int] = []
    with handled(lambda number, _: arrived.append(number)):
        yield
    if arrived:
        signal.raise_signal(arrived[0])


class Heard:
    """Inside of ``with``, the first request to end is only noted, in ``number``, and answered with ``words``; the second acts at once."""

    def __init__(self, words: str) -> None:
        self.number: int | None = None
        self._words = words

    def __enter__(self) -> Heard:
        self._context = handled(self._hear)
        self._before = self._context.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number = number
            with suppress(OSError):
                os.write(2, f"\n{self._words}\n".encode())  # a print may have been interrupted
            return
        old = self._before[number]
        if callable(old):
            old(number, frame)
        else:  # the default: it ends the process
            signal.signal(number, old)
            signal.raise_signal(number)


__all__ = ["NUMBERS", "Heard", "Terminated", "as_exceptions", "handled", "postponed"]

"""Run the guest under supervision: own session, hard time limit, events streamed, nothing left behind however it ends."""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snncompile.backends.lava.pythons import clean_environment
from snncompile.backends.lava.reaper import TOKEN, kill_run, remove_shared_memory
from snncompile.errors import CompileError, Diagnostic, fail

TAIL_LINES = 20
POLL_SECONDS = 0.1
CODES = {"plan": "SNN503", "input": "SNN504", "exception": "SNN505", "range": "SNN506", "died": "SNN507"}
HELP = {
    "plan": "export the bundle again; its lava folder is damaged or was edited",
    "input": "give integers of the shape [samples, steps or 1, *shape] and inside the payload range, as in plan.json",
    "exception": "this is a fault of the emitted program: please report it with the traceback above",
    "range": "the compiler had proved this impossible: please report it with the bundle",
    "died": "if the machine ran out of memory or /dev/shm is small, run fewer samples or a smaller network at a time",
}


@dataclass(frozen=True, slots=True)
class GuestRun:
    """How a guest run went: wall seconds of the whole process, and of the stepping alone."""

    seconds: float
    step_seconds: float


def run_guest(
    python: Path, arguments: Sequence[str], *, scratch: Path, timeout_s: float, progress: Callable[[int, int], None] | None = None
) -> GuestRun:
    """Run ``python arguments... --events`` to its end; ``progress(done, of)`` counts hardware steps.

    ``scratch`` is an empty folder that the caller removes; the guest's temporary files and its log lie there.

    Errors  SNN503 plan, SNN504 inputs, SNN505 exception in a population, SNN506 value out of its proved range, SNN507 a guest process
            died, SNN508 time limit, SNN510 the interpreter cannot be started. KeyboardInterrupt passes through. In every case all
            processes of the run have ended and its shared memory is gone before this function returns or raises.
    """
    return _Guest(python, arguments, scratch, timeout_s, progress).run()


class _Guest:
    def __init__(
        self, python: Path, arguments: Sequence[str], scratch: Path, timeout_s: float, progress: Callable[[int, int], None] | None
    ) -> None:
        self.command = [str(python), "-B", *arguments, "--events"]
        self.scratch, self.timeout_s, self.progress = scratch, timeout_s, progress
        self.log = scratch / "stderr.txt"
        self.token = secrets.token_hex(4)
        self.errors: list[dict[str, Any]] = []
        self.done: dict[str, Any] | None = None
        self.steps = (0, 0)

    def run(self) -> GuestRun:
        started = time.monotonic()
        process: subprocess.Popen[bytes] | None = None
        try:
            process = self._start()
            self._follow(process, started + self.timeout_s)
        finally:
            with _uninterrupted():
                self._end(process)
        if self.done is not None and process.returncode == 0 and not self.errors:
            return GuestRun(time.monotonic() - started, float(self.done.get("step_seconds", 0.0)))
        raise self._failure(process.returncode)

    def _start(self) -> subprocess.Popen[bytes]:
        folder = self.scratch / "tmp"
        folder.mkdir()
        env = clean_environment() | {
            TOKEN: self.token,
            "SNNCOMPILE_LAVA_PARENT": str(os.getpid()),
            "SNNCOMPILE_LAVA_SCRATCH": str(self.scratch),
            "TMPDIR": str(folder),
        }
        try:
            with self.log.open("wb") as log:
                return subprocess.Popen(
                    self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=env, cwd=folder, start_new_session=True
                )
        except OSError as error:
            raise fail("SNN510", f"cannot start {self.command[0]}: {error.strerror or error}", help="snncompile doctor") from error

    def _follow(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        """Read events until the guest's main process ends; raise SNN508 when its time is up."""
        assert process.stdout is not None
        descriptor, pending, open_ = process.stdout.fileno(), b"", True
        os.set_blocking(descriptor, False)
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while True:
                ended = process.poll() is not None  # before reading, so that the last lines are read
                if open_ and selector.select(0 if ended else POLL_SECONDS):
                    chunk = os.read(descriptor, 65536)
                    open_ = bool(chunk)
                    *lines, pending = (pending + chunk).split(b"\n")
                    for line in lines:
                        self._event(line)
                elif ended:
                    return
                elif not open_:
                    time.sleep(POLL_SECONDS)
                if time.monotonic() > deadline:
                    raise self._timeout()

    def _event(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            kind = event["event"]
        except (ValueError, KeyError, TypeError):
            return  # not ours
        if kind == "progress":
            self.steps = (int(event["done"]), int(event["of"]))
            if self.progress is not None:
                self.progress(*self.steps)
        elif kind == "error":
            self.errors.append(event)
        elif kind == "done":
            self.done = event

    def _end(self, process: subprocess.Popen[bytes] | None) -> None:
        group = process.pid if process is not None else None
        kill_run(self.token, group)
        if process is not None:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        remove_shared_memory(self.token)

    def _failure(self, status: int) -> CompileError:
        tail = self._tail()
        if not self.errors:
            why = f"was killed by {_signal_name(-status)}" if status < 0 else f"ended with status {status}"
            return fail("SNN507", f"the Lava guest {why}{self._reached()}", notes=tail, help=HELP["died"])
        return CompileError([self._diagnostic(event, tail if k == len(self.errors) - 1 else ()) for k, event in enumerate(self.errors)])

    def _diagnostic(self, event: dict[str, Any], tail: Sequence[str]) -> Diagnostic:
        kind = event.get("kind", "exception")
        population = event.get("population")
        where = f"population '{population}': " if population else ""
        notes = [*str(event.get("traceback") or "").rstrip().splitlines()[-TAIL_LINES:]] if kind == "exception" else []
        return Diagnostic(
            CODES.get(kind, "SNN505"), f"{where}{event.get('message', 'failed')}", None, (*notes, *tail), HELP.get(kind, HELP["exception"])
        )

    def _timeout(self) -> CompileError:
        return fail(
            "SNN508",
            f"Lava did not end within {self.timeout_s:g} s and was stopped{self._reached()}",
            notes=self._tail(),
            help="run fewer samples, or allow more time",
        )

    def _reached(self) -> str:
        done, of = self.steps
        return f" at hardware step {done} of {of}" if of else " before its first step"

    def _tail(self) -> list[str]:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        return [f"stderr: {line}" for line in lines if line.strip()][-TAIL_LINES:]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let no second Ctrl-C cut the cleaning short."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

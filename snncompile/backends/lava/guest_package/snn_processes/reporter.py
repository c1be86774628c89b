"""What the runner tells: JSON lines for a supervisor, or sentences for a person."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any

Event = dict[str, Any]


class Failure(Exception):  # noqa: N818 - reported, not a bug
    """The run cannot go on; carries the error events to report and the exit status."""

    def __init__(self, *events: Event, status: int = 3) -> None:
        super().__init__(events[0]["message"])
        self.events, self.status = events, status


def error_event(kind: str, message: str, *, population: str | None = None, traceback: str = "") -> Event:
    """Build an error event; kind is plan, input, range, exception, died or orphan."""
    return {"event": "error", "kind": kind, "population": population, "message": message, "traceback": traceback}


class Reporter:
    """Prints to the real stdout; with ``events``, stray prints of libraries go to stderr so that they cannot mix with JSON lines."""

    def __init__(self, events: bool) -> None:
        self.events = events
        self._last = 0.0
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        if events:
            os.dup2(2, 1)

    def emit(self, **event: Any) -> None:
        """Write one event, for a supervisor only."""
        if self.events:
            self._write(json.dumps(event))

    def say(self, text: str) -> None:
        """Write one line, for a person only."""
        if not self.events:
            self._write(text)

    def progress(self, done: int, of: int) -> None:
        """Report hardware steps at most four times a second, and always the end."""
        now = time.monotonic()
        if done == of or now - self._last > 0.25:
            self._last = now
            self.emit(event="progress", done=done, of=of)

    def failure(self, event: Event) -> None:
        """Report one error event."""
        self.emit(**event)
        where = f" in population '{event['population']}'" if event["population"] else ""
        self.say(f"error{where}: {event['message']}")
        if event["kind"] == "exception" and event["traceback"]:
            self.say(event["traceback"].rstrip())

    def _write(self, text: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # the reader is gone; whoever watches the supervisor ends the run
            self._out.write(text + "\n")
            self._out.flush()

"""Follow a running network: progress, failures on the board, processes that die."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import Any

from .board import Board
from .reporter import Event, Failure, Reporter, error_event

POLL_SECONDS = 0.02
GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Watch:
    """``process`` is any Lava process of the network; ``parent`` the supervisor's process id, or 0 without one."""

    process: Any
    board: Board
    total: int
    reporter: Reporter
    parent: int

    def wait(self) -> None:
        """Return when every population has done all its steps; raise Failure as soon as that cannot happen any more.

        After a failure the other populations send zeros, so that short runs still end in order; long ones get a grace time.
        """
        failed_at: float | None = None
        while self.board.done < self.total:
            time.sleep(POLL_SECONDS)
            self.reporter.progress(self.board.done, self.total)
            if self.parent and os.getppid() != self.parent:
                raise Failure(error_event("orphan", "the supervisor is gone"))
            if self.board.failed:
                failed_at = failed_at or time.monotonic()
                if time.monotonic() - failed_at > GRACE_SECONDS:
                    raise Failure(*self.board.errors())
            if dead := self.dead():
                raise Failure(*(self.board.errors() or dead))
        self.finish()
        if self.board.failed:
            raise Failure(*self.board.errors())

    def finish(self) -> None:
        """Stop Lava in an orderly way, but do not wait for ever: the results are on disk already."""

        def stop() -> None:
            self.process.wait()
            self.process.stop()

        thread = threading.Thread(target=stop, daemon=True)
        thread.start()
        thread.join(GRACE_SECONDS)

    def dead(self) -> list[Event]:
        """Error events for processes that ended while the run was going on; Lava itself would wait for them for ever."""
        runtime = self.process.runtime
        names = [process.name for process in runtime._executable.proc_builders]
        events = []
        for k, actor in enumerate(runtime._messaging_infrastructure.actors):
            if not actor.is_alive():
                name = names[k] if k < len(names) else "runtime service"
                code = actor.exitcode
                why = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
                events.append(error_event("died", f"its process {why}", population=name))
        return events

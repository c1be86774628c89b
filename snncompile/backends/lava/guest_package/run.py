"""Run the spiking program in this folder on Lava's CPU simulator.

    python run.py --inputs DIR --out DIR [--plan DIR] [--events]

Reads ``DIR/<input>.npy`` [samples, T or 1, *shape] and writes ``<population>.payload.npy`` and ``<population>.membrane.npy``
[samples, T, *shape]. Needs Python 3.10, numpy and lava-nc 0.10.0. Exit status: 0 done, 2 wrong plan or input, 3 failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # one thread per population; must be set before numpy is imported

POLL_SECONDS = 0.02
GRACE_SECONDS = 5.0


class Failure(Exception):  # noqa: N818 - reported, not a bug
    """The run cannot go on; carries the error events to report."""

    def __init__(self, *events: dict[str, Any], status: int = 3) -> None:
        super().__init__(events[0]["message"])
        self.events, self.status = events, status


class Reporter:
    """Prints JSON lines for a supervisor (``--events``) or sentences for a person."""

    def __init__(self, events: bool) -> None:
        self.events = events
        self.last = 0.0
        # Stray prints of libraries must not mix with the events: keep the real stdout, send the rest to stderr.
        self.out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        if events:
            os.dup2(2, 1)

    def emit(self, **event: Any) -> None:
        """Write one event line."""
        if self.events:
            self.out.write(json.dumps(event) + "\n")
            self.out.flush()

    def say(self, text: str) -> None:
        """Write one line for a person."""
        if not self.events:
            self.out.write(text + "\n")
            self.out.flush()

    def progress(self, done: int, of: int) -> None:
        """Report at most four times a second, and always the end."""
        now = time.monotonic()
        if done == of or now - self.last > 0.25:
            self.last = now
            self.emit(event="progress", done=done, of=of)

    def error(self, event: dict[str, Any]) -> None:
        """Report one failure."""
        self.emit(**event)
        where = f" in population '{event['population']}'" if event.get("population") else ""
        self.say(f"error{where}: {event['message']}")
        if event.get("kind") == "exception" and event.get("traceback"):
            self.say(event["traceback"].rstrip())


def main() -> int:
    """Parse the command line, run, report."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Run this spiking program on Lava's CPU simulator.")
    parser.add_argument("--inputs", type=Path, required=True, help="folder of <input>.npy, integers [samples, T or 1, *shape]")
    parser.add_argument("--out", type=Path, required=True, help="folder for <population>.payload.npy and .membrane.npy")
    parser.add_argument("--plan", type=Path, default=here, help="folder of plan.json (default: the folder of run.py)")
    parser.add_argument("--samples", type=int, default=1, help="number of samples, only for a plan without inputs")
    parser.add_argument("--fused", action="store_true", help="never use Lava's built-in Dense: fewer processes, same bits")
    parser.add_argument("--events", action="store_true", help="print JSON lines for a supervisor, and end when it does")
    args = parser.parse_args()
    reporter = Reporter(args.events)
    scratch = Path(tempfile.mkdtemp(prefix="snn-"))
    try:
        run(args, reporter, scratch)
        return 0
    except Failure as failure:
        for event in failure.events:
            reporter.error(event)
        return failure.status
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def run(args: argparse.Namespace, reporter: Reporter, scratch: Path) -> None:
    """Load, build, run, and wait for the end."""
    started = time.monotonic()
    from snn_processes import guard
    from snn_processes.board import Board
    from snn_processes.data import load_inputs, prepare_records
    from snn_processes.plan import InputError, PlanError, load_plan

    token, parent = guard.run_token(), os.getppid()
    if args.events:
        guard.die_with_parent(15)
    guard.mark_shared_memory(token)
    guard.protect_children()

    def clean_up() -> None:
        guard.kill_everything(token)
        shutil.rmtree(scratch, ignore_errors=True)

    guard.on_terminate(clean_up)
    try:
        try:
            plan = load_plan(args.plan)
            inputs = load_inputs(plan, args.inputs)
        except (PlanError, InputError) as error:
            kind = "plan" if isinstance(error, PlanError) else "input"
            raise Failure({"event": "error", "kind": kind, "population": None, "message": str(error), "traceback": ""}, status=2) from error
        samples = next(iter(inputs.values())).shape[0] if inputs else args.samples
        args.out.mkdir(parents=True, exist_ok=True)
        prepare_records(plan, samples, args.out)
        total = plan.hardware_steps(samples)
        board = Board([p.name for p in plan.populations], scratch)
        root = start(plan, inputs, samples, args, board, total)
        reporter.progress(0, total)
        stepping = time.monotonic()
        watch(root, board, total, reporter, parent if args.events else 0)
        seconds = time.monotonic() - stepping
        finish(root)
    except Failure:
        raise
    except Exception as error:
        import traceback

        event = {"event": "error", "kind": "exception", "population": None, "message": f"{type(error).__name__}: {error}"}
        raise Failure({**event, "traceback": traceback.format_exc()}) from error
    finally:
        guard.kill_everything(token)
    reporter.emit(event="done", seconds=time.monotonic() - started, step_seconds=seconds)
    summarise(plan, samples, total, seconds, args.out, reporter)


def start(plan: Any, inputs: Any, samples: int, args: argparse.Namespace, board: Any, total: int) -> Any:
    """Compile the Lava network and start it without waiting."""
    from lava.magma.core.run_conditions import RunSteps
    from snn_processes.network import Network

    root, config = Network(plan, inputs, samples, args.out, board, builtin=not args.fused).build()
    # a channel never holds more than one message: each is received in the time step in which it was sent
    root.create_runtime(run_cfg=config, compile_config={"pypy_channel_size": 2})
    root.runtime.start(RunSteps(num_steps=total, blocking=False))
    return root


def watch(root: Any, board: Any, total: int, reporter: Reporter, parent: int) -> None:
    """Wait until every population has done every hardware step; raise Failure as soon as that cannot happen any more."""
    failed_at = None
    while board.done < total:
        time.sleep(POLL_SECONDS)
        reporter.progress(board.done, total)
        if parent and os.getppid() != parent:
            raise Failure({"event": "error", "kind": "orphan", "population": None, "message": "the supervisor is gone", "traceback": ""})
        if board.failed and failed_at is None:
            failed_at = time.monotonic()
        if failed_at is not None and time.monotonic() - failed_at > GRACE_SECONDS:
            break
        dead = dead_actors(root)
        if dead:
            raise Failure(*(board.errors() or dead))
    if board.failed:
        if board.done >= total:
            finish(root)
        raise Failure(*board.errors())
    reporter.progress(total, total)


def dead_actors(root: Any) -> list[dict[str, Any]]:
    """Error events for processes of the network that ended while the run was going on."""
    runtime = root.runtime
    names = [process.name for process in runtime._executable.proc_builders]
    events = []
    for k, actor in enumerate(runtime._messaging_infrastructure.actors):
        if not actor.is_alive():
            name = names[k] if k < len(names) else "runtime service"
            why = f"was killed by signal {-actor.exitcode}" if actor.exitcode < 0 else f"ended with status {actor.exitcode}"
            events.append({"event": "error", "kind": "died", "population": name, "message": f"its process {why}", "traceback": ""})
    return events


def finish(root: Any) -> None:
    """Stop Lava in an orderly way, but not for ever: the results are on disk already."""

    def stop() -> None:
        root.wait()
        root.stop()

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    thread.join(GRACE_SECONDS)


def summarise(plan: Any, samples: int, total: int, seconds: float, out: Path, reporter: Reporter) -> None:
    """Print what was computed and where it lies."""
    import numpy as np

    if reporter.events:
        return
    reporter.say(f"{samples} samples x {plan.steps} steps, {total} hardware steps in {seconds:.2f} s ({1000 * seconds / total:.2f} ms each)")
    for population in plan.populations:
        payload = np.load(out / f"{population.name}.payload.npy", mmap_mode="r")
        shape = "x".join(map(str, population.shape))
        note = "  <- output" if population.name in plan.outputs else ""
        reporter.say(f"  {population.name:24} {shape:>12}  non-zero payloads {100 * np.count_nonzero(payload) / payload.size:6.2f} %{note}")
    reporter.say(f"results in {out}: <population>.payload.npy, <population>.membrane.npy")


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # a Lava runtime that failed would hang at interpreter exit

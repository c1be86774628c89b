"""The command line of the runner: load, build, run, report, clean up."""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import guard
from .board import Board
from .data import load_inputs, prepare_records
from .plan import InputError, Plan, PlanError, load_plan
from .reporter import Failure, Reporter, error_event
from .watch import Watch

if TYPE_CHECKING:
    from .plastic import Learning


@dataclass(frozen=True)
class Stream:
    """What runs: a plan on the samples of its inputs, learning from targets or not."""

    plan: Plan
    inputs: dict[str, np.ndarray]
    samples: int
    learning: Learning | None
    targets: np.ndarray | None
    activity: dict[str, np.ndarray]


def main(here: Path) -> int:
    """Run with the arguments of the command line; ``here`` is the default plan folder. Return the exit status."""
    args = _arguments(here)
    reporter = Reporter(args.events)
    scratch = Path(tempfile.mkdtemp(prefix="snn-"))
    tempfile.tempdir = str(scratch)  # for the sockets of multiprocessing, which would stay behind after a kill
    try:
        _run(args, reporter, scratch)
        return 0
    except Failure as failure:
        for event in failure.events:
            reporter.failure(event)
        return failure.status
    except KeyboardInterrupt:
        reporter.say("interrupted")
        return 128 + signal.SIGINT
    finally:
        guard.remove_scratch(scratch)


def _arguments(here: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py", description="Run this spiking program on Lava's CPU simulator.")
    parser.add_argument("--inputs", type=Path, required=True, help="folder of <input>.npy, integers [samples, T or 1, *shape]")
    parser.add_argument("--out", type=Path, required=True, help="folder for <population>.payload.npy and .membrane.npy")
    parser.add_argument("--plan", type=Path, default=here, help="folder of plan.json (default: the folder of run.py)")
    parser.add_argument("--samples", type=int, default=1, help="number of samples, only for a plan without inputs")
    parser.add_argument("--fused", action="store_true", help="never use Lava's built-in Dense: fewer processes, same bits")
    parser.add_argument(
        "--learn",
        type=Path,
        metavar="TARGETS.npy",
        help="learn while running: the class of each sample, negative for none; activity.<layer>.npy beside it",
    )
    parser.add_argument("--events", action="store_true", help="print JSON lines for a supervisor")
    return parser.parse_args()


def _run(args: argparse.Namespace, reporter: Reporter, scratch: Path) -> None:
    started, token = time.monotonic(), guard.run_token()
    guard.mark_shared_memory(token)
    guard.protect_children()
    guard.on_terminate(token, scratch)
    if guard.supervisor() and not guard.follow_supervisor():
        raise Failure(error_event("orphan", "the supervisor is gone"))
    try:
        plan, inputs = _load(args)
        samples = next(iter(inputs.values())).shape[0] if inputs else args.samples
        args.out.mkdir(parents=True, exist_ok=True)
        prepare_records(plan, samples, args.out)
        learning, targets, activity = _learning(args, plan, samples)
        names = [p.name for p in plan.populations] + ([] if learning is None else learning.workers)
        total = plan.hardware_steps(samples) if learning is None else learning.taught(plan, samples - 1) + 1
        board = Board(names, scratch)
        process = _start(Stream(plan, inputs, samples, learning, targets, activity), total, args, board)
        reporter.progress(0, total)
        stepping = time.monotonic()
        Watch(process, board, total, reporter, guard.supervisor()).wait()
        seconds = time.monotonic() - stepping
    except Failure:
        raise
    except Exception as error:
        raise Failure(error_event("exception", f"{type(error).__name__}: {error}", traceback=traceback.format_exc())) from error
    finally:
        guard.kill_everything(token)
    reporter.progress(total, total)
    reporter.emit(event="done", seconds=time.monotonic() - started, step_seconds=seconds)
    if not args.events:
        reporter.say(f"{samples} samples x {plan.steps} steps, {total} hardware steps in {seconds:.2f} s")
        _summarise(plan, args.out, reporter)


def _load(args: argparse.Namespace) -> tuple[Plan, dict[str, np.ndarray]]:
    try:
        plan = load_plan(args.plan)
        return plan, load_inputs(plan, args.inputs)
    except PlanError as error:
        raise Failure(error_event("plan", str(error)), status=2) from error
    except InputError as error:
        raise Failure(error_event("input", str(error)), status=2) from error


def _learning(args: argparse.Namespace, plan: Plan, samples: int) -> tuple[Learning | None, np.ndarray | None, dict[str, np.ndarray]]:
    """What to learn and from which targets and activities, and files to write it into; nothing without ``--learn``."""
    if args.learn is None:
        return None, None, {}
    raw = json.loads((args.plan / "plan.json").read_text(encoding="utf-8"))
    if raw.get("learning") is None:
        raise Failure(error_event("plan", "this program does not learn: the plan has no 'learning'"), status=2)
    from .plastic import load_activity, load_learning, load_targets, prepare  # noqa: PLC0415 - only programs that learn have this module

    try:
        learning = load_learning(raw, plan)
        readout = next(p for p in plan.populations if p.name == learning.readout)
        targets = load_targets(args.learn, samples, readout.size)
        activity = load_activity(args.learn.parent, learning, plan, samples)
    except (PlanError, InputError) as error:
        raise Failure(error_event("plan" if isinstance(error, PlanError) else "input", str(error)), status=2) from error
    prepare(args.out, plan, learning, samples)
    return learning, targets, activity


def _start(stream: Stream, total: int, args: argparse.Namespace, board: Board) -> Any:
    """Compile the Lava network and start it without waiting; return one of its processes."""
    from lava.magma.core.run_conditions import RunSteps  # noqa: PLC0415 - a second to import; a wrong plan is reported before

    from .network import Network  # noqa: PLC0415

    network = Network(
        stream.plan,
        stream.inputs,
        stream.samples,
        args.out,
        board,
        builtin=not args.fused,
        learning=stream.learning,
        targets=stream.targets,
        activity=stream.activity,
    )
    process, config = network.build()
    # A channel never holds more than one message: each is received in the time step in which it was sent.
    process.create_runtime(run_cfg=config, compile_config={"pypy_channel_size": 2})
    process.runtime.start(RunSteps(num_steps=total, blocking=False))
    return process


def _summarise(plan: Plan, out: Path, reporter: Reporter) -> None:
    for population in plan.populations:
        payload = np.load(out / f"{population.name}.payload.npy", mmap_mode="r")
        shape = "x".join(map(str, population.shape))
        percent = 100 * np.count_nonzero(payload) / payload.size
        mark = "  <- output" if population.name in plan.outputs else ""
        reporter.say(f"  {population.name:24} {shape:>12}  non-zero payloads {percent:6.2f} %{mark}")
    reporter.say(f"results in {out}: <population>.payload.npy, <population>.membrane.npy")

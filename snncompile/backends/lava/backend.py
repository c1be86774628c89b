"""Run a plan on Lava's CPU simulator and read back what every population did."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snncompile.backends.lava.emit import RUNNER
from snncompile.backends.lava.interpreter import LavaInterpreter, find_interpreter
from snncompile.backends.lava.learning_plan import LavaLearned, plastic_populations, read_learned
from snncompile.backends.lava.supervisor import run_guest
from snncompile.errors import fail

IntArray = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class PopulationTrace:
    """What a population did: payload sent and membrane after reset, each [samples, steps, *shape], integers, read-only."""

    payload: IntArray
    membrane: IntArray


class LavaTraces(dict[str, PopulationTrace]):
    """Traces by population, with ``seconds`` (wall time of the guest), ``step_seconds`` (of stepping alone) and ``interpreter``."""

    seconds: float
    step_seconds: float
    interpreter: LavaInterpreter
    learned: LavaLearned | None = None


def run_plan(
    plan_folder: Path,
    inputs: Mapping[str, npt.NDArray[Any]],
    *,
    timeout_s: float,
    interpreter: LavaInterpreter | None = None,
    progress: Callable[[int, int], None] | None = None,
    preparing: Callable[[str], None] | None = None,
    out: Path | None = None,
    fused: bool = False,
    targets: npt.NDArray[Any] | None = None,
    activity: Mapping[str, npt.NDArray[Any]] | None = None,
) -> LavaTraces:
    """Run ``plan_folder`` (plan.json and tensors) on ``inputs`` {name: integers [samples, steps or 1, *shape]}.

    ``timeout_s`` bounds the whole guest run in seconds, finding an interpreter excluded. ``progress(done, of)`` counts hardware steps;
    ``preparing`` hears what provisioning does. ``out`` keeps the result files; otherwise they are mapped and vanish with the arrays.
    ``fused`` avoids Lava's built-in Dense: fewer processes, the same bits. ``targets`` [samples] are the classes to learn (negative for
    none), for a plan that learns, and ``activity`` {population: integers 0..255 [samples, neurons]} those of a teacher, for local errors;
    ``learned`` of the result then holds what was learned.

    Errors  SNN501, SNN502, SNN509 interpreter; SNN503 plan; SNN504 inputs; SNN505 to SNN508, SNN510 see ``run_guest``
    """
    started = time.monotonic()
    _check(plan_folder, inputs)
    chosen = interpreter or find_interpreter(preparing)
    with _scratch() as scratch:
        results = out.absolute() if out is not None else scratch / "out"
        given = scratch / "in"
        given.mkdir()
        for name, array in inputs.items():
            np.save(given / f"{name}.npy", array, allow_pickle=False)
        arguments = [str(RUNNER / "run.py"), "--plan", str(plan_folder.absolute()), "--inputs", str(given), "--out", str(results)]
        if targets is not None:
            np.save(scratch / "targets.npy", targets, allow_pickle=False)
            for name, array in (activity or {}).items():
                np.save(scratch / f"activity.{name}.npy", array, allow_pickle=False)
            arguments += ["--learn", str(scratch / "targets.npy")]
        run = run_guest(chosen.path, arguments + (["--fused"] if fused else []), scratch=scratch, timeout_s=timeout_s, progress=progress)
        traces = LavaTraces({name: _trace(results, name) for name in _populations(plan_folder)})
        if targets is not None:
            traces.learned = read_learned(results, plastic_populations(plan_folder))
    traces.seconds, traces.step_seconds, traces.interpreter = time.monotonic() - started, run.step_seconds, chosen
    return traces


class _scratch:  # noqa: N801 - a context manager used like a function
    """Temporary folder with a short path: the guest makes a socket in it, and socket paths end at 104 characters."""

    def __enter__(self) -> Path:
        base = tempfile.gettempdir()
        self.path = Path(tempfile.mkdtemp(prefix="snnlava-", dir=base if len(base) < 50 else "/tmp"))  # noqa: S108
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def _check(plan_folder: Path, inputs: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuse what can be refused without starting Lava; the runner checks the rest."""
    wanted = {i["name"] for i in _read(plan_folder, "inputs")}
    for name in sorted(wanted ^ set(inputs)):
        what = "is missing" if name in wanted else "is not an input of this plan"
        raise fail("SNN504", f"input '{name}' {what}", help=f"the plan's inputs are: {', '.join(sorted(wanted)) or 'none'}")
    for name, array in inputs.items():
        if array.dtype.kind not in "iub":
            raise fail("SNN504", f"input '{name}' holds {array.dtype}, not integers", help="quantise it with the program's input scale")


def _populations(plan_folder: Path) -> list[str]:
    return [str(p["name"]) for p in _read(plan_folder, "populations")]


def _read(plan_folder: Path, field: str) -> list[dict[str, Any]]:
    try:
        rows = json.loads((plan_folder / "plan.json").read_text(encoding="utf-8"))[field]
        if not all(isinstance(row["name"], str) for row in rows):
            raise TypeError("a name is not a string")
        return list(rows)
    except OSError as error:
        raise fail("SNN503", f"cannot read {plan_folder / 'plan.json'}: {error.strerror}", help="export the bundle again") from error
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise fail("SNN503", f"{plan_folder / 'plan.json'} is damaged ({reason})", help="export the bundle again") from error


def _trace(folder: Path, name: str) -> PopulationTrace:
    try:
        payload, membrane = (np.load(folder / f"{name}.{kind}.npy", mmap_mode="r", allow_pickle=False) for kind in ("payload", "membrane"))
    except (OSError, ValueError) as error:
        raise fail("SNN507", f"the Lava guest left no readable result for population '{name}': {error}", help="run again") from error
    return PopulationTrace(payload, membrane)

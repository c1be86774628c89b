"""Write the runner: plain Python files copied as they are, beside the plan."""

from __future__ import annotations

import shutil
from pathlib import Path

RUNNER = Path(__file__).parent / "guest_package"
"""The runner's source, package data; it never imports snncompile, and snncompile never imports it."""


LEARNING = ("plastic.py", "plastic_processes.py", "teaching.py", "third_factors.py")
"""Modules that only a program that learns needs."""


def runner_files(*, learning: bool = True) -> list[Path]:
    """Return the runner's files relative to its folder, sorted; without what only learning needs if ``learning`` is off."""
    found = sorted(p.relative_to(RUNNER) for p in RUNNER.rglob("*.py"))
    return [name for name in found if learning or name.name not in LEARNING]


def write_runner(folder: Path, *, learning: bool = True) -> list[Path]:
    """Copy the runner into ``folder`` (made if missing), byte for byte; return the files written.

    ``python folder/run.py --inputs DIR --out DIR`` then runs the plan in ``folder`` with numpy and lava-nc 0.10.0 alone.
    """
    written = []
    for name in runner_files(learning=learning):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(RUNNER / name, target)
        written.append(target)
    return written

"""Write the runner: plain Python files copied as they are, beside the plan."""

from __future__ import annotations

import shutil
from pathlib import Path

RUNNER = Path(__file__).parent / "guest_package"
"""The runner's source, package data; it never imports snncompile, and snncompile never imports it."""


def runner_files() -> list[Path]:
    """Return the runner's files relative to its folder, sorted."""
    return sorted(p.relative_to(RUNNER) for p in RUNNER.rglob("*.py"))


def write_runner(folder: Path) -> list[Path]:
    """Copy the runner into ``folder`` (made if missing), byte for byte; return the files written.

    ``python folder/run.py --inputs DIR --out DIR`` then runs the plan in ``folder`` with numpy and lava-nc 0.10.0 alone.
    """
    written = []
    for name in runner_files():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(RUNNER / name, target)
        written.append(target)
    return written

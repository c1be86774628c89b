"""Run the checks of ``snncompile.verify`` with progress, and say what failed."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from snncompile import files
from snncompile.backends.bundle import Bundle
from snncompile.cli import show
from snncompile.cli.data import Data
from snncompile.cli.progress import Progress
from snncompile.ir.graph import Readout
from snncompile.verify import Original, Program, Verification, default_input, verify
from snncompile.verify.saturation import Clipped

LABELS = {"reference": "running the integer reference", "lava": "running Lava's simulator", "onnx": "running ONNX Runtime"}


def check(
    bundle: Bundle, data: Data, *, original: Original | None, backends: Sequence[str], samples: int | None, timeout: float,
    readout: Readout, progress: Progress,
) -> Verification:  # fmt: skip
    """Every claim that can be checked of a program on data."""

    def count(stage: str, done: int, total: int) -> None:
        progress.phase(LABELS.get(stage, stage))
        progress.count(done, total)

    if "lava" in backends:
        from snncompile.backends.lava.interpreter import find_interpreter  # noqa: PLC0415

        find_interpreter(progress.phase)  # before hours of other work, and with its own progress
    if "onnx" in backends:
        from snncompile.backends.onnx.runtime import import_runtime  # noqa: PLC0415

        import_runtime()
    program = Program(graph=bundle.graph, schedule=bundle.schedule, populations=bundle.populations, plan_folder=bundle.plan_folder)
    x = default_input(bundle.graph, data.samples)
    found = verify(
        program, x, y=data.y, original=original, backends=backends, samples=samples, timeout_s=timeout,
        readout=readout, progress=count, preparing=progress.phase,
    )  # fmt: skip
    warn_clipped(found.saturation.inputs)
    return found


def warn_clipped(inputs: Iterable[Clipped]) -> None:
    """Say by name which input values were cut off, and the way out."""
    for c in inputs:
        show.warn(
            f"{c}; give the values that the network was trained on, or export with --input-range or --calibration data that holds them"
        )


def report_failures(found: Verification, beside: Path) -> Path | None:
    """Print what failed and write the traces of the first divergence; the file's path if there are any."""
    show.diagnostics(found.failures)
    if not found.evidence:
        return None
    path = beside.with_name(f"{beside.name.removesuffix('.zip')}.divergence.npz")
    content = io.BytesIO()
    np.savez(content, **{k.replace(".", "_"): v for k, v in found.evidence.items()})  # type: ignore[arg-type]
    try:
        files.write(path, content.getvalue())
    except OSError as e:
        show.warn(f"the traces could not be written: {e}")
        return None
    show.warn(f"traces of the diverging sample are in {path}")
    return path


__all__ = ["check", "report_failures", "warn_clipped"]

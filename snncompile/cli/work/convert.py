"""``convert``: the program of a bundle as a file of another kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from snncompile import files
from snncompile.backends.bundle import Bundle, read_bundle
from snncompile.backends.bundle.files import unwritable
from snncompile.cli import show
from snncompile.cli.progress import Progress
from snncompile.errors import CompileError, InternalError, fail
from snncompile.ir import reference
from snncompile.ir.integer import IntInput
from snncompile.report.summary import facts, put
from snncompile.report.words import bits, count, size
from snncompile.verify.backends import BackendRecord, compare_bits

SAMPLES = 2


def convert(path: Path, output: Path | None, *, traces: bool, as_json: bool, quiet: bool) -> int:
    """Run the command; the exit status."""
    destination = output or Path(f"{path.name.removesuffix('.zip').removesuffix('.snn')}.step.onnx")
    if destination.suffix != ".onnx":
        raise fail("SNN042", f"{destination} is no name of an ONNX file", help="choose a name that ends in .onnx with -o")
    _check_destination(destination)
    with Progress(quiet=quiet) as progress:
        progress.phase("reading the bundle")
        bundle = read_bundle(path)
        progress.phase("writing the ONNX model")
        from snncompile.backends.onnx.model import OPSET, step_model  # noqa: PLC0415 - other commands do without onnx

        model = step_model(bundle.graph, traces=traces)
        record = None
        if _has_runtime():
            progress.phase("comparing ONNX Runtime with the integer reference")
            record = _compare(bundle)
        _write(destination, model.SerializeToString(deterministic=True))
    states = [i.name for i in model.graph.input if i.name.endswith("_in")]
    if as_json:
        show.json_line({
            "ok": True, "output": str(destination), "opset": OPSET, "bytes": destination.stat().st_size, "states": states,
            "backend": None if record is None else record.to_json(),
        })  # fmt: skip
        return 0
    checked = "not run: ONNX Runtime is not installed"
    if record is not None:
        checked = (
            f"0 of {bits(record.compared_bits)} differ from the integer reference ({record.samples} random samples, {record.steps} steps)"
        )
    rows = [("model", f"{destination}, {size(destination.stat().st_size)}, opset {OPSET}"), ("nodes", count(len(model.graph.node)))]
    put(facts([*rows, ("states", ", ".join(states) or "none"), ("onnx", checked)]))
    return 0


def _check_destination(path: Path) -> None:
    """Replace nothing but an older step model: the network's own ONNX file often lies here under a similar name (SNN031)."""
    if not path.exists():
        return
    from onnx import load  # noqa: PLC0415 - other commands do without onnx

    try:
        ours = path.is_file() and load(path, load_external_data=False).producer_name == "snncompile"
    except Exception:  # not ONNX at all
        ours = False
    if not ours:
        raise fail("SNN031", f"{path} is no step model that snncompile wrote; it is left alone", help="choose another place with -o")


def _has_runtime() -> bool:
    from snncompile.backends.onnx.runtime import import_runtime  # noqa: PLC0415 - an extra

    try:
        import_runtime()
    except CompileError:
        return False
    return True


def _compare(bundle: Bundle) -> BackendRecord:
    """Random payloads over the whole range of every input, on both; a difference is our fault, and the file is not written."""
    from snncompile.backends.onnx.runtime import run_onnx  # noqa: PLC0415 - an extra

    graph, rng = bundle.graph, np.random.default_rng(0)
    payloads = {n.name: rng.integers(n.low, n.high + 1, (SAMPLES, 1 if n.static else graph.steps, *n.size)) for n in graph.of(IntInput)}
    found, seconds = run_onnx(graph, payloads)
    kept = reference.run(graph, payloads, record=reference.references(graph))
    record = compare_bits("onnx", graph, bundle.schedule, kept, found, seconds)
    if record.differing_bits:
        raise InternalError(f"ONNX Runtime differs from the reference in {record.differing_bits} bits: {record.first}")
    return record


def _write(path: Path, content: bytes) -> None:
    """The whole file or none (SNN030)."""
    try:
        files.write(path, content)
    except OSError as e:
        raise unwritable(path, e) from e


__all__ = ["convert"]

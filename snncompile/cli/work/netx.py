"""lava-dl's ``.net`` files on the command line: what the options mean for them, and the samples to run them on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from snncompile.backends.bundle import Bundle
from snncompile.cli.data import Data, check_range, load_data
from snncompile.cli.work.request import ModelOptions
from snncompile.errors import CompileError, fail
from snncompile.importers.netx import Wishes, is_net, load_net
from snncompile.importers.program import ImportedProgram
from snncompile.ir.graph import Graph, Readout
from snncompile.ir.integer import IntInput
from snncompile.ir.text import to_text
from snncompile.quantize import Options

BLOCKERS = ("SNN150", "SNN151", "SNN152", "SNN153", "SNN403")
"""What the file itself may have wrong."""
RANDOM_SAMPLES = 32
RANDOM_VALUES = 2**24


def load(
    path: Path, options: ModelOptions, *, target: str, input_range: tuple[float, float, float] | None = None,
    readout: Readout | None = None, quantiser: Options | None = None, calibration: Path | None = None,
) -> ImportedProgram:  # fmt: skip
    """Import a file; options that choose how to capture or quantise a model have no meaning for integers (SNN154)."""
    given = {
        "--arch": options.arch, "--arch-args": options.arch_args, "--layout": options.layout, "--trust-pickle": options.trust_pickle,
        "--calibration": calibration, "--weight-bits, --input-bits or --exact": quantiser is not None and quantiser != Options(),
    }  # fmt: skip
    if options.input_shape is not None and not isinstance(options.input_shape, tuple):
        raise fail("SNN154", f"{path} has one input without a name", help="write --input-shape once, like 1,28,28")
    useless = [name for name, value in given.items() if value]
    if useless:
        raise fail("SNN154", f"{path} holds integers, for which {useless[0]} means nothing", help=f"leave {useless[0]} out")
    return load_net(path, target, Wishes(steps=options.steps, input_shape=options.input_shape, input_range=input_range, readout=readout))


def samples(program: ImportedProgram, path: Path | None) -> Data:
    """The user's samples, or seeded random values on the input's grid."""
    if path is not None:
        data = load_data(path, program.input_shape, program.steps)
        check_range(data, program.input_range)
        return data
    (source,) = program.result.graph.of(IntInput)
    low, high, grid = program.input_range
    still = not grid  # images, which neurons encode; spikes differ from step to step
    size = (1 if still else program.steps, *program.input_shape)
    count = max(1, min(RANDOM_SAMPLES, RANDOM_VALUES // int(np.prod(size))))
    k = np.random.default_rng(0).integers(source.low, source.high + 1, (count, *size))
    x = np.clip(k * source.lsb + source.offset, low, high)
    return Data(np.asarray(x, dtype=np.float64), None, f"{count} seeded random samples")


def integers(program: ImportedProgram, stage: str | None) -> Graph:
    """The only stage that such a file has (SNN037)."""
    if stage not in (None, "integer"):
        file = program.facts["file"]
        raise fail("SNN037", f"{file} holds integers, it has no stage '{stage}'", help=f"snncompile inspect {file} --stage integer")
    return program.result.graph


def check_same(bundle: Bundle, path: Path, options: ModelOptions) -> None:
    """Import the file again as the bundle's settings say: the programs must be the same integers (SNN040)."""
    settings = bundle.manifest["settings"]
    known = settings.get("input_range")
    again = ModelOptions(
        arch=options.arch, arch_args=options.arch_args, layout=options.layout, trust_pickle=options.trust_pickle,
        steps=options.steps or settings["steps"], input_shape=options.input_shape or tuple(settings["input_shape"]),
    )  # fmt: skip
    way_out = "name the file that the bundle was exported from"
    try:
        program = load(
            path, again, target=bundle.manifest["target"]["name"], input_range=None if known is None else tuple(known),
            readout=bundle.manifest["readout"],
        )  # fmt: skip
    except CompileError as e:
        if e.code == "SNN154":
            raise
        notes = [e.diagnostics[0].message]
        raise fail("SNN040", f"{bundle.path} was not made from {path}, which does not fit its settings", notes=notes, help=way_out) from e
    difference = _difference(bundle.graph, program.result.graph)
    if difference is not None:
        raise fail("SNN040", f"{bundle.path} was not made from {path}: {difference}", help=way_out)


def _difference(ours: Graph, theirs: Graph) -> str | None:
    (text, arrays), (other, others) = to_text(ours), to_text(theirs)
    lines = [(a, b) for a, b in zip(text.splitlines()[1:], other.splitlines()[1:], strict=False) if a != b]  # the first has the file's name
    if lines or text.count("\n") != other.count("\n"):
        return f"their programs differ, first in '{lines[0][0].strip()}'" if lines else "one program has more layers"
    apart = next((k for k in arrays if not np.array_equal(arrays[k], others[k])), None)
    return None if apart is None else f"'{apart}' holds other integers"


__all__ = ["BLOCKERS", "check_same", "integers", "is_net", "load", "samples"]

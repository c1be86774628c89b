"""``snncompile convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from snncompile.cli.options import FILE, json_option, model_options


@click.command(short_help="Write a bundle's program as an ONNX model, or a model as a NIR file.")
@click.argument("source", type=FILE, metavar="BUNDLE_OR_MODEL")
@click.option("-o", "--output", type=FILE, metavar="OUT", help="Ends in .onnx or .nir. [default: BUNDLE's name + .step.onnx, here]")
@click.option("--traces", is_flag=True, help="Also give payload and membranes of every population as outputs.")
@model_options
@json_option
@click.pass_obj
def convert(obj: dict[str, Any], /, source: Path, output: Path | None, traces: bool, as_json: bool, **options: Any) -> int:
    """Write the integer program of BUNDLE as an ONNX model of one time step, with its states as inputs and outputs; or MODEL, a file that
    export takes, as a NIR file for other tools, with a warning for each that will misread it.

    ONNX: standard operators only (opset 17). Where ONNX Runtime is installed, the model is run on random payloads and compared with the
    integer reference bit for bit before it is written.

    \b
    Example:
      snncompile convert model.snn -o model.onnx
      snncompile convert model.pt -o model.nir
    """
    if output is not None and output.suffix == ".nir":
        from snncompile.cli.work import convert_nir as nir  # noqa: PLC0415

        return nir.convert_nir(nir.Request(model=source, output=output, as_json=as_json, quiet=obj["quiet"], **options))
    from snncompile.cli.work import convert as work  # noqa: PLC0415

    return work.convert(source, output, traces=traces, as_json=as_json, quiet=obj["quiet"])

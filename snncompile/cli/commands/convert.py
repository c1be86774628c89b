"""``snncompile convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from snncompile.cli.options import FILE, json_option


@click.command(short_help="Write a bundle's program as an ONNX model.")
@click.argument("bundle", type=FILE)
@click.option("-o", "--output", type=FILE, metavar="OUT.onnx", help="Where to write it. [default: BUNDLE's name + .step.onnx, here]")
@click.option("--traces", is_flag=True, help="Also give payload and membranes of every population as outputs.")
@json_option
@click.pass_obj
def convert(obj: dict[str, Any], /, bundle: Path, output: Path | None, traces: bool, as_json: bool) -> int:
    """Write the integer program of BUNDLE as an ONNX model of one time step, with its states as inputs and outputs.

    Standard operators only (opset 17). Where ONNX Runtime is installed, the model is run on random payloads and compared with the
    integer reference bit for bit before it is written.

    \b
    Example:
      snncompile convert model.snn -o model.onnx
    """
    from snncompile.cli.work import convert as work  # noqa: PLC0415

    return work.convert(bundle, output, traces=traces, as_json=as_json, quiet=obj["quiet"])

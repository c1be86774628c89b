"""``snncompile inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from snncompile.cli.options import FILE, Range, json_option, model_options


@click.command(short_help="Print the network as text, at any stage.")
@click.argument("model_or_bundle", type=FILE, required=False)
@click.option(
    "--stage", type=click.Choice(["captured", "folded", "integer"]), default=None,
    help="As read off PyTorch, after the passes, or as the chip computes. [default: integer for bundles, folded for models]",
)  # fmt: skip
@click.option(
    "--ledger", is_flag=True, help="Every decision between the file and the chip, what each pass did, and its rules that did not fire."
)
@click.option("--target", default="loihi2-sim", show_default=True, help="For --stage integer of a model.")
@click.option("--data", type=FILE, metavar="FILE", help=".npz with x, for --stage integer of a model whose input range is not known.")
@click.option("--input-range", type=Range(), help="Lowest and highest input value, and their grid.")
@model_options
@json_option
@click.pass_obj
def inspect(obj: dict[str, Any], /, model_or_bundle: Path | None, **options: Any) -> int:
    """Print MODEL_OR_BUNDLE in the text form of the intermediate representation: one line a node, with its source line.

    \b
    Example:
      snncompile inspect model.pt --stage captured
      snncompile inspect model.snn
    """
    from snncompile.cli.work import inspect as work  # noqa: PLC0415

    return work.inspect(work.Request(path=model_or_bundle, quiet=obj["quiet"], **options))

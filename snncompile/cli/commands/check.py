"""``snncompile check``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from snncompile.cli.options import FILE, Range, json_option, model_options


@click.command(short_help="Say all at once what stands between a network and the chip.")
@click.argument("model", type=FILE, required=False)
@click.option("--target", default="loihi2-sim", show_default=True, help="The chip; see `snncompile targets`.")
@click.option("--data", type=FILE, metavar="FILE", help=".npz with x, where the input range is not known.")
@click.option("--input-range", type=Range(), help="Lowest and highest input value, and their grid.")
@model_options
@json_option
@click.pass_obj
def check(obj: dict[str, Any], /, model: Path | None, **options: Any) -> int:
    """Check MODEL without compiling it: each operation with its verdict, and every blocker with your line and a way out.

    Verdicts: native (synapses, wiring, built-in neurons), custom neuron program, host (before the first or behind the last neuron),
    impossible. The exit status is 1 if anything is in the way.

    \b
    Example:
      snncompile check model.pt
      snncompile check --arch net.py:build --input-shape 1,28,28 --steps 4
    """
    from snncompile.cli.work import check as work  # noqa: PLC0415

    return work.check(work.Request(path=model, quiet=obj["quiet"], **options))

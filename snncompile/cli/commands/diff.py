"""``snncompile diff``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from snncompile.cli.options import FILE, Range, json_option, model_options
from snncompile.cli.side_name import SideName, SideParameter


@click.command(short_help="Find where two runs of a network first differ, and why.")
@click.argument("a", type=SideParameter())
@click.argument("b", type=SideParameter())
@click.option("--data", type=FILE, required=True, metavar="FILE", help=".npz with x (N, shape) or (N, T, shape).")
@click.option("--samples", type=click.IntRange(min=1), default=32, show_default=True, metavar="N", help="How many to run, from the first.")
@click.option(
    "-o", "--output", type=FILE, metavar="FOLDER", default=Path("reproduction"), show_default=True,
    help="Where the first difference is written as a folder that shows it alone.",
)  # fmt: skip
@click.option("--target", default="loihi2-sim", show_default=True, help="For the integer stages of a model.")
@click.option("--input-range", type=Range(), help="Lowest and highest input value, and their grid. [default: from the model or the data]")
@click.option("--timeout", type=click.FloatRange(min=1), default=1800.0, show_default=True, metavar="SECONDS", help="Limit of a Lava run.")
@click.option("--arch-b", metavar="MODULE:FACTORY", help="What builds the network of B, if not --arch.")
@click.option("--arch-args-b", metavar="JSON", help="Its arguments, if not --arch-args.")
@click.option("--layout-b", type=click.Choice(["step", "TB", "BT"]), help="How B is called, if not as --layout says.")
@model_options
@json_option
@click.pass_obj
def diff(obj: dict[str, Any], /, a: SideName, b: SideName, **options: Any) -> int:
    """Run A and B on the same samples, population by population on the same inputs, and name the cause of the first difference.

    A side is FILE[@DIALECT][:STAGE]. FILE is anything that export takes, or a bundle; empty, it is what --arch makes. DIALECT is the
    tool whose conventions a .nir file is read by. STAGE is one of

    \b
      pytorch    PyTorch itself                            (what a model is without a stage)
      captured   the graph read off it, or off a file      (what an imported file is without one)
      folded     after the passes
      integer    the integer reference                     (what a bundle or a .net is without one)
      hops       the reference in hardware time
      lava onnx  Lava's simulator, ONNX Runtime

    The exit status is 0 if nothing differs, 1 if something does. Each possible cause is tested by running the population again without
    it. A folder with the population, its inputs and a script shows the difference alone.

    \b
    Example:
      snncompile diff model.pt model.pt:integer --data images.npz
      snncompile diff net.snn:lava net.snn --data images.npz --json
      snncompile diff net.nir@sinabs net.nir@norse --data spikes.npz
      snncompile diff weights.pt net.onnx --arch net.py:make --input-shape 8 --steps 6 --data x.npz
    """
    from snncompile.cli.work import diff as work  # noqa: PLC0415

    return work.diff(work.Request(a=a, b=b, quiet=obj["quiet"], **options))

"""``snncompile run``."""

from __future__ import annotations

from typing import Any

import click

from snncompile.cli.options import FILE, json_option


@click.command(short_help="Run a bundle on data: predictions and logits.")
@click.argument("bundle", type=FILE)
@click.option("--data", type=FILE, required=True, metavar="FILE", help=".npz with x (N, shape) or (N, T, shape) and optional labels y.")
@click.option(
    "--backend", type=click.Choice(["reference", "lava", "onnx"]), default="reference", show_default=True, help="What executes it."
)
@click.option("-o", "--output", type=FILE, metavar="OUT.npz", help="Write predictions, logits, integer outputs over time and their scale.")
@click.option("--timeout", type=click.FloatRange(min=1), default=1800.0, show_default=True, metavar="SECONDS", help="Limit of a Lava run.")
@json_option
@click.pass_obj
def run(obj: dict[str, Any], /, **options: Any) -> int:
    """Run BUNDLE on every sample.

    \b
    Example:
      snncompile run model.snn --data images.npz -o predictions.npz
    """
    from snncompile.cli.work import run as work  # noqa: PLC0415

    return work.run(quiet=obj["quiet"], **options)

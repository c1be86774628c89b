"""``snncompile verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from snncompile.cli.options import FILE, json_option, model_options


@click.command(short_help="Check every claim of a bundle on data.")
@click.argument("bundle", type=FILE)
@click.option("--data", type=FILE, required=True, metavar="FILE", help=".npz with x (N, shape) or (N, T, shape) and optional labels y.")
@click.option("--against", type=FILE, metavar="MODEL", help="The trained network the bundle came from (or give --arch alone).")
@click.option(
    "--backend", "backends", type=click.Choice(["lava", "onnx", "reference"]), multiple=True,
    help="Executors to compare bit for bit with the integer reference: Lava's simulator, ONNX Runtime, or the reference in hardware time. "
    "May be repeated. [default: reference]",
)  # fmt: skip
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="How many samples to run on the executors. [default: all]")
@click.option(
    "--timeout", type=click.FloatRange(min=1), default=1800.0, show_default=True, metavar="SECONDS", help="Limit of the Lava run."
)
@click.option("--learning", is_flag=True, help="Check the layer that learns: Lava against the integer engine and PyTorch's online rule.")
@click.option("--test", type=FILE, metavar="FILE", help="With --learning: samples to measure on. [default: the last quarter of the data]")
@click.option("--no-lava", is_flag=True, help="With --learning: do not run Lava's simulator.")
@model_options
@json_option
@click.pass_obj
def verify(obj: dict[str, Any], /, bundle: Path, learning: bool, test: Path | None, no_lava: bool, **options: Any) -> int:
    """Check BUNDLE: its files, the integer program against the trained network, and executors bit for bit.

    The exit status is 1 if a claim fails; the first divergence is printed and its traces are written beside the bundle.

    \b
    Example:
      snncompile verify model.snn --data images.npz --against model.pt --backend lava --json
      snncompile verify learner.snn --learning --data images.npz --json
    """
    elsewhere = ("data", "samples", "timeout", "as_json")
    given = {k: bool(v) for k, v in {"test": test, "no_lava": no_lava, **options}.items()}
    unread = [k for k, v in given.items() if v and (k not in (*elsewhere, "test", "no_lava") if learning else k in ("test", "no_lava"))]
    if unread:
        name = {"backends": "backend", "states": "state"}.get(unread[0], unread[0]).replace("_", "-")
        raise click.UsageError(f"--{name} goes {'not' if learning else 'only'} with --learning.", click.get_current_context())
    if learning:
        from snncompile.cli.work import verify_learning as learned  # noqa: PLC0415

        kept = {k: options[k] for k in elsewhere}
        return learned.verify_learning(learned.Request(bundle=bundle, test=test, lava=not no_lava, quiet=obj["quiet"], **kept))
    from snncompile.cli.work import verify as work  # noqa: PLC0415

    return work.verify(work.Request(bundle=bundle, quiet=obj["quiet"], **options))

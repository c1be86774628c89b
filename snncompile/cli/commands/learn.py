"""``snncompile learn``."""

from __future__ import annotations

from typing import Any

import click

from snncompile.cli.options import FILE, json_option


@click.command(short_help="Let a bundle learn from labelled data and save what it learned.")
@click.argument("bundle", type=FILE)
@click.option("--data", type=FILE, required=True, metavar="FILE", help=".npz with x and labels y: the stream, in its order.")
@click.option("-o", "--output", type=FILE, required=True, metavar="OUT", help="Folder, or file ending in .zip, of the learned bundle.")
@click.option("--backend", type=click.Choice(["reference", "lava"]), default="reference", show_default=True, help="What executes it.")
@click.option("--timeout", type=click.FloatRange(min=1), default=1800.0, show_default=True, metavar="SECONDS", help="Limit of a Lava run.")
@json_option
@click.pass_obj
def learn(obj: dict[str, Any], /, **options: Any) -> int:
    """Run BUNDLE, exported with --learn, over the samples once, learning on the (simulated) chip.

    The learned weights are read back and written into OUT, which runs, verifies and learns on like any other bundle.

    \b
    Example:
      snncompile learn learner.snn --data stream.npz -o learned.snn
    """
    from snncompile.cli.work import learn as work  # noqa: PLC0415

    return work.learn_bundle(quiet=obj["quiet"], **options)

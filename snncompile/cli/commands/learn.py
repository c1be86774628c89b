"""``snncompile learn``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from snncompile.cli.options import FILE, json_option


@click.command(short_help="Let a bundle learn from labelled data and save what it learned.")
@click.argument("bundle", type=FILE)
@click.option("--data", type=FILE, required=True, metavar="FILE", help=".npz with x and labels y: the stream, in its order.")
@click.option("-o", "--output", type=FILE, required=True, metavar="OUT", help="Folder, or file ending in .zip, of the learned bundle.")
@click.option("--backend", type=click.Choice(["reference", "lava"]), default="reference", show_default=True, help="What executes it.")
@click.option(
    "--continue", "go_on", is_flag=True, help="Leave out the samples of FILE that BUNDLE had learned from when it was interrupted."
)
@click.option(
    "--reload", is_flag=True, help="Begin with the 8-bit weights of BUNDLE and fresh traces, as a chip does that is loaded with it."
)
@click.option(
    "--save-every", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True, metavar="MINUTES",
    help="Save what was learned so far. Not on Lava.",
)  # fmt: skip
@click.option("--timeout", type=click.FloatRange(min=1), default=1800.0, show_default=True, metavar="SECONDS", help="Limit of a Lava run.")
@json_option
@click.pass_obj
def learn(obj: dict[str, Any], /, bundle: Path, **options: Any) -> int:
    """Run BUNDLE, exported with --learn, over the samples once, learning on the (simulated) chip.

    The learned weights are read back and written into OUT, which runs, verifies and learns on like any other bundle. A bundle that has
    learned goes on where it stopped, bit for bit as if both streams were one. Interrupted, the command saves what was learned so far
    as OUT.partial beside OUT, and says how to go on.

    \b
    Example:
      snncompile learn learner.snn --data stream.npz -o learned.snn
      snncompile learn learned.partial.snn --data stream.npz --continue -o learned.snn
    """
    from snncompile.cli.work import learn as work  # noqa: PLC0415

    return work.learn_bundle(work.Request(bundle=bundle, quiet=obj["quiet"], **options))

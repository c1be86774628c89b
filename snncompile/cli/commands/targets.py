"""``snncompile targets``."""

from __future__ import annotations

import click

from snncompile.cli.options import json_option


@click.command(short_help="List the targets, or everything known about one.")
@click.argument("name", required=False)
@json_option
def targets(name: str | None, as_json: bool) -> int:
    """List the targets; with NAME (or the path of a .toml file of yours), every number with unit, source and status.

    \b
    Example:
      snncompile targets loihi2-sim
    """
    from snncompile.cli.work import targets as work  # noqa: PLC0415

    return work.targets(name, as_json=as_json)

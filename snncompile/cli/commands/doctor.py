"""``snncompile doctor``."""

from __future__ import annotations

import click

from snncompile.cli.options import json_option


@click.command(short_help="Check this machine: Python, torch, Lava's interpreter, uv.")
@json_option
def doctor(as_json: bool) -> int:
    """Say what works on this machine and how to fix what does not; changes and downloads nothing.

    \b
    Example:
      snncompile doctor
    """
    from snncompile.cli.work import doctor as work  # noqa: PLC0415

    return work.doctor(as_json=as_json)

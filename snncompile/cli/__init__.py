"""The command line. Importing it, and every ``--help``, stays clear of torch and of the compiler."""

from __future__ import annotations


def main() -> None:
    """Run ``snncompile``: exit status 0 done, 1 user error or failed claim, 2 usage, 70 internal error, 130 interrupted."""
    from snncompile.cli.app import cli  # noqa: PLC0415

    cli(prog_name="snncompile")


__all__ = ["main"]

"""The command line. Importing it, and every ``--help``, stays clear of torch and of the compiler."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run ``snncompile``: exit status 0 done, 1 user error or failed claim, 2 usage, 70 internal error, 128 + n ended by signal n (130)."""
    try:
        from snncompile.cli.app import cli  # noqa: PLC0415

        cli(prog_name="snncompile")
    except KeyboardInterrupt:  # before there was a command
        sys.stderr.write("interrupted\n")
        sys.exit(128 + signal.SIGINT)
    finally:  # all is said; what the interpreter still clears away, nobody interrupts
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


__all__ = ["main"]

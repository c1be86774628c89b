"""The group of commands, and the one place where anything that goes wrong becomes an exit status and a message."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from snncompile import __version__
from snncompile.cli import show
from snncompile.cli.commands.check import check
from snncompile.cli.commands.convert import convert
from snncompile.cli.commands.diff import diff
from snncompile.cli.commands.doctor import doctor
from snncompile.cli.commands.export import export
from snncompile.cli.commands.inspect import inspect
from snncompile.cli.commands.learn import learn
from snncompile.cli.commands.run import run
from snncompile.cli.commands.targets import targets
from snncompile.cli.commands.verify import verify
from snncompile.errors import CompileError, fail
from snncompile.signals import Terminated, as_exceptions

USER_ERROR, USAGE, INTERNAL = 1, 2, 70
ISSUES = "https://github.com/snncompile/snncompile/issues"


class App(click.Group):
    """A group whose ``main`` never shows a traceback."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run a command and exit."""
        arguments = list(sys.argv[1:] if args is None else args)
        as_json = "--json" in arguments
        with as_exceptions(), warnings.catch_warnings():
            warnings.showwarning = show.python_warning
            status = self._status(arguments, prog_name, as_json, extra)
        sys.exit(status)

    def _status(self, arguments: list[str], prog_name: str | None, as_json: bool, extra: dict[str, Any]) -> int:
        try:
            extra["standalone_mode"] = False
            result = super().main(arguments, prog_name or "snncompile", **extra)
            sys.stdout.flush()
            return result if isinstance(result, int) else 0
        except click.exceptions.NoArgsIsHelpError as e:
            e.show()
            return USAGE
        except click.ClickException as e:
            show.usage_error(e, as_json=as_json)
            return e.exit_code
        except click.exceptions.Exit as e:
            return e.exit_code
        except (Terminated, KeyboardInterrupt, click.Abort) as e:
            return show.interrupted(e.number if isinstance(e, Terminated) else signal.SIGINT, as_json=as_json)
        except CompileError as e:
            show.diagnostics(e.diagnostics, as_json=as_json)
            return USER_ERROR
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of our output left
            return USER_ERROR
        except MemoryError:
            error = fail("SNN009", "the machine has too little memory for this", help="give fewer samples, or a smaller network")
            show.diagnostics(error.diagnostics, as_json=as_json)
            return USER_ERROR
        except Exception as e:
            show.internal_error(e, _write_traceback(), ISSUES, as_json=as_json)
            return INTERNAL


def _write_traceback() -> Path | None:
    """Keep the traceback in a file of the temp folder."""
    try:
        handle, name = tempfile.mkstemp(prefix="snncompile-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"snncompile {__version__}, Python {sys.version}\n{sys.argv}\n\n{traceback.format_exc()}")
        return Path(name)
    except OSError:
        return None


@click.group(cls=App, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "-V", "--version", message="snncompile %(version)s")
@click.option("-q", "--quiet", is_flag=True, help="No progress, only results and errors.")
@click.pass_context
def cli(ctx: click.Context, quiet: bool) -> None:
    """Compile spiking networks from PyTorch to neuromorphic chips, with proof that nothing was lost.

    \b
    Example:
      snncompile export examples/mnist_ottt/model.pt --target loihi2-sim
      snncompile verify model.snn --data examples/mnist_ottt/images.npz --backend lava
    """
    ctx.obj = {"quiet": quiet}


for command in (export, check, verify, diff, run, learn, convert, inspect, targets, doctor):
    cli.add_command(command)

__all__ = ["cli"]

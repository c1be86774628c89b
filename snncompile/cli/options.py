"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
FILE = click.Path(path_type=Path)


if TYPE_CHECKING:  # generic for the type checker alone: click before 8.4 has no parameters there
    ShapeType = click.ParamType[tuple[int, ...]]
    RangeType = click.ParamType[tuple[float, float, float]]
    NamedShapeType = click.ParamType[tuple[str, tuple[int, ...]]]
else:
    ShapeType = RangeType = NamedShapeType = click.ParamType


class Shape(ShapeType):
    """``1,28,28`` or ``1x28x28``."""

    name = "C,H,W"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Positive whole numbers."""
        if isinstance(value, tuple):
            return value
        try:
            shape = tuple(int(n) for n in re.split("[,x]", str(value).strip("()[] ").removesuffix(",")))
        except ValueError:
            shape = ()
        if not shape or min(shape) < 1:
            self.fail(f"'{value}' is not a shape; write the sizes of one sample at one step, like 1,28,28", param, ctx)
        return shape


class NamedShape(NamedShapeType):
    """A shape, or ``NAME=1,28,28`` for one of several inputs."""

    name = "[NAME=]C,H,W"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, tuple[int, ...]]:
        """The name, empty if there is none, and the sizes."""
        name, equals, sizes = str(value).rpartition("=")
        if equals and not name.isidentifier():
            self.fail(f"'{name}' is not the name of an input; write the name of forward's parameter, like x=1,28,28", param, ctx)
        return name, Shape().convert(sizes, param, ctx)


def _shapes(ctx: click.Context, param: click.Parameter, given: tuple[tuple[str, tuple[int, ...]], ...]) -> Any:
    """No shape, one, several in forward's order, or all by name."""
    names = [name for name, _ in given]
    if not given:
        return None
    if not any(names):
        return given[0][1] if len(given) == 1 else [shape for _, shape in given]
    if not all(names):
        raise click.BadParameter("name all inputs or none", ctx, param)
    if len(set(names)) < len(names):
        raise click.BadParameter(f"the input '{next(n for n in names if names.count(n) > 1)}' has two shapes", ctx, param)
    return dict(given)


class Range(RangeType):
    """``low,high`` or ``low,high,grid``."""

    name = "LOW,HIGH[,GRID]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float, float]:
        """Two or three numbers."""
        if isinstance(value, tuple):
            return value
        try:
            low, high, grid = (*(float(n) for n in str(value).split(",")), 0.0)[:3]
        except ValueError:
            low, high, grid = 1.0, 0.0, 0.0
        if not (-inf < low < high < inf and 0 <= grid < inf) or str(value).count(",") > 2:
            self.fail(f"'{value}' is not a range; write the lowest and highest value, like 0,1 or 0,255,1 for whole numbers", param, ctx)
        return low, high, grid


def model_options(command: Command) -> Command:
    """How to build and run a model whose file does not say so itself."""
    options = (
        click.option("--arch", metavar="MODULE:FACTORY", help="What builds the network: package.module:factory or path/file.py:factory."),
        click.option("--arch-args", metavar="JSON", help="Keyword arguments of the factory."),
        click.option(
            "--input-shape", type=NamedShape(), multiple=True, callback=_shapes,
            help="Shape of one sample at one step, without batch and time axes. Once for each of several inputs, by name or in order.",
        ),
        click.option("--steps", type=click.IntRange(min=1), metavar="T", help="Time steps per sample."),
        click.option(
            "--layout", type=click.Choice(["step", "TB", "BT"]),
            help="Call the model once per step, or once with a time axis first or second. [default: step]",
        ),
        click.option(
            "--state", "states", metavar="IN=OUT", multiple=True,
            help="Of an ONNX file: the output that is an input's next value. May be repeated. [default: by name]",
        ),
        click.option(
            "--nir-dialect", metavar="TOOL", help="Of a NIR file: the tool whose conventions it follows; see docs/nir.md."
        ),
        click.option(
            "--nir-set", metavar="[NODE.]KEY=VALUE", multiple=True, help="Of a NIR file: a convention that differs. May be repeated."
        ),
        click.option("--trust-pickle", is_flag=True, help="Load a pickled module. That runs code from the file."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _quiet(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and isinstance(ctx.obj, dict):
        ctx.obj["quiet"] = True


def json_option(command: Command) -> Command:
    """One JSON object instead of text; and ``-q`` behind the command as well as before it."""
    quiet = click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_quiet, help="No progress, only results and errors.")
    command = quiet(command)
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")(command)


__all__ = ["FILE", "NamedShape", "Range", "Shape", "json_option", "model_options"]

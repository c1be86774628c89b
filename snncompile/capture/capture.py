"""The capture stage as one function: a PyTorch module in, a float graph out, checked against the module."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from snncompile.capture.driver import Driver, Layout, detect, run
from snncompile.capture.emit import Builder
from snncompile.capture.expressions import Expressions, leads
from snncompile.capture.fold import check_replay, fold, normalise, replay
from snncompile.capture.recognise import Population, recognise
from snncompile.capture.roll import Rolled, execute_rolled, roll
from snncompile.capture.trace import trace
from snncompile.capture.unmerge import unmerge
from snncompile.errors import CompileError, InternalError, fail
from snncompile.ir.graph import Graph, Shape

SHORT, LONGER = 3, 8


@dataclass(frozen=True)
class Captured:
    """A captured network: its float graph, how to run the original, and the rolled operations it was read off."""

    graph: Graph
    driver: Driver
    rolled: Rolled
    populations: tuple[Population, ...]
    neuron_names: dict[str, str]


def capture(model: torch.nn.Module, *, input_shape: Shape, steps: int, layout: Layout = "step", name: str = "network") -> Captured:
    """Read the network's maths off its execution.

    model        any module; it is copied and run in evaluation mode
    input_shape  of one sample at one step, without batch and time axes
    steps        T, the number of time steps per sample
    layout       see ``snncompile.capture.driver``
    raises       CompileError with the user's line; InternalError for what the capture did not foresee
    """
    try:
        return _capture(model, input_shape, steps, layout, name)
    except (CompileError, InternalError, MemoryError):
        raise
    except Exception as e:
        raise InternalError(f"the capture of this network failed with {type(e).__name__}: {e}; please report the network") from e


def _capture(model: torch.nn.Module, input_shape: Shape, steps: int, layout: Layout, name: str) -> Captured:
    """Trace, roll, recognise, emit."""
    if steps < 1:
        raise fail("SNN101", f"--steps is {steps}; a network runs at least one step")
    _finite(model)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((max(steps, SHORT), 1, *input_shape), generator=generator)
    driver = detect(model, layout, x[:steps])
    rolled, traced_shape, reduced = _shortest(model, driver, x, steps)
    lead = len(traced_shape) - len(input_shape)
    expressions = Expressions(rolled, leads(rolled, lead, traced_shape))
    populations = recognise(rolled, expressions)
    builder = Builder(rolled, expressions, populations, name, steps)
    builder.input_shape, builder.traced_input = tuple(input_shape), traced_shape
    labels = ["out"] if len(rolled.outputs) == 1 else [f"out{k}" for k in range(len(rolled.outputs))]
    graph = builder.build(labels)
    return Captured(graph, replace(driver, reduced=reduced), rolled, tuple(populations), dict(builder.neuron_names))


def _shortest(model: torch.nn.Module, driver: Driver, x: torch.Tensor, steps: int) -> tuple[Rolled, tuple[int, ...], tuple[str, ...]]:
    """Roll the shortest trace that shows the network's step; all ``steps`` where constants differ between them."""
    lengths = sorted({SHORT, min(LONGER, max(steps, SHORT)), steps}) if driver.per_step else [steps]
    first: CompileError | None = None
    for length in lengths:
        try:
            found = _roll(model, driver, x[:length])
        except CompileError as e:
            first = first or e
            continue
        if length >= steps or (not found[0].per_step and _extrapolates(model, driver, found, x[:steps])):
            return found
    if first is None:
        return _roll(model, driver, x[:steps])
    raise first


def _extrapolates(model: torch.nn.Module, driver: Driver, found: tuple[Rolled, tuple[int, ...], tuple[str, ...]], x: torch.Tensor) -> bool:
    """Whether the step that was seen in the first steps computes what the network computes in all of them."""
    rolled = found[0]
    history = execute_rolled(rolled, [driver.frame(frame) for frame in x], rolled.outputs)
    for name, theirs in zip(rolled.outputs, run(model, driver, x), strict=True):
        mine = torch.stack([now[name].float() for now in history])
        if mine.numel() == theirs.numel() and not torch.allclose(mine.reshape(theirs.shape), theirs.float(), rtol=1e-3, atol=1e-4):
            return False
    return True


def _finite(model: torch.nn.Module) -> None:
    """Refuse weights that are no numbers, before they spoil every comparison."""
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise fail("SNN125", f"'{name}' holds NaN or infinity", help="the training diverged, or the checkpoint is damaged")


def _roll(model: torch.nn.Module, driver: Driver, x: torch.Tensor) -> tuple[Rolled, tuple[int, ...], tuple[str, ...]]:
    """Trace, replay on two inputs, fold, roll; also the traced input's shape and the outputs' reductions over time."""
    flat = normalise(trace(model, driver, x))
    if not flat.per_step:
        flat = unmerge(flat, replay(flat, [_whole(driver, x)]), driver.time_axis)
    frames = [driver.frame(frame) for frame in x]
    values = check_replay(flat, frames, run(model, driver, x), "the input it was recorded on")
    other = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) * 2 - 0.5
    check_replay(flat, [driver.frame(frame) for frame in other], run(model, driver, other), "another input")
    folded, constants = fold(flat, values)
    return roll(flat, folded, constants, values), tuple(frames[0].shape), flat.reduced


def _whole(driver: Driver, x: torch.Tensor) -> torch.Tensor:
    return x.transpose(0, 1) if driver.layout == "BT" else x

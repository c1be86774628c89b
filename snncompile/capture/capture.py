"""The capture stage as one function: a PyTorch module in, a float graph out, checked against the module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from snncompile.capture.convention import detect, parameters
from snncompile.capture.diagnose import reason, refuse_memories
from snncompile.capture.driver import Driver, Inputs, Layout, collected, run
from snncompile.capture.emit import Builder
from snncompile.capture.expressions import Expressions, leads
from snncompile.capture.fold import fold, normalise
from snncompile.capture.memory import settle_writes
from snncompile.capture.population import Population
from snncompile.capture.pristine import as_module, is_half, precision
from snncompile.capture.program import ProgramPopulation
from snncompile.capture.recognise import recognise
from snncompile.capture.record import record
from snncompile.capture.registers import has_registers, resolve_registers
from snncompile.capture.replay import check_replay, fixed_values, reduce, replay
from snncompile.capture.roll import Rolled, execute_rolled, roll
from snncompile.capture.spellings import respell
from snncompile.capture.unmerge import unmerge
from snncompile.errors import CompileError, Diagnostic, InternalError, fail
from snncompile.ir.graph import Graph, Shape
from snncompile.ledger import Decision

SHORT, LONGER, LONG = 3, 8, 24
FINAL = ("SNN112", "SNN115", "SNN116", "SNN128")  # a longer trace would not help
MOST_STEPS = 100_000
InputShape = Shape | Sequence[Shape] | Mapping[str, Shape]
Found = tuple[Rolled, tuple[str, ...]]


@dataclass(frozen=True)
class Captured:
    """A captured network: its float graph, how to run the original, and the rolled operations it was read off.

    ``inputs`` are the names of the inputs, in the model's order.
    ``decisions`` are the capture's lines of the ledger.
    """

    graph: Graph
    driver: Driver
    rolled: Rolled
    populations: tuple[Population | ProgramPopulation, ...]
    neuron_names: dict[str, str]
    inputs: tuple[str, ...] = ("x",)
    decisions: tuple[Decision, ...] = ()


def capture(
    model: torch.nn.Module | Callable[..., Any], *, input_shape: InputShape, steps: int, layout: Layout = "step", name: str = "network"
) -> Captured:
    """Read the network's maths off its execution.

    model        any module, or a function; it is copied and run in evaluation mode
    input_shape  of one sample at one step, without batch and time axes; a list of shapes for several inputs, or shapes by the name
                 of forward's parameter
    steps        T, the number of time steps per sample
    layout       see ``snncompile.capture.driver``
    raises       CompileError with the user's line; InternalError for what the capture did not foresee
    """
    try:
        return _capture(as_module(model), input_shape, steps, layout, name)
    except (CompileError, InternalError, MemoryError):
        raise
    except Exception as e:
        raise InternalError(f"the capture of this network failed with {type(e).__name__}: {e}; please report the network") from e


def _capture(model: torch.nn.Module, input_shape: InputShape, steps: int, layout: Layout, name: str) -> Captured:
    """Trace, roll, recognise, emit."""
    if steps < 1:
        raise fail("SNN101", f"--steps is {steps}; a network runs at least one step")
    if steps > MOST_STEPS:
        raise too_many_steps(steps)
    damaged = not_finite(model)
    if damaged:
        raise CompileError(damaged)
    inputs = named_inputs(model, input_shape)
    keywords = tuple(inputs) if isinstance(input_shape, Mapping) else ()
    xs = sample_inputs(model, inputs, max(steps, LONG))
    driver = detect(model, layout, tuple(x[:steps] for x in xs), keywords)
    refuse_memories(model, driver, tuple(x[:steps] for x in xs))
    rolled, reduced = _shortest(model, driver, xs, steps)
    lead = len(next(iter(rolled.inputs.values()))) - len(next(iter(inputs.values())))
    spelled = respell(rolled)
    expressions = Expressions(spelled, leads(spelled, lead))
    populations = recognise(spelled, expressions)
    builder = Builder(spelled, expressions, populations, name, steps, inputs)
    count = len(rolled.outputs)
    labels = [*driver.labels] if len(driver.labels) == count else ["out"] if count == 1 else [f"out{k}" for k in range(count)]
    graph = builder.build(labels)
    unused = [name for name in inputs if name not in graph.by_name]
    if unused:
        raise fail("SNN114", f"no output of the network depends on its input {unused[0]!r}", help="leave it out of the network")
    driver = replace(driver, reduced=reduced)
    return Captured(
        graph, driver, rolled, (*populations, *builder.programs), dict(builder.neuron_names), tuple(inputs), _decisions(model, driver)
    )


def too_many_steps(steps: int) -> CompileError:
    """The error for a T for which the evidence cannot be had in reasonable time."""
    return fail(
        "SNN101", f"--steps is {steps:,}; at most {MOST_STEPS:,} steps are compiled",
        notes=["the proof of every bound and the comparison with PyTorch go through all steps"],
        help="compile fewer steps: where nothing differs between them, the program is the same",
    )  # fmt: skip


def named_inputs(model: torch.nn.Module, input_shape: InputShape) -> dict[str, Shape]:
    """The inputs' shapes by name: ``x`` where there is one, else the user's names, or those of forward's first parameters."""
    if isinstance(input_shape, Mapping):
        return {name: tuple(shape) for name, shape in input_shape.items()}
    if all(isinstance(n, int) for n in input_shape):
        return {"x": tuple(input_shape)}  # type: ignore[arg-type]
    shapes = [tuple(shape) for shape in input_shape]  # type: ignore[arg-type]
    names = list(parameters(model))[: len(shapes)]
    return dict(zip(names if len(names) == len(shapes) else [f"x{k}" for k in range(len(shapes))], shapes, strict=True))


def _decisions(model: torch.nn.Module, driver: Driver) -> tuple[Decision, ...]:
    """What was decided about how to run the network."""
    made = []
    if driver.carried is not None:
        names = ", ".join(repr(name) for name in driver.carried.names)
        made.append(Decision(
            stage="capture", what="state that goes in and out of every call", value=names, source="forward's signature",
            why="the network takes what it returns; it is state, not an output",
        ))  # fmt: skip
    if is_half(model):
        made.append(Decision(
            stage="capture", what="arithmetic of weights in half precision", value="float32", source="default",
            why="the weights are taken as they are; half-precision rounding between operations is not a part of the network's meaning",
        ))  # fmt: skip
    return tuple(made)


def _shortest(model: torch.nn.Module, driver: Driver, xs: Inputs, steps: int) -> Found:
    """Roll the shortest trace that shows the network's step; all ``steps`` where constants differ between them."""
    first: CompileError | None = None
    other = _Other(model, driver, xs, steps)
    short = SHORT if driver.per_step else SHORT + 1  # the last step of a loop may lack what only a next one reads
    for length in dict.fromkeys((short, LONGER, steps, LONG)):
        try:
            found = _roll(model, driver, tuple(x[:length] for x in xs), other)
        except CompileError as e:
            if e.code in FINAL:
                raise
            first = first or e
            continue
        if length == steps or (not found[0].per_step and _extrapolates(driver, found, other)):
            return found
    if first is None:
        return _roll(model, driver, tuple(x[:steps] for x in xs), other)
    raise first


class _Other:
    """Another input than the recorded one, and the network's answers to it. Those of a network that is called step by step do not depend
    on how many steps follow, so that one run serves all questions."""

    def __init__(self, model: torch.nn.Module, driver: Driver, xs: Inputs, steps: int) -> None:
        generator = torch.Generator().manual_seed(1)
        self._model, self._driver, self.steps = model, driver, steps
        self._whole = tuple((torch.rand(x.shape, generator=generator) * 2 - 0.5).to(x.dtype) for x in xs)
        self._known: list[torch.Tensor] = []

    def inputs(self, length: int) -> Inputs:
        """The first steps."""
        return tuple(x[:length] for x in self._whole)

    def answers(self, length: int, reduced: tuple[str, ...] = ()) -> list[torch.Tensor]:
        """The network's outputs over the first steps, as ``run`` returns them."""
        if not self._driver.per_step:
            return run(self._model, replace(self._driver, reduced=reduced), self.inputs(length))
        if not self._known or len(self._known[0]) < length:
            self._known = run(self._model, self._driver, self.inputs(max(length, self.steps)))
        return [y[:length] for y in self._known]


def _extrapolates(driver: Driver, found: Found, other: _Other) -> bool:
    """Whether the step that was seen in the first steps computes what the network computes in all of them."""
    rolled, kinds = found
    history = list(execute_rolled(rolled, driver.frames(other.inputs(other.steps)), rolled.outputs))
    theirs = other.answers(other.steps, kinds)
    if len(theirs) != len(rolled.outputs):
        return False
    for k, name in enumerate(rolled.outputs):
        mine = reduce(torch.stack([now[name].float() for now in history]), kinds[k] if kinds else "")
        if mine.numel() != theirs[k].numel() or not torch.allclose(mine.reshape(theirs[k].shape), theirs[k].float(), rtol=1e-3, atol=1e-4):
            return False
    return True


def sample_inputs(model: torch.nn.Module, inputs: Mapping[str, Shape], steps: int) -> Inputs:
    """Seeded random values in 0..1 to trace with, by input (steps, 1, *shape)."""
    generator, dtype = torch.Generator().manual_seed(0), precision(model)
    return tuple(torch.rand((steps, 1, *shape), generator=generator).to(dtype) for shape in inputs.values())


def not_finite(model: torch.nn.Module) -> list[Diagnostic]:
    """Weights that are no numbers, and variances below 0, of which there is no root: they would spoil every comparison.

    What waits for its calibration says so itself when it is run.
    """
    waiting = {id(b) for m in model.modules() if getattr(m, "calibrated", True) is False for b in m.buffers(recurse=False)}
    negative = [
        Diagnostic("SNN125", f"'{name}' holds a negative variance, {float(value.min()):g}", help="the checkpoint is damaged")
        for name, value in model.named_buffers()
        if name.endswith(("running_var", "run_var")) and bool((value < 0).any())
    ]
    return negative + [
        Diagnostic("SNN125", f"'{name}' holds NaN or infinity", help="the training diverged, or the checkpoint is damaged")
        for name, value in (*model.named_parameters(), *model.named_buffers())
        if id(value) not in waiting and value.is_floating_point() and not torch.isfinite(value).all()
    ]


def _roll(model: torch.nn.Module, driver: Driver, xs: Inputs, other: _Other) -> Found:
    """Trace, replay on two inputs, fold, roll; also the outputs' reductions over time."""
    trace = record(model, driver, xs)
    answers, flat = collected(driver, trace.answers, len(xs[0])), normalise(settle_writes(trace))
    if has_registers(flat):
        flat = resolve_registers(flat, replay(flat, driver.calls(xs)))
    if not flat.per_step:
        flat = unmerge(flat, replay(flat, driver.calls(xs)), driver.time_axis)
    another = other.inputs(len(xs[0]))
    try:
        fixed = fixed_values(flat)
        values = check_replay(flat, driver.frames(xs), answers, "the input it was recorded on", fixed)
        check_replay(flat, driver.frames(another), other.answers(len(another[0])), "another input", fixed)
    except CompileError as e:
        raise reason(model, driver, another, e) from e
    folded, constants = fold(flat, values)
    return roll(flat, folded, constants, values), flat.reduced

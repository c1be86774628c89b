"""The proof that no register of an integer program overflows, or the places where it has to saturate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir.graph import Array, Shape
from snncompile.ir.neuron import at_step
from snncompile.ir.program import IntProgram
from snncompile.ir.program_code import Instruction, bits
from snncompile.ir.program_steps import interpolate
from snncompile.numerics import Format, Interval, multiply_shift
from snncompile.quantize.program.intervals import Pair, Task, analyse, monotone, together
from snncompile.quantize.program.ranges import lanes


@dataclass(frozen=True, kw_only=True)
class ProgramBounds:
    """Proved ranges over all steps, channels and inputs; and the registers whose bounds leave the format, by which factor."""

    registers: dict[str, tuple[int, int]]
    inputs: tuple[int, int]
    beyond: dict[str, float]

    @property
    def saturating(self) -> frozenset[str]:
        """Registers that have to saturate."""
        return frozenset(self.beyond)


def program_bounds(n: IntProgram, accumulators: Sequence[Interval], shape: Shape, steps: int, form: Format) -> ProgramBounds:
    """Bounds of every register of the integers themselves. Where a result may leave the format it is taken to saturate."""
    beyond: dict[str, float] = {}
    trial: dict[str, float] = {}
    inputs = [_current_input(n, accumulators, k, shape) for k in range(len(n.gain))]

    def given(t: int) -> dict[str, Pair]:
        env = {f"c{k}": lanes(at_step(c, t).astype(np.int64), shape) for k, c in enumerate(n.constants)}
        for k, ((low, high), gain, bias) in enumerate(zip(inputs, n.gain, n.bias, strict=True)):
            ends = [multiply_shift(end, g, n.gain_shift[k]) for g in lanes(at_step(gain, t), shape) for end in (low, high)]
            shift = lanes(at_step(bias, t), shape)
            env[f"i{k}"] = (np.min(np.broadcast_arrays(*ends), axis=0) + shift[0], np.max(np.broadcast_arrays(*ends), axis=0) + shift[1])
        return together(env)

    def apply(made: Instruction, args: Sequence[Pair]) -> Pair:
        aligned = [(low << k, high << k) for (low, high), k in zip(args, made.lefts, strict=True)]
        if made.op == "table":
            low, high = _table(n, made.table, aligned[0])
            if _outside(n, made.table, aligned[0], form):
                trial[made.target] = np.inf
        else:
            low, high = (multiply_shift(end, 1, made.right) for end in monotone(made, aligned))
        excess = max(int(high.max()), -int(low.min())) / form.high
        if excess > 1:
            trial[made.target] = max(excess, trial.get(made.target, 0.0))
        return np.clip(low, form.low, form.high), np.clip(high, form.low, form.high)

    found = analyse(Task(
        code=n.instructions, given=given, states=tuple(lanes(v.astype(np.int64), shape) for v in n.initial), following=n.following,
        binary=bits(n.code, n.constants, n.initial, n.following), steps=steps, periodic=n.steps == 1, whole=True, apply=apply,
        accept=lambda: _keep(beyond, trial), reject=trial.clear,
    ))  # fmt: skip
    registers = {name: (int(low), int(high)) for name, (low, high) in found.ranges.items()}
    whole = (min(int(low.min()) for low, _ in inputs), max(int(high.max()) for _, high in inputs))
    return ProgramBounds(registers=registers, inputs=whole, beyond=beyond)


def _keep(beyond: dict[str, float], trial: dict[str, float]) -> None:
    for name, excess in trial.items():
        beyond[name] = max(excess, beyond.get(name, 0.0))
    trial.clear()


def saturated(n: IntProgram, where: frozenset[str]) -> IntProgram:
    """The program with these registers limited to the format."""
    code = tuple(str(replace(made, saturates=made.target in where)) for made in n.instructions)
    return replace(n, code=code)


def _current_input(n: IntProgram, accumulators: Sequence[Interval], k: int, shape: Shape) -> Pair:
    total = Interval.point(0)
    for a, e, current in zip(accumulators, n.exponents, n.currents, strict=True):
        if current == k:
            total = total + a.shifted(e)
    low, _ = lanes(_full(total.low, shape), shape)
    _, high = lanes(_full(total.high, shape), shape)
    return low, high


def _full(ends: Array, shape: Shape) -> Array:
    return ends.reshape(ends.shape + (1,) * (len(shape) - ends.ndim))


def _outside(n: IntProgram, k: int, argument: Pair, form: Format) -> bool:
    """Whether a table's argument may lie beyond its ends, or where its values have no room in the format."""
    ends = (n.table_low[k], n.table_low[k] + ((n.tables[k].size - 1) << n.table_shift[k]))
    largest = max(int(np.abs(interpolate(n, k, end)).max()) for end in argument)
    return int(argument[0].min()) < ends[0] or int(argument[1].max()) > ends[1] or largest >= form.high


def _table(n: IntProgram, k: int, argument: Pair) -> Pair:
    """A table's values are monotone, and so is what lies between them: the extremes lie at the ends (or at a knot, if they are not)."""
    ends = [interpolate(n, k, end) for end in argument]
    steps = np.diff(n.tables[k])
    if np.all(steps >= 0) or np.all(steps <= 0):
        return np.minimum(*ends), np.maximum(*ends)
    low, high = int(n.tables[k].min()), int(n.tables[k].max())
    return np.full_like(ends[0], low), np.full_like(ends[0], high)


__all__ = ["ProgramBounds", "program_bounds", "saturated"]

"""Pointwise neuron programs: neurons without a normal form, as real numbers and as the integers of a chip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from snncompile.errors import Diagnostic, Location
from snncompile.ir.graph import Array, Dialect, Op, Shape, register_op
from snncompile.ir.linear_ops import broadcasts_to
from snncompile.ir.program_code import Instruction, bits, parse, problems


@register_op
@dataclass(frozen=True, kw_only=True, eq=False)
class NeuronProgram(Op):
    """A population whose step is a list of scalar operations (``program_code``): quadratic, exponential, resonate-and-fire...

        i_k = gain_k[t] * I_k[t] + bias_k[t]          one current for every input
        registers i, z (states), c[t] (constants), then ``code`` from top to bottom
        s = register ``payload``                      a spike where that register is 0 or 1 at every step, else a graded value
        m = register ``membrane``                     what a spike compares with register ``threshold`` (empty: nothing)
        z_k[t] = register ``following[k]``            z_k[-1] = initial_k

    Port    (first)  s      m  register ``membrane``      v  the new z_0 (without states: m)
    Fields  gain, bias, constants: (1 | T, ...) broadcastable to (T, *shape); initial (...)
            places   the user's ``file:line`` of every instruction, as far as known
    """

    kind: ClassVar[str] = "neuron_program"
    ports: ClassVar[tuple[str, ...]] = ("", "m", "v")
    max_spikes: ClassVar[int] = 1
    code: tuple[str, ...]
    payload: str
    membrane: str
    threshold: str = ""
    following: tuple[str, ...]
    initial: tuple[Array, ...]
    constants: tuple[Array, ...]
    gain: tuple[Array, ...]
    bias: tuple[Array, ...]
    places: tuple[str, ...] = ()

    @cached_property
    def instructions(self) -> tuple[Instruction, ...]:
        """The code, parsed."""
        return parse(self.code)

    def place(self, k: int) -> Location | None:
        """Where the user wrote instruction ``k``."""
        file, _, line = self.places[k].rpartition(":") if k < len(self.places) else ("", "", "")
        return Location(file, int(line)) if file and line.isdigit() else self.loc

    @cached_property
    def binary(self) -> frozenset[str]:
        """Registers that are 0 or 1 at every step."""
        return bits(self.code, self.constants, self.initial, self.following)

    @property
    def spiking(self) -> bool:
        """Whether the payload is a spike."""
        return self.payload in self.binary

    @property
    def steps(self) -> int:
        return max((1, *(len(a) for a in (*self.constants, *self.gain, *self.bias))))

    def infer(self, *shapes: Shape) -> Shape:
        if not shapes or len(set(shapes)) != 1:
            raise ValueError(f"the currents of a program have one shape, these have {', '.join(map(str, shapes))}")
        for label, arrays in (("constants", self.constants), ("gain", self.gain), ("bias", self.bias)):
            for array in arrays:
                if not broadcasts_to(array[0], shapes[0]):
                    raise ValueError(f"{label} {array.shape} does not fit (T, *{shapes[0]})")
        return shapes[0]

    def validate(self) -> Iterator[Diagnostic]:
        yield from _invalid(self, (self.payload, self.membrane, *((self.threshold,) if self.threshold else ())), len(self.inputs))
        if len(self.gain) != len(self.inputs) or len(self.bias) != len(self.inputs):
            yield Diagnostic("SNN219", f"'{self.name}' (program): {len(self.inputs)} currents need as many gains and biases", self.loc)
        for label in ("constants", "gain", "bias", "initial"):
            if not all(np.all(np.isfinite(a)) for a in getattr(self, label)):
                yield Diagnostic("SNN206", f"'{self.name}' (program): {label} hold NaN or infinity", self.loc)


@register_op
@dataclass(frozen=True, kw_only=True, eq=False)
class IntProgram(Op):
    """A neuron program on the chip. Registers are integers of the membrane's format, each with a power-of-two LSB of its own.

        a_k = sum over inputs j with currents[j] = k of (input_j << exponents[j])
        i_k = scale(a_k, gain_k[t], gain_shift_k) + bias_k[t]          scale(x, q, k) = rint(x * q / 2**k), ties to even
        every instruction:  rint(op(args << lefts) / 2**right), ties to even; limited to the format where it saturates (``!``)
        table<k> x:  p = clamp(x - low, 0, entries << shift),  j = min(p >> shift, entries - 1)
                     y[j] + rint((y[j + 1] - y[j]) * (p - (j << shift)) / 2**shift)
        n = clamp(rint(register ``payload`` / 2**payload_shift), payload_min, payload_max)

    Ports as ``NeuronProgram``, and ``saturated``: how many registers of the neuron saturated in the step.

    Fields  gain, gain_shift, bias   one entry for each current; gain, bias, constants (1 | T, ...)
            tables, table_low, table_shift    values at the knots low + k * 2**shift
            v_scale  float, the value of one LSB of m and v       out_scale  float, the value of one payload LSB
            i_scale  float, one entry for each current, the value of one LSB of i_k; constant_scale and state_scale likewise
            functions  what each table stands for     threshold  as in ``NeuronProgram``; these are for people, never used to compute
    """

    kind: ClassVar[str] = "int_program"
    dialects: ClassVar[frozenset[Dialect]] = frozenset({Dialect.INTEGER})
    ports: ClassVar[tuple[str, ...]] = ("", "m", "v", "saturated")
    max_spikes: ClassVar[int] = 1
    exponents: tuple[int, ...]
    currents: tuple[int, ...]
    gain: tuple[Array, ...]
    gain_shift: tuple[int, ...]
    bias: tuple[Array, ...]
    code: tuple[str, ...]
    payload: str
    payload_shift: int = 0
    payload_min: int = 0
    payload_max: int = 1
    spiking: bool
    membrane: str
    following: tuple[str, ...]
    initial: tuple[Array, ...]
    constants: tuple[Array, ...]
    tables: tuple[Array, ...] = ()
    table_low: tuple[int, ...] = ()
    table_shift: tuple[int, ...] = ()
    i_scale: tuple[float, ...]
    v_scale: Array
    out_scale: Array
    threshold: str = ""
    functions: tuple[str, ...] = ()
    constant_scale: tuple[float, ...] = ()
    state_scale: tuple[float, ...] = ()

    @cached_property
    def instructions(self) -> tuple[Instruction, ...]:
        """The code, parsed."""
        return parse(self.code)

    @property
    def fire(self) -> str:
        """``step`` for a spike, ``relu`` for a graded payload: as ``IntNeuron`` calls it."""
        return "step" if self.spiking else "relu"

    @property
    def saturates(self) -> bool:
        """Whether any register is limited where no bound could be proved."""
        return any(made.saturates for made in self.instructions)

    @property
    def steps(self) -> int:
        return max((1, *(len(a) for a in (*self.constants, *self.gain, *self.bias))))

    def infer(self, *shapes: Shape) -> Shape:
        if len(set(shapes)) != 1 or len(shapes) != len(self.exponents):
            raise ValueError(f"{len(self.exponents)} exponents for inputs of shapes {shapes}")
        return shapes[0]

    def validate(self) -> Iterator[Diagnostic]:
        yield from _invalid(self, (self.payload, self.membrane), len(self.gain))
        counts = {len(self.gain), len(self.gain_shift), len(self.bias), len(self.i_scale)}
        if len(self.currents) != len(self.inputs) or counts != {len({*self.currents})} or {*self.currents} != {*range(len(self.gain))}:
            yield Diagnostic("SNN219", f"'{self.name}' (program): its inputs and currents do not agree", self.loc)
        if not len(self.tables) == len(self.table_low) == len(self.table_shift) or any(t.ndim != 1 or t.size < 2 for t in self.tables):
            yield Diagnostic("SNN219", f"'{self.name}' (program): a table needs two values, its low end and its shift", self.loc)
        for label in ("constants", "gain", "bias", "initial", "tables"):
            if not all(np.issubdtype(a.dtype, np.integer) for a in getattr(self, label)):
                yield Diagnostic("SNN213", f"'{self.name}': {label} is not an integer array", self.loc)


def _invalid(n: NeuronProgram | IntProgram, read: tuple[str, ...], currents: int) -> Iterator[Diagnostic]:
    if len(n.following) != len(n.initial):
        yield Diagnostic("SNN219", f"'{n.name}' (program): {len(n.following)} new states, {len(n.initial)} initial ones", n.loc)
    tables = len(n.tables) if isinstance(n, IntProgram) else 0
    for what in problems(
        n.code, currents=currents, states=len(n.initial), constants=len(n.constants), read=(*read, *n.following),
        integer=isinstance(n, IntProgram), tables=tables,
    ):  # fmt: skip
        yield Diagnostic("SNN219", f"'{n.name}' (program): {what}", n.loc)


__all__ = ["IntProgram", "NeuronProgram"]

"""From real instructions to integer ones: a power-of-two LSB for every register, aligned operands, tables for functions.

A register's LSB is the smallest power of two with which its range fits the format. What a state is and becomes shares one, and so do
the membrane and the first state. Constants keep as many bits as the format has; trailing zeros are dropped, so that 0.5 is 1 * 2**-1.

Errors  of a sum, product or selection: half an LSB of its result     of a table: ``Table.error`` (measured between the knots)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from snncompile.errors import InternalError
from snncompile.ir.graph import Array
from snncompile.ir.program import NeuronProgram
from snncompile.ir.program_code import COMPARISONS, FUNCTIONS, Instruction
from snncompile.numerics import Format, half_even, trailing_zeros
from snncompile.quantize.program.ranges import Range

FURTHEST = 36
"""The largest left shift of an operand: with 24 bits, sums stay within 62."""
MARGIN = 1.01
SPARE = 0.05
"""Room above a range for what roundings add to it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A function between ``low`` and ``low + ((values.size - 1) << shift)`` register LSBs.

    ``error`` is the largest distance from the function found between the knots, in real units.
    """

    function: str
    values: Array
    low: int
    shift: int
    error: float


@dataclass(kw_only=True)
class Fixed:
    """Integer code, constants and tables; ``lsb`` has the exponent of every register's LSB."""

    lsb: dict[str, int]
    code: list[Instruction] = field(default_factory=list)
    constants: list[Array] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def exponents(n: NeuronProgram, ranges: Mapping[str, Range], form: Format) -> dict[str, int]:
    """The exponent of every register's LSB, for registers of the given ranges; constants apart."""
    binary = n.binary
    groups: dict[str, set[str]] = {name: {name} for name in ranges if not name.startswith("c")}

    def together(*names: str) -> None:
        merged = set().union(*(groups[name] for name in names if name in groups))
        for name in merged:
            groups[name] = merged

    for k, name in enumerate(n.following):
        together(f"z{k}", name)
    if n.following and n.membrane not in binary and n.following[0] not in binary:
        together(n.membrane, n.following[0])
    found = {}
    for name, group in groups.items():
        largest = max(max(map(abs, ranges[other])) for other in group)
        found[name] = 0 if name in binary or largest == 0 else int(np.ceil(np.log2(largest * MARGIN / form.high)))
    return found


def translate(n: NeuronProgram, ranges: Mapping[str, Range], form: Format, entries: int) -> Fixed:
    """The integer code of a program whose registers have these ranges."""
    fixed = Fixed(lsb=exponents(n, ranges, form))
    for k, c in enumerate(n.constants):
        q, e = constant(c, form)
        fixed.constants.append(q)
        fixed.lsb[f"c{k}"] = e
    for made in n.instructions:
        fixed.code += _instructions(made, fixed, ranges, form, entries)
    return fixed


def constant(values: Array, form: Format) -> tuple[Array, int]:
    """Integers and an exponent with ``values ~ q * 2**e``, off by at most half of 2**e."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0:
        return np.zeros(values.shape, dtype=np.int64), 0
    e = int(np.ceil(np.log2(largest / form.high)))
    q = half_even(values * 2.0**-e)
    if int(np.abs(q).max()) > form.high:
        e, q = e + 1, half_even(values * 2.0 ** -(e + 1))
    zeros = trailing_zeros(q)
    return q >> zeros, e + zeros


def _instructions(made: Instruction, fixed: Fixed, ranges: Mapping[str, Range], form: Format, entries: int) -> list[Instruction]:
    lsb, target = fixed.lsb, fixed.lsb[made.target]
    if made.op in FUNCTIONS:
        table = make_table(made.op, ranges[made.args[0]], lsb[made.args[0]], target, form, entries)
        fixed.tables.append(table)
        return [Instruction(made.target, "table", made.args, (0,), table=len(fixed.tables) - 1)]
    if made.op == "mul":
        bit = next((k for k, a in enumerate(made.args) if lsb[a] == 0 and _is_bit(ranges, a)), None)
        if bit is not None:  # a spike times something is a choice, which rounds nothing
            other = made.args[1 - bit]
            return _aligned(Instruction(made.target, "select", (made.args[bit], other, "zero"), (0, 0, 0)), fixed)
        right = target - lsb[made.args[0]] - lsb[made.args[1]]
        return [Instruction(made.target, "mul", made.args, (max(-right, 0), 0), min(max(right, 0), 62))]
    return _aligned(made, fixed)


def _is_bit(ranges: Mapping[str, Range], name: str) -> bool:
    return name in ranges and ranges[name] in {(0.0, 1.0), (0.0, 0.0), (1.0, 1.0)}


def _aligned(made: Instruction, fixed: Fixed) -> list[Instruction]:
    """An operation whose operands are brought to one LSB."""
    lsb, target = fixed.lsb, fixed.lsb[made.target]
    chosen = made.args[1:] if made.op == "select" else made.args
    known = [lsb[a] for a in chosen if a != "zero"]
    compares = made.op in COMPARISONS
    common = min(known) if compares else min(*known, target)
    common = max(common, max(known) - FURTHEST)
    before: list[Instruction] = []
    args, lefts = [], []
    for k, a in enumerate(made.args):
        if made.op == "select" and k == 0:
            args.append(a)
            lefts.append(0)
            continue
        name = _zero(fixed) if a == "zero" else a
        is_zero = name.startswith("c") and not np.any(fixed.constants[int(name[1:])])
        shift = 0 if is_zero else lsb[name] - common
        if shift < 0:  # far finer than what it meets
            before.append(Instruction(f"{made.target}_{name}", "copy", (name,), (0,), min(-shift, 62)))
            name, shift = f"{made.target}_{name}", 0
        args.append(name)
        lefts.append(shift)
    right = 0 if compares else target - common
    if right < 0:
        raise InternalError(f"'{made}' would need {-right} bits more than its operands have")
    return [*before, Instruction(made.target, made.op, tuple(args), tuple(lefts), min(right, 62))]


def _zero(fixed: Fixed) -> str:
    """The register of the constant 0."""
    for k, c in enumerate(fixed.constants):
        if not np.any(c):
            return f"c{k}"
    fixed.constants.append(np.zeros(1, dtype=np.int64))
    fixed.lsb[f"c{len(fixed.constants) - 1}"] = 0
    return f"c{len(fixed.constants) - 1}"


def make_table(function: str, arguments: Range, x_lsb: int, y_lsb: int, form: Format, entries: int) -> Table:
    """A table over a register's range with at most ``entries`` straight pieces.

    Knots lie a little off the function, f - h**2 f'' / 16, so that a piece errs as much in its middle as at its ends: half as much.
    """
    f = FUNCTIONS[function]
    spare = (arguments[1] - arguments[0]) * SPARE
    wider = [arguments[0] - spare, arguments[1] + spare]
    if function in ("reciprocal", "sqrt"):  # never across 0
        wider[0] = max(wider[0], arguments[0] / 2) if arguments[0] >= 0 else wider[0]
        wider[1] = min(wider[1], arguments[1] / 2) if arguments[1] < 0 else wider[1]
    low, high = (int(np.clip(np.floor(end * 2.0**-x_lsb), form.low, form.high)) for end in wider)
    width = max(high - low, 1) + 1
    shift = max(0, int(np.ceil(np.log2(width / entries))))
    count = max(1, -(-width // 2**shift))
    x = (low + (np.arange(count + 1, dtype=np.int64) << shift)) * 2.0**x_lsb
    h = 2.0 ** (shift + x_lsb)
    exact = f(x)
    knots = exact - (f(x + h) - 2 * exact + f(x - h)) / 16
    rising = np.diff(exact) >= 0
    if not np.all(np.isfinite(knots)) or not (np.all(np.diff(knots)[rising] >= 0) and np.all(np.diff(knots)[~rising] <= 0)):
        knots = exact
    values = np.clip(half_even(np.clip(knots * 2.0**-y_lsb, -(2.0**40), 2.0**40)), form.low, form.high)
    between = np.linspace(0, 1, 9)[None]
    line = values[:-1, None] + np.diff(values)[:, None] * between
    inside = (np.abs(values[:-1]) < form.high) & (np.abs(values[1:]) < form.high)  # beyond, the result saturates
    error = float(np.abs(line * 2.0**y_lsb - f(x[:-1, None] + between * h))[inside].max(initial=0.0))
    return Table(function=function, values=values, low=low, shift=shift, error=error)


__all__ = ["Fixed", "Table", "constant", "exponents", "make_table", "translate"]

"""The instructions of pointwise neuron programs: a straight line of scalar operations on named registers, one a text.

    "m = add z0 i0"      "s = ge m c0"      "r2 = select s c1 m"        float: real numbers
    "m = add z0<<2 i0 >>3"    "y = table0 m"    "m = mul z0 z0 >>12 !"      integer: aligned operands, one rounding, saturation

Registers that exist before the first instruction: currents ``i0``, ``i1``..., states ``z0``..., constants ``c0``... Every instruction
writes a register of its own, and reads earlier ones.

    add sub mul neg abs min max           as they are named
    ge gt                                 1 where a >= b (a > b), else 0
    select                                b where a is not 0, else c
    copy                                  a
    exp sigmoid tanh softplus sqrt reciprocal      functions of one register, float only; integer programs read ``table<k>``
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from snncompile.ir.graph import Array

ARITHMETIC: dict[str, int] = {
    "add": 2, "sub": 2, "mul": 2, "neg": 1, "abs": 1, "min": 2, "max": 2, "ge": 2, "gt": 2, "select": 3, "copy": 1,
}  # fmt: skip
"""Operations of both dialects and how many registers each reads."""
COMPARISONS = ("ge", "gt")


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, e) / (1.0 + e))


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), without overflow."""
    return np.asarray(np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))))


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "exp": lambda x: np.exp(np.minimum(x, 700.0)),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "softplus": softplus,
    "sqrt": lambda x: np.sqrt(np.maximum(x, 0.0)),
    "reciprocal": lambda x: 1.0 / np.where(x == 0, np.finfo(np.float64).tiny, x),
}
"""Functions of one real number; all are monotone (the reciprocal on either side of 0)."""

OPERATIONS: dict[str, Callable[..., Array]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative, "abs": np.abs, "min": np.minimum, "max": np.maximum,
    "ge": lambda a, b: np.where(np.asarray(a >= b), 1, 0), "gt": lambda a, b: np.where(np.asarray(a > b), 1, 0),
    "select": lambda c, a, b: np.asarray(np.where(c != 0, a, b)), "copy": np.asarray,
}  # fmt: skip
"""The operations on real numbers, or on integers after their operands are aligned: a comparison gives 0 or 1 in either."""

_LINE = re.compile(r"([a-z]\w*) = ([a-z]+)(\d*)((?: [a-z]\w*(?:<<\d+)?)+)(?: >>(\d+))?( !)?")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. The last four belong to the integer dialect.

    lefts      by how many bits each operand is shifted left first
    right      by how many bits the result is shifted right, rounding half to even
    saturates  whether the result is limited to the registers' format where no bound could be proved
    table      which table it reads, for ``op`` "table"
    """

    target: str
    op: str
    args: tuple[str, ...]
    lefts: tuple[int, ...]
    right: int = 0
    saturates: bool = False
    table: int = -1

    def __str__(self) -> str:
        args = " ".join(a + (f"<<{k}" if k else "") for a, k in zip(self.args, self.lefts, strict=True))
        op = self.op + (str(self.table) if self.op == "table" else "")
        return f"{self.target} = {op} {args}" + (f" >>{self.right}" if self.right else "") + (" !" if self.saturates else "")


@lru_cache(maxsize=256)
def parse(code: tuple[str, ...]) -> tuple[Instruction, ...]:
    """Instructions from their texts; raises ValueError with the first that is none."""
    found = []
    for line in code:
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"'{line}' is no instruction")
        target, op, number, operands, right, saturates = match.groups()
        parts = [part.partition("<<") for part in operands.split()]
        count = 1 if op == "table" or op in FUNCTIONS else ARITHMETIC.get(op)
        if count is None or (number != "") != (op == "table"):
            raise ValueError(f"'{line}': there is no operation '{op}{number}'")
        if len(parts) != count:
            raise ValueError(f"'{line}': '{op}' reads {count} register(s)")
        lefts = tuple(int(k or 0) for _, _, k in parts)
        made = Instruction(
            target, op, tuple(a for a, _, _ in parts), lefts, int(right or 0), saturates is not None, int(number) if number else -1
        )
        if max((*lefts, made.right)) > 62:
            raise ValueError(f"'{line}': a shift of more than 62 bits")
        found.append(made)
    return tuple(found)


def problems(
    code: tuple[str, ...], *, currents: int, states: int, constants: int, read: Sequence[str], integer: bool, tables: int = 0
) -> Iterator[str]:
    """What is wrong with a program: unknown or doubled registers, operations of the other dialect. ``read``: registers read behind it."""
    try:
        instructions = parse(code)
    except ValueError as e:
        yield str(e)
        return
    known = {f"{letter}{k}" for letter, n in (("i", currents), ("z", states), ("c", constants)) for k in range(n)}
    for made in instructions:
        unknown = [a for a in made.args if a not in known]
        if unknown:
            yield f"'{made}' reads '{unknown[0]}', which no earlier instruction writes"
        if made.target in known:
            yield f"'{made}' writes '{made.target}' a second time"
        if integer and made.op in FUNCTIONS:
            yield f"'{made}': a function is no integer operation"
        if made.op == "table" and made.table >= tables:
            yield f"'{made}' reads a table that does not exist"
        if not integer and (made.op == "table" or made.right or any(made.lefts) or made.saturates):
            yield f"'{made}' is an instruction of the integer dialect"
        known.add(made.target)
    missing = [name for name in read if name not in known]
    if missing:
        yield f"register '{missing[0]}' is read behind the program, and no instruction writes it"


def evaluate(made: Instruction, args: Sequence[Array]) -> Array:
    """One instruction on real numbers."""
    return FUNCTIONS[made.op](args[0]) if made.op in FUNCTIONS else OPERATIONS[made.op](*args)


def bits(
    code: tuple[str, ...], constants: Sequence[Array], initial: Sequence[Array], following: Sequence[str]
) -> frozenset[str]:  # fmt: skip
    """The registers that are 0 or 1 at every step, whatever the currents are."""

    def binary(values: Array) -> bool:
        return bool(np.all((values == 0) | (values == 1)))

    known = {f"c{k}" for k, c in enumerate(constants) if binary(c)} | {f"z{k}" for k, v in enumerate(initial) if binary(v)}
    ones = {f"c{k}" for k, c in enumerate(constants) if np.all(c == 1)}
    while True:
        found = set(known)
        for made in parse(code):
            both = all(a in found for a in made.args)
            complement = made.op == "sub" and made.args[0] in ones and made.args[1] in found
            if (
                made.op in COMPARISONS
                or complement
                or (made.op in ("mul", "min", "max", "copy") and both)
                or (made.op == "select" and all(a in found for a in made.args[1:]))
            ):
                found.add(made.target)
        wrong = {f"z{k}" for k, f in enumerate(following) if f"z{k}" in known and f not in found}
        if not wrong:
            return frozenset(found)
        known -= wrong


def registers(currents: Sequence[Any], states: Sequence[Any], constants: Sequence[Any]) -> dict[str, Any]:
    """What a program starts from, by name."""
    groups: tuple[tuple[str, Sequence[Any]], ...] = (("i", currents), ("z", states), ("c", constants))
    return {f"{letter}{k}": value for letter, values in groups for k, value in enumerate(values)}


__all__ = [
    "ARITHMETIC", "COMPARISONS", "FUNCTIONS", "OPERATIONS", "Instruction", "bits", "evaluate", "parse", "problems", "registers",
    "sigmoid", "softplus",
]  # fmt: skip

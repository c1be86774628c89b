"""Writing a neuron program: PyTorch's pointwise operations as instructions, simplified where that says more plainly what happens.

(1 - s) * m + s * r    ->  select s r m            s * x  ->  select s x 0            H(m - theta)  ->  m >= theta
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from snncompile.capture.expressions import BATCH_NORMS, base
from snncompile.capture.trace import Raw
from snncompile.errors import Location
from snncompile.ir.graph import Array
from snncompile.ir.program_code import OPERATIONS

if TYPE_CHECKING:
    from snncompile.capture.expressions import Expressions


class NotPointwise(Exception):  # noqa: N818 - a verdict, not a failure
    """A neuron that is no program: the reason, and the node in the way if one is."""

    def __init__(self, reason: str, node: str = "") -> None:
        super().__init__(reason)
        self.node = node


@dataclass
class Writer:
    """Instructions in order. A register's name stands for its value; constants are arrays ``(1 | T, ...)``.

    bits      registers that are 0 or 1          opposite   the register that is 1 where this one is 0
    choices   registers that were written as ``select``: (bit, value, other)
    """

    code: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    constants: list[Array] = field(default_factory=list)
    bits: set[str] = field(default_factory=set)
    opposite: dict[str, str] = field(default_factory=dict)
    made: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    loc: Location | None = None

    def constant(self, value: Array | float) -> str:
        """The register of a constant, one for each value."""
        array = np.asarray(value, dtype=np.float64)
        array = array.reshape((1,)) if array.size == 1 else array
        if array.shape[0] > 1 and np.all(array == array[:1]):
            array = array[:1]
        for k, known in enumerate(self.constants):
            if known.shape == array.shape and np.array_equal(known, array):
                return f"c{k}"
        self.constants.append(array)
        name = f"c{len(self.constants) - 1}"
        if np.all((array == 0) | (array == 1)):
            self.bits.add(name)
        return name

    def value(self, register: str) -> Array | None:
        """The value of a constant register."""
        return self.constants[int(register[1:])] if register[0] == "c" and register[1:].isdigit() else None

    def is_all(self, register: str, number: float) -> bool:
        """Whether a register is a constant of this value."""
        known = self.value(register)
        return known is not None and bool(np.all(known == number))

    def op(self, name: str, *args: str) -> str:
        """Write an instruction, or find that it is known already; operations on constants are done here."""
        values = [self.value(a) for a in args]
        if name in OPERATIONS and all(v is not None for v in values):
            return self.constant(OPERATIONS[name](*(v for v in values if v is not None)))
        for register, known in self.made.items():
            if known == (name, args):
                return register
        target = f"r{len(self.code)}"
        self.code.append(f"{target} = {name} {' '.join(args)}")
        self.places.append("" if self.loc is None else f"{self.loc.file}:{self.loc.line}")
        self.made[target] = (name, args)
        if name in ("ge", "gt") or (name in ("mul", "min", "max") and self.bits.issuperset(args)):
            self.bits.add(target)
        if name == "select" and self.bits.issuperset(args[1:]):
            self.bits.add(target)
        return target

    def add(self, a: str, b: str) -> str:
        """a + b."""
        if self.is_all(a, 0.0):
            return b
        if self.is_all(b, 0.0):
            return a
        x, y = self._choice(a), self._choice(b)
        if x is not None and y is not None and x[0] == y[0]:
            for p, q, r, s in ((x[1], x[2], y[1], y[2]), (y[1], y[2], x[1], x[2])):
                if self.is_all(q, 0.0) and self.is_all(r, 0.0):  # p where the bit is 1, s where it is 0
                    return self.select(x[0], p, s)
        return self.op("add", a, b)

    def sub(self, a: str, b: str) -> str:
        """a - b."""
        if self.is_all(b, 0.0):
            return a
        if self.is_all(a, 1.0) and b in self.bits:
            return self.complement(b)
        return self.op("neg", b) if self.is_all(a, 0.0) else self.op("sub", a, b)

    def complement(self, bit: str) -> str:
        """1 - bit."""
        if bit not in self.opposite:
            known = self.value(bit)
            target = self.constant(1.0 - known) if known is not None else self.op("sub", self.constant(1.0), bit)
            self.bits.add(target)
            self.opposite |= {bit: target, target: bit}
        return self.opposite[bit]

    def mul(self, a: str, b: str) -> str:
        """a * b; a choice where one of them is 0 or 1."""
        for x, y in ((a, b), (b, a)):
            if self.is_all(x, 1.0):
                return y
            if self.is_all(x, 0.0):
                return x
            if self.is_all(x, -1.0):
                return self.op("neg", y)
        for x, y in ((a, b), (b, a)):
            if x in self.bits and y not in self.bits and self.value(x) is None:
                return self.select(x, y, self.constant(0.0))
        return self.op("mul", a, b)

    def select(self, bit: str, a: str, b: str) -> str:
        """a where the bit is 1, else b."""
        known = self.value(bit)
        if known is not None and np.unique(known).size == 1:
            return a if known.flat[0] else b
        if a == b:
            return a
        if self.is_all(a, 1.0) and self.is_all(b, 0.0):
            return bit
        if bit in self.opposite and self.made.get(bit, ("",))[0] == "sub":  # the complement of a comparison
            bit, a, b = self.opposite[bit], b, a
        return self.op("select", bit, a, b)

    def compare(self, name: str, a: str, b: str) -> str:
        """a >= b or a > b; a difference compared with 0 compares its operands."""
        limit = self.value(b)
        if a in self.bits and limit is not None and np.unique(limit).size == 1:
            return self._bit_against(name, a, float(limit.flat[0]))
        for zero, other, turned in ((b, a, False), (a, b, True)):
            known = self.made.get(other)
            if self.is_all(zero, 0.0) and known is not None and known[0] == "sub":
                x, y = known[1]
                return self.op(name, y, x) if turned else self.op(name, x, y)
        return self.op(name, a, b)

    def _bit_against(self, name: str, bit: str, limit: float) -> str:
        low, high = (float(OPERATIONS[name](np.asarray(v), np.asarray(limit))) for v in (0.0, 1.0))
        return bit if (low, high) == (0.0, 1.0) else self.constant(low)

    def _choice(self, register: str) -> tuple[str, str, str] | None:
        name, args = self.made.get(register, ("", ()))
        return (args[0], args[1], args[2]) if name == "select" else None


Translate = Callable[[Writer, Raw, Sequence[str]], str]


def _scaled(w: Writer, raw: Raw, x: str, position: int, key: str = "alpha") -> str:
    alpha = float(raw.kwargs.get(key, raw.args[position] if len(raw.args) > position else 1))
    return w.mul(w.constant(alpha), x)


def _power(w: Writer, raw: Raw, x: Sequence[str]) -> str:
    exponent = w.value(x[1])
    power = float(exponent.flat[0]) if exponent is not None and np.unique(exponent).size == 1 else -1.0
    if power == 0.5:
        return w.op("sqrt", x[0])
    if power not in (1.0, 2.0, 3.0, 4.0):
        raise NotPointwise("a power other than 0.5, 1, 2, 3, 4", raw.name)
    square = w.op("mul", x[0], x[0])
    return {1.0: lambda: x[0], 2.0: lambda: square, 3.0: lambda: w.mul(square, x[0]), 4.0: lambda: w.op("mul", square, square)}[power]()


def _clamp(w: Writer, raw: Raw, x: Sequence[str]) -> str:
    low, high = (raw.args[k] if len(raw.args) > k else raw.kwargs.get(name) for k, name in ((1, "min"), (2, "max")))
    y = x[0] if low is None else w.op("max", x[0], x[1])
    return y if high is None else w.op("min", y, x[2])


def _divided(w: Writer, raw: Raw, x: Sequence[str]) -> str:
    if raw.kwargs.get("rounding_mode"):
        raise NotPointwise("a division that rounds", raw.name)
    known = w.value(x[1])
    if known is not None and np.any(known == 0):
        raise NotPointwise("a division by 0", raw.name)
    return w.mul(x[0], w.op("reciprocal", x[1]) if known is None else w.constant(1.0 / known))


def _heaviside(w: Writer, raw: Raw, x: Sequence[str]) -> str:
    if w.is_all(x[1], 0.0):
        return w.compare("gt", x[0], w.constant(0.0))
    if w.is_all(x[1], 1.0):
        return w.compare("ge", x[0], w.constant(0.0))
    raise NotPointwise("a step that is neither 0 nor 1 at 0", raw.name)


def _cast(w: Writer, raw: Raw, x: Sequence[str]) -> str:
    kind = raw.kwargs.get("dtype")
    if kind is not None and not kind.is_floating_point and x[0] not in w.bits:
        raise NotPointwise("a conversion to whole numbers", raw.name)
    return x[0]


def _equal(w: Writer, raw: Raw, x: Sequence[str]) -> str:
    both = w.mul(w.compare("ge", x[0], x[1]), w.compare("ge", x[1], x[0]))
    return both if base(raw) == "eq" else w.complement(both)


def _lerp(w: Writer, raw: Raw, x: Sequence[str]) -> str:
    return w.add(x[0], w.mul(x[2], w.sub(x[1], x[0])))


def _bit(w: Writer, raw: Raw, *registers: str) -> None:
    if not w.bits.issuperset(registers):
        raise NotPointwise("a logical operation on numbers", raw.name)


def _not(w: Writer, raw: Raw, x: Sequence[str]) -> str:
    _bit(w, raw, x[0])
    return w.complement(x[0])


def _and(w: Writer, raw: Raw, x: Sequence[str]) -> str:
    _bit(w, raw, *x)
    return w.mul(x[0], x[1])


def _or(w: Writer, raw: Raw, x: Sequence[str]) -> str:
    _bit(w, raw, *x)
    return w.op("max", x[0], x[1])


def _softplus(w: Writer, raw: Raw, x: Sequence[str]) -> str:
    beta = float(raw.args[1]) if len(raw.args) > 1 else 1.0  # beyond the threshold PyTorch returns x, which is the same to 1e-8
    return w.mul(w.constant(1.0 / beta), w.op("softplus", w.mul(w.constant(beta), x[0])))


def _assigned(w: Writer, raw: Raw, x: Sequence[str]) -> str:
    if len(raw.args[1]) != 1 or (len(raw.args) > 3 and raw.args[3]):
        raise NotPointwise("an assignment that is no mask of one value", raw.name)
    return w.select(x[1], x[2], x[0])


def _function(name: str) -> Translate:
    return lambda w, raw, x: w.op(name, x[0])


TRANSLATE: dict[str, Translate] = {
    "add": lambda w, raw, x: w.add(x[0], _scaled(w, raw, x[1], 2)),
    "sub": lambda w, raw, x: w.sub(x[0], _scaled(w, raw, x[1], 2)),
    "rsub": lambda w, raw, x: w.sub(x[1], _scaled(w, raw, x[0], 2)),
    "mul": lambda w, raw, x: w.mul(x[0], x[1]),
    "div": _divided,
    "neg": lambda w, raw, x: w.op("neg", x[0]),
    "where": lambda w, raw, x: w.select(x[0], x[1], x[2]),
    "masked_fill": lambda w, raw, x: w.select(x[1], x[2], x[0]),
    "index_put": _assigned,
    "lerp": _lerp,
    "addcmul": lambda w, raw, x: w.add(x[0], _scaled(w, raw, w.mul(x[1], x[2]), 3, "value")),
    "square": lambda w, raw, x: w.op("mul", x[0], x[0]),
    "pow": _power,
    "abs": lambda w, raw, x: w.op("abs", x[0]),
    "sign": lambda w, raw, x: w.sub(w.compare("gt", x[0], w.constant(0.0)), w.compare("gt", w.constant(0.0), x[0])),
    "relu": lambda w, raw, x: w.op("max", x[0], w.constant(0.0)),
    "clamp": _clamp,
    "clamp_min": lambda w, raw, x: w.op("max", x[0], x[1]),
    "clamp_max": lambda w, raw, x: w.op("min", x[0], x[1]),
    "maximum": lambda w, raw, x: w.op("max", x[0], x[1]),
    "minimum": lambda w, raw, x: w.op("min", x[0], x[1]),
    "ge": lambda w, raw, x: w.compare("ge", x[0], x[1]),
    "gt": lambda w, raw, x: w.compare("gt", x[0], x[1]),
    "le": lambda w, raw, x: w.complement(w.compare("gt", x[0], x[1])),
    "lt": lambda w, raw, x: w.complement(w.compare("ge", x[0], x[1])),
    "eq": _equal,
    "ne": _equal,
    "heaviside": _heaviside,
    "_to_copy": _cast,
    "expand": lambda w, raw, x: x[0],
    "expand_as": lambda w, raw, x: x[0],
    "logical_not": _not,
    "bitwise_not": _not,
    "logical_and": _and,
    "bitwise_and": _and,
    "logical_or": _or,
    "bitwise_or": _or,
    "softplus": _softplus,
    **{name: _function(name) for name in ("exp", "sigmoid", "tanh", "sqrt", "reciprocal")},
}
"""PyTorch's operations by name, from the registers of their arguments."""


def batch_norm(w: Writer, raw: Raw, x: str, ex: Expressions) -> str:
    """A batch norm inside a neuron: a factor and a shift per channel."""
    rank = ex.rank(raw.name)
    gamma, beta, mean, var = (ex.coefficient(leaf, 1) for leaf in raw.args[1:5])
    if mean is None or var is None:
        raise NotPointwise("a batch norm with the statistics of the batch", raw.name)
    factor = 1.0 / np.sqrt(var + raw.args[BATCH_NORMS[base(raw)] - 1])
    factor = factor if gamma is None else gamma * factor
    shift = -mean * factor + (0.0 if beta is None else beta)
    tail = (1,) * (rank - 1)
    return w.add(w.mul(w.constant(factor.reshape(*factor.shape, *tail)), x), w.constant(shift.reshape(*shift.shape, *tail)))


def leaves(raw: Raw) -> list[Any]:
    """The arguments of a pointwise operation that are values or numbers, in order."""
    if base(raw) in ("expand", "_to_copy"):
        return [raw.args[0]]
    if base(raw) == "index_put":
        return [raw.args[0], raw.args[1][0], raw.args[2]]
    if base(raw) in BATCH_NORMS:
        return [raw.args[0]]
    return [0.0 if leaf is None else leaf for leaf in raw.args[:3]]


__all__ = ["TRANSLATE", "NotPointwise", "Writer", "batch_norm", "leaves"]

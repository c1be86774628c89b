"""Several spikes in a step: how many whole thresholds a membrane holds, max(0, floor(m / step)), at most ``most``.

    (m > 0) * trunc(m / step)        clamp(floor(m / step), 0, most)        relu(floor(m / step))

Towards zero or downwards is the same once nothing below zero is left, which is when such a quotient becomes a count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from snncompile.capture.algebra import Expr, Lin, number, spike
from snncompile.capture.trace import Raw, Ref
from snncompile.ir.graph import Array

if TYPE_CHECKING:
    from snncompile.capture.expressions import Expressions

MANY = 1 << 16  # where the code sets no limit


@dataclass(frozen=True, eq=False)
class Quotient:
    """``floor(m / step)`` or ``trunc(m / step)``, not yet cut off at zero."""

    m: Expr
    step: Array


def quotient(ex: Expressions, raw: Raw, args: list[Expr | None]) -> Expr | None:
    """Introduce a quotient for a division that drops the remainder; None if its parts are not known."""
    op = raw.op.partition(".")[0]
    x = args[0]
    rank = ex.rank(raw.name)
    step = number(1.0, rank)
    if op in ("div", "floor_divide"):
        divisor = None if len(args) < 2 or args[1] is None else args[1].constant
        if divisor is None or np.any(divisor <= 0):
            return None
        step = divisor
    if x is None or x.constant is not None:
        return None
    ex.quotients[raw.name] = Quotient(x, step)
    return spike(raw.name, rank)


def symbol(x: Expr | None) -> str | None:
    """The one symbol that this expression is, unchanged."""
    if x is None or not x.lin.is_zero or len(x.products) != 1:
        return None
    ((name, p),) = x.products.items()
    return name if p.is_constant and np.all(p.const == 1) else None


def masked(ex: Expressions, raw: Raw, x: Expr, y: Expr) -> Expr | None:
    """``(m > 0) * trunc(m / step)``: the count itself, for a mask that holds wherever there is a spike, and nowhere below zero."""
    for mask, other in ((symbol(x), symbol(y)), (symbol(y), symbol(x))):
        th = ex.thresholds.get(mask or "")
        q = ex.quotients.get(other or "")
        if th is None or q is None or th.graded or th.step is not None or mask is None:
            continue
        apart = q.m + th.d.scaled(np.full((1,), -1.0))
        limit = apart.constant
        if limit is not None and np.all(limit >= 0) and np.all(limit <= q.step):
            ex.masks[mask] = raw.name
            return ex.count(raw.name, q, MANY)
    return None


def limited(ex: Expressions, raw: Raw, args: list[Expr | None]) -> Expr | None:
    """``clamp(q, 0, most)``, ``relu(q)`` and the like of a quotient, or an upper limit of a count; None if this is something else."""
    op, name = raw.op.partition(".")[0], symbol(args[0])
    if name is None:
        return None
    low, high = _limits(op, raw, args)
    q, known = ex.quotients.get(name), ex.thresholds.get(name)
    if q is not None and low == 0 and (high is None or high >= 1):
        return ex.count(raw.name, q, MANY if high is None else int(high))
    if known is not None and known.step is not None and (low is None or low <= 0) and high is not None and high >= 1:
        ex.masks[name] = raw.name
        return ex.count(raw.name, Quotient(known.d, known.step), min(int(high), known.most))
    return None


def _limits(op: str, raw: Raw, args: list[Expr | None]) -> tuple[float | None, float | None]:
    if op == "relu":
        return 0.0, None
    if op == "clamp":
        low, high = (raw.args[k] if len(raw.args) > k else raw.kwargs.get(label) for k, label in ((1, "min"), (2, "max")))
        return None if isinstance(low, Ref) else low, None if isinstance(high, Ref) else high
    bound = args[1].constant if len(args) > 1 and args[1] is not None else None
    if bound is None or np.unique(bound).size != 1:
        return None, None
    value = float(bound.flat[0])
    return (value, None) if op in ("clamp_min", "maximum") else (None, value) if op in ("clamp_max", "minimum") else (None, None)


def fired(ex: Expressions, name: str, op: str, limit: float, rank: int) -> Expr | None:
    """A count compared with a number: whether there was a spike at all, or its complement."""
    yes = (op, limit) in (("gt", 0.0), ("ne", 0.0), ("ge", 1.0))
    if not yes and (op, limit) not in (("eq", 0.0), ("le", 0.0), ("lt", 1.0)):
        return None
    ex.fired.add(f"fired:{name}")
    s = spike(f"fired:{name}", rank)
    return s if yes else Expr(Lin({}, np.ones((1,) * (1 + rank)))) + s.scaled(number(-1.0, rank))

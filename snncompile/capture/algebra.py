"""Symbolic pointwise arithmetic: affine in states and currents, of degree one in spikes.

    E = sum_a c_a * a + c  +  sum_s s * (sum_a d_a * a + d)

``a`` runs over atoms (states, currents), ``s`` over spikes. Coefficients are float64 arrays with a leading axis 1 or T and
then one axis per axis of the values. A product or comparison outside this form gives None: no normal form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from snncompile.ir.graph import Array


@dataclass(frozen=True, eq=False)
class Lin:
    """An affine form: coefficients by atom, and a constant."""

    terms: Mapping[str, Array]
    const: Array

    def __add__(self, other: Lin) -> Lin:
        terms = dict(self.terms)
        for atom, c in other.terms.items():
            terms[atom] = terms[atom] + c if atom in terms else c
        return Lin({a: c for a, c in terms.items() if np.any(c)}, self.const + other.const)

    def scaled(self, factor: Array) -> Lin:
        """This form times a constant."""
        return Lin({a: d for a, c in self.terms.items() if np.any(d := c * factor)}, self.const * factor)

    @property
    def is_constant(self) -> bool:
        """Whether no atom occurs."""
        return not self.terms

    @property
    def is_zero(self) -> bool:
        """Whether this is the constant 0."""
        return not self.terms and not np.any(self.const)

    def without(self, *atoms: str) -> Lin:
        """The form with these atoms dropped."""
        return Lin({a: c for a, c in self.terms.items() if a not in atoms}, self.const)

    def substitute(self, atom: str, by: Lin) -> Lin:
        """Replace an atom by a form."""
        return self if atom not in self.terms else self.without(atom) + by.scaled(self.terms[atom])


@dataclass(frozen=True, eq=False)
class Expr:
    """``lin`` plus the sum over spikes of spike times a form."""

    lin: Lin
    products: Mapping[str, Lin] = field(default_factory=dict)

    def __add__(self, other: Expr) -> Expr:
        products = dict(self.products)
        for s, p in other.products.items():
            products[s] = products[s] + p if s in products else p
        return Expr(self.lin + other.lin, {s: p for s, p in products.items() if not p.is_zero})

    def scaled(self, factor: Array) -> Expr:
        """This expression times a constant."""
        products = {s: q for s, p in self.products.items() if not (q := p.scaled(factor)).is_zero}
        return Expr(self.lin.scaled(factor), products)

    @property
    def constant(self) -> Array | None:
        """The value if this is a constant, else None."""
        return self.lin.const if not self.products and self.lin.is_constant else None

    @property
    def atoms(self) -> set[str]:
        """All atoms that occur."""
        return set(self.lin.terms).union(*(p.terms for p in self.products.values()))


def number(value: float | Array, rank: int) -> Array:
    """A constant as a coefficient: leading axis 1, then ``rank`` axes."""
    array = np.asarray(value, dtype=np.float64)
    return array.reshape((1,) * (1 + rank - array.ndim) + array.shape)


def constant(value: Array) -> Expr:
    """The expression of a coefficient array."""
    return Expr(Lin({}, value))


def atom(name: str, rank: int) -> Expr:
    """The expression of one atom."""
    return Expr(Lin({name: np.ones((1,) * (1 + rank))}, np.zeros((1,) * (1 + rank))))


def spike(name: str, rank: int) -> Expr:
    """The expression of one spike."""
    return Expr(Lin({}, np.zeros((1,) * (1 + rank))), {name: Lin({}, np.ones((1,) * (1 + rank)))})


def multiply(x: Expr, y: Expr, binary: set[str]) -> Expr | None:
    """The product, if it stays in the form: by a constant, or of (c0 + c1 s) with (a + s b) for a binary spike s."""
    for a, b in ((x, y), (y, x)):
        if a.constant is not None:
            return b.scaled(a.constant)
    for a, b in ((x, y), (y, x)):
        if a.lin.is_constant and len(a.products) == 1:
            ((s, p),) = a.products.items()
            if p.is_constant and s in binary and set(b.products) <= {s}:
                c0, c1 = a.lin.const, p.const
                tail = b.products.get(s, Lin({}, np.zeros_like(c0)))
                return Expr(b.lin.scaled(c0), {}) + Expr(Lin({}, np.zeros_like(c0)), {s: tail.scaled(c0 + c1) + b.lin.scaled(c1)})
    return None


def select(condition: Expr, then: Expr, otherwise: Expr, binary: set[str]) -> Expr | None:
    """``where(condition, then, otherwise)`` for a condition in {0, 1}."""
    rank = otherwise.lin.const.ndim - 1
    taken = multiply(condition, then, binary)
    left = multiply(constant(number(1.0, rank)) + condition.scaled(number(-1.0, rank)), otherwise, binary)
    return None if taken is None or left is None else taken + left


def same(x: Array, y: Array, rtol: float = 1e-9) -> bool:
    """Equality of coefficients up to rounding in the folding."""
    scale = max(float(np.max(np.abs(x), initial=0)), float(np.max(np.abs(y), initial=0)), 1e-300)
    return bool(np.max(np.abs(x - y), initial=0) <= rtol * scale)


def same_form(x: Lin, y: Lin) -> bool:
    """Equality of affine forms, up to rounding."""
    atoms = set(x.terms) | set(y.terms)
    zero = np.zeros(1)
    return same(x.const, y.const, 1e-7) and all(same(x.terms.get(a, zero), y.terms.get(a, zero), 1e-7) for a in atoms)

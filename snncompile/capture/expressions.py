"""Expressions of rolled operations: what each pointwise operation means in the algebra, and where pointwise ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from snncompile.capture import counts
from snncompile.capture.algebra import Expr, Lin, atom, constant, multiply, number, same, same_form, select, spike
from snncompile.capture.roll import PerStep, Prev, Rolled
from snncompile.capture.trace import Raw, Ref, walk
from snncompile.ir.graph import Array

BATCH_NORMS = {"native_batch_norm": 8, "cudnn_batch_norm": 8, "_native_batch_norm_legit_no_training": 7}
COMPARE = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
THRESHOLDS = {*COMPARE, "heaviside", "relu", "clamp_min", "clamp_max", "clamp", "maximum", "minimum"}
EQUAL = ("eq", "ne")
LOGICAL = {"logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor"}
POINTWISE = THRESHOLDS | LOGICAL | {
    "eq", "ne", "trunc", "floor_divide",
    "add", "sub", "rsub", "mul", "div", "neg", "where", "masked_fill", "lerp", "addcmul", "logical_not", "bitwise_not", "_to_copy",
    "index_put",
    "expand", "expand_as", "full_like", "square", "pow", "exp", "sigmoid", "tanh", "abs", "sign", "round", "floor", "reciprocal", "sqrt",
    "softplus",
}  # fmt: skip


def base(raw: Raw) -> str:
    """The operation's name without its overload: ``add.Tensor`` is ``add``."""
    return raw.op.partition(".")[0]


@dataclass(frozen=True)
class Threshold:
    """A comparison or rectification: ``spike = H(d)`` (``strict`` for ``>``), its complement, or ``relu(d)``.

    With a ``step`` it counts spikes: ``clamp(floor(d / step), 0, most)``.
    """

    node: str
    d: Expr
    strict: bool
    graded: bool = False
    step: Array | None = None
    most: int = 1


def leads(rolled: Rolled, lead: int) -> dict[str, int]:
    """How many leading axes of each node's value are batch and time (all of length 1); ``lead`` for the inputs."""
    known = dict.fromkeys(rolled.inputs, lead)
    shapes = {**rolled.inputs, **{name: raw.shape for name, raw in rolled.nodes.items()}}
    for _ in range(len(rolled.nodes)):
        before = len(known)
        for name, raw in rolled.nodes.items():
            sources = [leaf.name for leaf in walk(raw.args) if isinstance(leaf, (Ref, Prev)) and leaf.name in known]
            if name not in known and (sources or base(raw) in RANKS):
                known[name] = _lead(raw, shapes, known, sources)
        if len(known) == before:
            break
    return known


RANKS = {
    "convolution": 3, "conv2d": 3, "avg_pool2d": 3, "_adaptive_avg_pool2d": 3, "adaptive_avg_pool2d": 3, "max_pool2d": 3,
    "max_pool2d_with_indices": 3, "upsample_nearest2d": 3, "_upsample_nearest_exact2d": 3, "addmm": 1, "mm": 1, "linear": 1, "matmul": 1,
    "bmm": 1, "avg_pool3d": 4, "max_pool3d_with_indices": 4, "_adaptive_avg_pool3d": 4, "upsample_nearest3d": 4,
}  # fmt: skip


def _lead(raw: Raw, shapes: dict[str, tuple[int, ...]], known: dict[str, int], sources: list[str]) -> int:
    shape = raw.shape
    ones = next((k for k, n in enumerate(shape) if n != 1), len(shape))
    if base(raw) in RANKS:
        rank = getattr(raw.args[1], "ndim", 4) - 1 if base(raw) == "convolution" else RANKS[base(raw)]
        return min(max(len(shape) - rank, 0), ones)
    source = max(sources, key=lambda s: len(shapes[s]))
    inner = shapes[source][known[source] :]
    if len(shape) >= len(inner) and shape[len(shape) - len(inner) :] == inner and all(n == 1 for n in shape[: len(shape) - len(inner)]):
        return len(shape) - len(inner)
    return min(known[source], ones, max(len(shape) - 1, 0))


@dataclass
class Expressions:
    """Expands rolled nodes into expressions, down to atoms.

    Atoms are ``node`` (the value of a node of this step that is not pointwise, or was settled as the output of a recognised
    population) and ``prev:node`` (its value one step ago). Thresholds found on the way are kept in ``thresholds``, those that only
    serve another one in ``masks``; those that are assumed never to fire are ``silent``. Where ``relu(d)`` and the spike ``H(d)`` look at
    the same d, ``rectified`` says that the first is the second times d.
    """

    rolled: Rolled
    lead: Mapping[str, int]
    settled: set[str] = field(default_factory=set)
    thresholds: dict[str, Threshold] = field(default_factory=dict)
    past_spikes: set[str] = field(default_factory=set)
    quotients: dict[str, counts.Quotient] = field(default_factory=dict)
    fired: set[str] = field(default_factory=set)
    masks: dict[str, str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    deaf: set[str] = field(default_factory=set)
    rectified: dict[str, str] = field(default_factory=dict)
    _memo: dict[str, Expr | None] = field(default_factory=dict)

    def rank(self, name: str) -> int:
        """Number of axes of a node's value without batch and time axes."""
        return max(len(self.rolled.nodes[name].shape) - self.lead.get(name, 1), 1) if name in self.rolled.nodes else 1

    def settle(self, names: Iterable[str]) -> None:
        """From now on treat these nodes as atoms: their population is known."""
        waiting = list(names)
        self.settled.update(waiting)
        stale = set(waiting)
        while waiting:  # all that is expanded through these nodes; expansion ends at layers, which are atoms whatever is known
            more = [reader for reader in self._readers.get(waiting.pop(), ()) if reader not in stale]
            stale.update(more)
            waiting += more
        self._memo = {name: e for name, e in self._memo.items() if e is not None and name not in stale}

    @cached_property
    def _readers(self) -> dict[str, list[str]]:
        """By node, the operations that are expanded through it, in this step or from the next."""
        found: dict[str, list[str]] = {}
        for name, raw in self.rolled.nodes.items():
            if base(raw) in POINTWISE or base(raw) in BATCH_NORMS:
                for leaf in walk((raw.args, tuple(raw.kwargs.values()))):
                    if isinstance(leaf, (Ref, Prev)):
                        found.setdefault(leaf.name, []).append(name)
        return found

    def assume_silent(self, names: set[str]) -> None:
        """From now on these comparisons never hold (and only these); whoever assumes it must prove it."""
        self.silent = names
        self.thresholds = {k: v for k, v in self.thresholds.items() if k not in names}
        self._memo.clear()

    def rectify(self, pairs: Mapping[str, str]) -> None:
        """From now on these rectifiers are products of a spike."""
        self.rectified.update(pairs)
        self.thresholds = {k: v for k, v in self.thresholds.items() if k not in pairs}
        self._memo.clear()

    def unsettle(self, names: set[str]) -> None:
        """Go back to these settled nodes."""
        self.settled = names
        self._memo.clear()

    @property
    def binary(self) -> set[str]:
        """Spikes that are 0 or 1."""
        return {k for k, t in self.thresholds.items() if not t.graded and t.step is None} | self.past_spikes | self.fired

    def of(self, name: str) -> Expr | None:
        """The expression of a node; None if it is pointwise but outside the algebra."""
        if name not in self._memo:
            self._memo[name] = self._expand(name)
        return self._memo[name]

    def is_atom(self, name: str) -> bool:
        """Whether expansion stops at this node."""
        if name in self.rolled.inputs or name in self.settled:
            return True
        raw = self.rolled.nodes[name]
        if self.rounded(raw) is not None:
            return True
        return not self._normalises_state(raw) if base(raw) in BATCH_NORMS else base(raw) not in POINTWISE

    def rounded(self, raw: Raw) -> tuple[Any, int] | None:
        """The argument and the levels of ``clamp(round(x), 0, levels)``, a spike on a grid; None for anything else."""
        if base(raw) != "clamp" or len(raw.args) < 3 or raw.args[1] != 0 or not isinstance(raw.args[2], (int, float)):
            return None
        inner = self.rolled.nodes.get(raw.args[0].name) if isinstance(raw.args[0], Ref) else None
        if inner is None or base(inner) != "round" or len(inner.args) != 1 or inner.kwargs or raw.args[2] != int(raw.args[2]):
            return None
        return inner.args[0], int(raw.args[2])

    def _normalises_state(self, raw: Raw) -> bool:
        """Whether a batch norm stands inside a neuron (on its membrane) and not in front of it."""
        x = self.leaf(raw.args[0], self.rank(raw.name))
        return x is not None and (bool(x.products) or any(a.startswith("prev") for a in x.atoms))

    def _batch_norm(self, raw: Raw) -> Expr | None:
        rank = self.rank(raw.name)
        gamma, beta, mean, var = (self.coefficient(leaf, 1) for leaf in raw.args[1:5])
        if mean is None or var is None or (BATCH_NORMS[base(raw)] == 8 and raw.args[5]):
            return None
        factor = 1.0 / np.sqrt(var + raw.args[BATCH_NORMS[base(raw)] - 1])
        factor = factor if gamma is None else gamma * factor
        shift = -mean * factor + (0.0 if beta is None else beta)
        x = self.leaf(raw.args[0], rank)
        tail = (1,) * (rank - 1)
        return None if x is None else x.scaled(factor.reshape(*factor.shape, *tail)) + constant(shift.reshape(*shift.shape, *tail))

    def root(self, name: str) -> str:
        """The node behind conversions of its type."""
        raw = self.rolled.nodes[name]
        while base(raw) == "_to_copy" and isinstance(raw.args[0], Ref) and raw.args[0].name in self.rolled.nodes:
            raw = self.rolled.nodes[raw.args[0].name]
        return raw.name

    def _spike_behind(self, name: str, rank: int) -> tuple[str, Array]:
        """The comparison of which a node is a constant multiple, and the factor; no name if it is none."""
        factor = number(1.0, rank)
        while name in self.rolled.nodes:
            raw = self.rolled.nodes[self.root(name)]
            if base(raw) in COMPARE:
                return raw.name, factor
            if base(raw) != "mul" or not isinstance(raw.args[0], Ref):
                break
            c = None if isinstance(raw.args[1], (Ref, Prev)) else self.coefficient(raw.args[1], rank)
            if c is None:
                break
            name, factor = raw.args[0].name, factor * c
        return "", factor

    def _expand(self, name: str) -> Expr | None:
        if self.is_atom(name):
            return atom(name, self.rank(name))
        raw = self.rolled.nodes[name]
        if base(raw) in BATCH_NORMS:
            return self._batch_norm(raw)
        args = [self.leaf(a, self.rank(name)) for a in raw.args]
        return self._apply(raw, args)

    def leaf(self, leaf: Any, rank: int) -> Expr | None:
        """The expression of an argument; None also for an argument that is no number."""
        if isinstance(leaf, Ref):
            return self.of(leaf.name)
        if isinstance(leaf, Prev):
            root, factor = self._spike_behind(leaf.name, rank)
            if leaf.delay == 1 and root and leaf.name not in self.settled:
                self.past_spikes.add(f"prev:{root}")
                if np.unique(factor).size == 1 and np.all(
                    factor != 0
                ):  # where the spike's own past is read, it starts as its multiple does
                    self.rolled.initial.setdefault(root, self.rolled.initial[leaf.name] / float(factor.flat[0]))
                return spike(f"prev:{root}", rank).scaled(factor)
            return atom(f"prev:{leaf.name}", rank) if leaf.delay == 1 else atom(f"prev{leaf.delay}:{leaf.name}", rank)
        coefficient = self.coefficient(leaf, rank)
        return None if coefficient is None else constant(coefficient)

    def coefficient(self, leaf: Any, rank: int) -> Array | None:
        """A constant argument as a coefficient array, per step where it differs."""
        if isinstance(leaf, PerStep):
            parts = [self.coefficient(v, rank) for v in leaf.values]
            known = [p for p in parts if p is not None]
            return np.concatenate(np.broadcast_arrays(*known)) if len(known) == len(parts) else None
        if isinstance(leaf, torch.Tensor):
            array = leaf.detach().to(torch.float64).cpu().numpy()
            return number(strip(array, rank), rank)
        return number(float(leaf), rank) if isinstance(leaf, (int, float)) else None

    def _apply(self, raw: Raw, args: list[Expr | None]) -> Expr | None:
        op, rank = base(raw), self.rank(raw.name)
        one, minus = number(1.0, rank), number(-1.0, rank)
        if op == "_to_copy":
            return self._cast(raw, args[0])
        if op in ("expand", "expand_as"):
            return args[0]
        if op == "index_put":
            return self._masked_assignment(raw, rank)
        if op in THRESHOLDS:
            return counts.limited(self, raw, args) or self._threshold(raw, args)
        if op in ("floor", "trunc", "floor_divide") or (op == "div" and raw.kwargs.get("rounding_mode")):
            return counts.quotient(self, raw, args)
        if any(a is None for a in args[: 1 if op in ("neg", "logical_not", "bitwise_not") else 2]):
            return None
        x = args[0]
        assert x is not None
        if op == "neg":
            return x.scaled(minus)
        if op in ("logical_not", "bitwise_not"):
            return constant(one) + x.scaled(minus)
        y = args[1] if len(args) > 1 else None
        if y is None:
            return None
        alpha = number(float(raw.kwargs.get("alpha", raw.args[2] if len(raw.args) > 2 and op in ("add", "sub", "rsub") else 1)), rank)
        if op == "add":
            return x + y.scaled(alpha)
        if op == "sub":
            return x + y.scaled(-alpha)
        if op == "rsub":
            return y + x.scaled(-alpha)
        if op in EQUAL:
            return self._spike_compared(op, x, y, rank)
        if op in ("logical_and", "bitwise_and"):
            return multiply(x, y, self.binary) if self._truth(x) and self._truth(y) else None
        if op in ("logical_or", "bitwise_or", "logical_xor", "bitwise_xor"):
            both = multiply(x, y, self.binary) if self._truth(x) and self._truth(y) else None
            return None if both is None else x + y + both.scaled(minus * (1 if op.endswith("_or") else 2))
        if op == "mul":
            return counts.masked(self, raw, x, y) or multiply(x, y, self.binary)
        if op == "div":
            c = y.constant
            return None if c is None or np.any(c == 0) else x.scaled(1.0 / c)
        z = args[2] if len(args) > 2 else None
        if z is None:
            return None
        if op == "where":
            return select(x, y, z, self.binary)
        if op == "masked_fill":
            return select(y, z, x, self.binary)
        if op == "lerp":
            return self._sum(x, multiply(z, y + x.scaled(minus), self.binary))
        if op == "addcmul":
            product = multiply(y, z, self.binary)
            return self._sum(x, None if product is None else product.scaled(number(float(raw.kwargs.get("value", 1)), rank)))
        return None

    def _cast(self, raw: Raw, x: Expr | None) -> Expr | None:
        """A conversion of type: to whole numbers or truth values it keeps only what is 0 or 1 already."""
        kind = raw.kwargs.get("dtype")
        if x is None or kind is None or kind.is_floating_point or self._bit(x) is not None:
            return x
        name = counts.symbol(x) or ""
        counted = name in self.thresholds and self.thresholds[name].step is not None
        if counted and kind is torch.bool:
            return counts.fired(self, name, "ne", 0.0, self.rank(raw.name))
        return x if counted else None

    def _bit(self, x: Expr) -> str | None:
        """The spike that this is (or the complement of), if it is one."""
        if not x.lin.is_constant or len(x.products) != 1:
            return None
        ((s, p),) = x.products.items()
        low, high = x.lin.const, x.lin.const + p.const
        whole = p.is_constant and np.all((low == 0) | (low == 1)) and np.all((high == 0) | (high == 1))
        return s if whole and s in self.binary else None

    def _truth(self, x: Expr) -> bool:
        """Whether this is a spike, its complement, or a constant of 0 and 1."""
        value = x.constant
        return bool(np.all((value == 0) | (value == 1))) if value is not None else self._bit(x) is not None

    def _masked_assignment(self, raw: Raw, rank: int) -> Expr | None:
        """``x[mask] = value`` for a mask of the value's own shape; the value may be computed from ``y[mask]``: ``x[mask] -= h``."""
        indices, assigned = raw.args[1:3]
        added = len(raw.args) > 3 and raw.args[3]
        if len(indices) != 1 or added or not isinstance(indices[0], Ref):
            return None
        value = self._where_masked(assigned, indices[0], rank)
        x, mask = self.leaf(raw.args[0], rank), self.leaf(indices[0], rank)
        if x is None or value is None or mask is None or self._bit(mask) is None:
            return None
        return select(mask, value, x, self.binary)

    def _where_masked(self, leaf: Any, mask: Ref, rank: int) -> Expr | None:
        """What a value that was picked by a mask is, as far as it is picked."""
        if isinstance(leaf, torch.Tensor):
            return self.leaf(leaf, rank) if leaf.numel() == 1 else None
        if not isinstance(leaf, Ref) or leaf.name not in self.rolled.nodes:
            return self.leaf(leaf, rank) if isinstance(leaf, (int, float)) else None
        raw = self.rolled.nodes[leaf.name]
        if base(raw) == "index":
            return self.leaf(raw.args[0], rank) if list(raw.args[1]) == [mask] else None
        if base(raw) not in ("add", "sub", "rsub", "mul", "div", "neg", "_to_copy", "zeros_like", "full_like"):
            return None
        return self._apply(replace(raw, shape=self.rolled.nodes[mask.name].shape), [self._where_masked(a, mask, rank) for a in raw.args])

    def count(self, name: str, q: counts.Quotient, most: int) -> Expr:
        """Introduce a count of spikes."""
        return spike(self._register(Threshold(name, q.m, False, step=q.step, most=most)), self.rank(name))

    def _spike_compared(self, op: str, x: Expr, y: Expr, rank: int) -> Expr | None:
        """A spike compared with a constant is the spike, its complement, or always the same."""
        limit = y.constant
        if limit is None or len(x.products) != 1 or not x.lin.is_constant or op not in (*COMPARE, *EQUAL):
            return None
        name = counts.symbol(x)
        if name in self.thresholds and self.thresholds[name].step is not None and np.unique(limit).size == 1:
            return counts.fired(self, name, op, float(limit.flat[0]), rank)
        ((s, p),) = x.products.items()
        if s not in self.binary or not p.is_constant:
            return None
        test = {
            "ge": np.greater_equal, "gt": np.greater, "le": np.less_equal, "lt": np.less, "eq": np.equal, "ne": np.not_equal,
        }[op]  # fmt: skip
        quiet, fired = (np.asarray(test(v, limit), dtype=np.float64) for v in (x.lin.const, x.lin.const + p.const))
        return Expr(Lin({}, quiet), {s: Lin({}, fired - quiet)} if np.any(fired != quiet) else {})

    @staticmethod
    def _sum(x: Expr, y: Expr | None) -> Expr | None:
        return None if y is None else x + y

    def _threshold(self, raw: Raw, args: list[Expr | None]) -> Expr | None:
        """Introduce a spike; ``a < b`` is the complement of ``a >= b``."""
        op, rank = base(raw), self.rank(raw.name)
        x = args[0]
        y: Expr | None = constant(number(0.0, rank))
        strict, graded, complement = False, op not in COMPARE, False
        if op in COMPARE:
            y = args[1]
            strict, complement = op in ("gt", "le"), op in ("lt", "le")
        elif op == "heaviside":
            at_zero = None if args[1] is None else args[1].constant
            if at_zero is None or not np.all((at_zero == 0) | (at_zero == 1)) or np.unique(at_zero).size != 1:
                return None
            strict, graded = bool(np.all(at_zero == 0)), False
        elif op == "clamp":
            low, high = (raw.args[k] if len(raw.args) > k else None for k in (1, 2))
            if (low is None) == (high is None):
                return None
            op, y = ("clamp_min", args[1]) if high is None else ("clamp_max", args[2])
        elif op != "relu":
            y = args[1]
        if x is None or y is None:
            return None
        known = self._spike_compared(op, x, y, rank)
        if known is not None:
            return known
        minus = number(-1.0, rank)
        d = x + y.scaled(minus)
        if d.constant is not None:
            self.deaf.add(raw.name)
            return None
        sign = self._state_sign(d)
        if sign < 0 and not graded:  # keep the membrane's coefficient positive: H(-d) is the complement of H'(d)
            d, strict, complement = d.scaled(minus), not strict, not complement
        if raw.name in self.silent:
            return constant(number(float(complement), rank)) if not graded else y
        if raw.name in self.rectified:
            part = multiply(spike(self.rectified[raw.name], rank), d, self.binary)
            return self._above(op, x, y, part)
        s = spike(self._register(Threshold(raw.name, d, strict, graded)), rank)
        if graded:
            return self._above(op, x, y, s)
        return constant(number(1.0, rank)) + s.scaled(minus) if complement else s

    def _above(self, op: str, x: Expr, y: Expr, above: Expr | None) -> Expr | None:
        """min(x, y) = x - relu(x - y), max(x, y) = y + relu(x - y)."""
        if op in ("clamp_max", "minimum"):
            return self._sum(x, None if above is None else above.scaled(-np.ones(1)))
        return self._sum(y, above)

    def _register(self, new: Threshold) -> str:
        """Keep a threshold under its first node's name: the same condition computed twice is one spike."""
        for name, old in self.thresholds.items():
            steps = [t.step for t in (old, new) if t.step is not None]
            alike = (old.strict, old.graded, old.most) == (new.strict, new.graded, new.most) and len(steps) != 1
            if name != new.node and alike and self._same(old.d, new.d) and (not steps or same(steps[0], steps[-1])):
                return name
        self.thresholds[new.node] = new
        return new.node

    @staticmethod
    def _same(x: Expr, y: Expr) -> bool:
        return (
            x.atoms == y.atoms
            and same_form(x.lin, y.lin)
            and set(x.products) == set(y.products)
            and all(same_form(x.products[s], y.products[s]) for s in x.products)
        )

    @staticmethod
    def _state_sign(d: Expr) -> int:
        """The common sign of the coefficients of states (else of all atoms); 0 if they differ."""
        terms = {a: c for a, c in d.lin.terms.items() if a.startswith("prev")} or d.lin.terms
        signs = {int(np.sign(v)) for c in terms.values() for v in np.unique(np.sign(c))}
        return signs.pop() if len(signs) == 1 else 0


def strip(array: Array, rank: int) -> Array:
    """Drop leading axes of length 1 until the array has at most ``rank`` axes."""
    while array.ndim > rank and array.shape[0] == 1:
        array = array[0]
    return array

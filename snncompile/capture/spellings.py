"""Other spellings of the same arithmetic, rewritten into the operations that the algebra knows.

Each rule is an identity of real numbers: sigmoid(y) > c is y > log(c / (1 - c)), relu(sign(y)) is y > 0, a straight-through
estimator (s - g) + g is s. In float32 the two sides may differ where a membrane equals its threshold up to rounding, which the
comparison with PyTorch counts as ties.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from snncompile.capture.roll import PerStep, Rolled, live
from snncompile.capture.trace import Raw, Ref

aten = torch.ops.aten
COMPARE = ("gt", "ge", "lt", "le", "eq", "ne")
COUNTING = ("round", "floor", "trunc", "floor_divide", "ceil", "sign", "sgn")
INVERSES: dict[str, tuple[float, float, Callable[[float], float]]] = {
    "sigmoid": (0.0, 1.0, lambda c: math.log(c / (1 - c))), "tanh": (-1.0, 1.0, math.atanh), "exp": (0.0, math.inf, math.log),
}  # fmt: skip
SCALAR = {op: getattr(aten, op).Scalar for op in COMPARE}


def respell(rolled: Rolled) -> Rolled:
    """The step with every known spelling rewritten; the last node of each rewriting keeps the name of what it replaces."""
    nodes: dict[str, Raw] = {}
    for raw in rolled.nodes.values():
        nodes.update((new.name, new) for new in _respell(raw, nodes))
    return live(replace(rolled, nodes=nodes))


def _base(raw: Raw) -> str:
    return raw.op.partition(".")[0]


def _respell(raw: Raw, nodes: Mapping[str, Raw]) -> Iterator[Raw]:
    for rule in (_bounds, _renamed, _chosen, _divided, _floored, _fired, _cancelled):
        found = list(rule(raw, nodes))
        if found:
            yield from found[:-1]
            if found[-1] is not raw and (found[-1].op, found[-1].args) != (raw.op, raw.args):
                yield from _respell(found[-1], {**nodes, **{n.name: n for n in found[:-1]}})
            else:
                yield found[-1]
            return
    yield raw


def _source(leaf: Any, nodes: Mapping[str, Raw]) -> Raw | None:
    """The node behind an argument, of this step."""
    return nodes.get(leaf.name) if isinstance(leaf, Ref) else None


def _make(raw: Raw, op: str, function: Callable[..., Any], *args: Any, name: str | None = None, **kwargs: Any) -> Raw:
    return replace(raw, name=name or raw.name, op=op, function=function, args=args, kwargs=kwargs)


def _bounds(raw: Raw, nodes: Mapping[str, Raw]) -> Iterator[Raw]:
    """Both bounds at once are one after the other, unless what is bounded counts spikes or is a spike on a grid."""
    op = _base(raw)
    if op in ("hardtanh", "relu6"):
        low, high = (0.0, 6.0) if op == "relu6" else ((*raw.args[1:], *(-1.0, 1.0)[len(raw.args) - 1 :]))
    elif op == "clamp" and len(raw.args) > 2 and raw.args[1] is not None and raw.args[2] is not None:
        low, high = raw.args[1:3]
    else:
        return
    if not isinstance(low, (int, float)) or not isinstance(high, (int, float)) or low > high or _counts(raw.args[0], nodes):
        return
    upper = f"{raw.name}:upper"
    yield _make(raw, "clamp_max.default", aten.clamp_max.default, raw.args[0], high, name=upper)
    yield _make(raw, "clamp_min.default", aten.clamp_min.default, Ref(upper), low)


def _counts(leaf: Any, nodes: Mapping[str, Raw]) -> bool:
    source = _source(leaf, nodes)
    while source is not None:
        if _base(source) in COUNTING or source.kwargs.get("rounding_mode"):
            return True
        if _base(source) not in ("mul", "_to_copy", "div"):
            return False
        source = next((s for s in (_source(a, nodes) for a in source.args) if s is not None and _base(s) not in COMPARE), None)
    return False


def _renamed(raw: Raw, nodes: Mapping[str, Raw]) -> Iterator[Raw]:
    op = _base(raw)
    if op in ("fmin", "fmax"):
        name = "minimum" if op == "fmin" else "maximum"
        yield _make(raw, f"{name}.default", getattr(aten, name).default, *raw.args)
    elif op == "nan_to_num":  # weights and inputs are finite
        yield _make(raw, "_to_copy.default", aten._to_copy.default, raw.args[0])


def _chosen(raw: Raw, nodes: Mapping[str, Raw]) -> Iterator[Raw]:
    """The smaller or the larger of two values, chosen by comparing them: where(a > b, b, a), whichever way round, `>` or `>=`."""
    mask = _source(raw.args[0], nodes) if _base(raw) == "where" and len(raw.args) == 3 else None
    if mask is None or _base(mask) not in COMPARE[:4] or len(mask.args) != 2:
        return
    (a, b), (yes, no) = mask.args, raw.args[1:]
    straight = _alike(a, yes) and _alike(b, no)
    if not straight and not (_alike(a, no) and _alike(b, yes)):
        return
    largest = straight == (_base(mask) in ("gt", "ge"))
    if isinstance(b, (int, float)):
        clamp = aten.clamp_min if largest else aten.clamp_max
        yield _make(raw, f"{clamp.__name__}.default", clamp.default, a, b)
    else:
        name = "maximum" if largest else "minimum"
        yield _make(raw, f"{name}.default", getattr(aten, name).default, a, b)


def _alike(one: Any, other: Any) -> bool:
    """Whether two arguments are one value: of one node, or constants that are the same number everywhere."""
    if isinstance(one, (int, float, torch.Tensor)) and isinstance(other, (int, float, torch.Tensor)):
        return bool(torch.all(torch.as_tensor(one) == torch.as_tensor(other)))
    return isinstance(one, Ref) and one == other


def _divided(raw: Raw, nodes: Mapping[str, Raw]) -> Iterator[Raw]:
    """x + value * a / b for a constant b."""
    if _base(raw) == "addcdiv" and isinstance(raw.args[2], (torch.Tensor, PerStep)):
        b = raw.args[2]
        inverse = PerStep(tuple(1 / v for v in b.values)) if isinstance(b, PerStep) else 1 / b
        yield _make(raw, "addcmul.default", aten.addcmul.default, raw.args[0], raw.args[1], inverse, **raw.kwargs)


def _floored(raw: Raw, nodes: Mapping[str, Raw]) -> Iterator[Raw]:
    """A comparison of a bounded, squashed or signed value is one of the value itself."""
    op = _base(raw)
    inner = _source(raw.args[0], nodes) if op in COMPARE and isinstance(raw.args[1], (int, float)) else None
    if inner is None:
        return
    limit, what = float(raw.args[1]), _base(inner)
    if what in INVERSES and op in COMPARE[:4]:
        low, high, inverse = INVERSES[what]
        if low < limit < high:
            yield _make(raw, f"{op}.Scalar", SCALAR[op], inner.args[0], inverse(limit))
    elif what in ("sign", "sgn"):
        same = {
            ("eq", 1.0): "gt", ("eq", -1.0): "lt", ("ne", 1.0): "le", ("ne", -1.0): "ge", **{(o, 0.0): o for o in COMPARE[:4]},
            ("ge", 1.0): "gt", ("lt", 1.0): "le", ("le", -1.0): "lt", ("gt", -1.0): "ge",
        }.get((op, limit))  # fmt: skip
        if same is not None:
            yield _make(raw, f"{same}.Scalar", SCALAR[same], inner.args[0], 0.0)
    elif what == "relu" and limit == 0 and op in ("gt", "ne", "eq", "le"):
        same = "gt" if op in ("gt", "ne") else "le"
        yield _make(raw, f"{same}.Scalar", SCALAR[same], inner.args[0], 0.0)


def _fired(raw: Raw, nodes: Mapping[str, Raw]) -> Iterator[Raw]:
    """What is 1 above zero and 0 elsewhere: the positive part of a sign, ceil(y) between 0 and 1, a sigmoid that is rounded."""
    op, inner = _base(raw), _source(raw.args[0] if raw.args else None, nodes)
    what = "" if inner is None else _base(inner)
    low, high = (
        (*raw.args[1:3], None, None)[:2] if op == "clamp" else (raw.args[1] if op == "clamp_min" else 0.0 if op == "relu" else None, None)
    )
    signed = what in ("sign", "sgn") and low == 0 and high in (None, 1)
    if inner is None or not (signed or (what == "ceil" and (low, high) == (0, 1)) or (what == "sigmoid" and op == "round")):
        return
    mask = f"{raw.name}:above"
    yield _make(raw, "gt.Scalar", SCALAR["gt"], inner.args[0], 0.0, name=mask)
    yield _make(raw, "_to_copy.default", aten._to_copy.default, Ref(mask), dtype=torch.float32)


def _cancelled(raw: Raw, nodes: Mapping[str, Raw]) -> Iterator[Raw]:
    """(s - g) + g and (g - g) + s, as straight-through estimators leave it in evaluation mode."""
    if _base(raw) != "add" or raw.kwargs.get("alpha", 1) != 1 or len(raw.args) != 2:
        return
    for one, other in (raw.args, raw.args[::-1]):
        inner = _source(one, nodes)
        if inner is None or _base(inner) != "sub" or inner.kwargs.get("alpha", 1) != 1 or not isinstance(other, Ref):
            continue
        left, right = inner.args
        kept = left if right == other else other if left == right else None
        if isinstance(kept, Ref) and _shape(kept, nodes) == raw.shape:
            yield _make(raw, "_to_copy.default", aten._to_copy.default, kept)
            return


def _shape(leaf: Ref, nodes: Mapping[str, Raw]) -> tuple[int, ...] | None:
    return nodes[leaf.name].shape if leaf.name in nodes else None


__all__ = ["respell"]

"""Bring a trace to its essentials: in-place operations become functional, what does not depend on the input is folded, shapes are noted.

The replayed outputs (``replay.check_replay``) must equal the model's own, on the traced input and on another one: a difference means
that the trace does not stand for the network (an update through a view, randomness, a decision taken on values).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from snncompile.capture.memory import RESHAPE_LIKE
from snncompile.capture.replay import SHAPE_ONLY, Values
from snncompile.capture.trace import Raw, Ref, Trace, replace_leaves
from snncompile.errors import Diagnostic, fail

RANDOM = ("bernoulli", "rand", "normal", "dropout", "uniform", "multinomial", "exponential_", "poisson")
IDENTITY = {
    "clone.default", "detach.default", "alias.default", "lift_fresh.default", "lift_fresh_copy.default", "contiguous.default",
    "_to_copy.default", "to.dtype", "detach_.default",
}  # fmt: skip
SAME_ELEMENTS = {"expand.default", "expand_as.default", "view.default", "reshape.default", "_unsafe_view.default"}
LIKE = "expand_like.memory"


def functional(raw: Raw) -> tuple[str, Callable[..., Any]]:
    """The operation's name and function without its in-place effect."""
    base, _, overload = raw.op.partition(".")
    if not base.endswith("_") or base.startswith("_") or base.endswith("__"):
        return raw.op, raw.function
    if base == "zero_":
        return "zeros_like.default", torch.zeros_like
    if base == "fill_":
        return "full_like.default", lambda a, value: torch.full_like(a, float(value))
    packet = getattr(torch.ops.aten, base[:-1], None)
    if packet is None or overload not in packet.overloads():
        raise fail("SNN115", f"no functional form of the in-place operation '{raw.op}'", loc=raw.loc, help="write it out of place")
    return f"{base[:-1]}.{overload}", getattr(packet, overload)


def normalise(trace: Trace, drawn: list[Diagnostic] | None = None) -> Trace:
    """Replace in-place operations by functional ones and refuse randomness; later readers already see the new value.

    A list as ``drawn`` takes the refusals instead, and what is drawn becomes a constant.
    """
    nodes = {}
    picked: set[str] = set()  # values of a mask's size, which no other sample shares
    for raw in trace.nodes.values():
        if raw.op != "input":
            if raw.op.startswith("index.") or (picked.intersection(raw.refs) and not raw.op.startswith("index_put")):
                picked.add(raw.name)
                if raw.op == "view.default" and raw.args[1] == []:  # PyTorch drops the axis of a single element before it assigns it
                    raw.op, raw.function, raw.args = "alias.default", torch.ops.aten.alias.default, raw.args[:1]
            if any(word in raw.op for word in RANDOM) and not (raw.op.startswith("native_dropout") and raw.args[2:3] == (False,)):
                refusal = fail(
                    "SNN116",
                    f"the network draws random numbers in evaluation mode ('{raw.op}')",
                    loc=raw.loc,
                    help="make the network deterministic in evaluation mode (dropout off, noise off)",
                )
                if drawn is None:
                    raise refusal
                drawn += refusal.diagnostics
                _settle(raw)
            if raw.op == "copy_.default":  # the source counts, not what was there before
                raw.op, raw.function, raw.args = LIKE, _like, (raw.args[1], raw.args[0])
            else:
                raw.op, raw.function = functional(raw)
        nodes[raw.name] = raw
    return replace(trace, nodes=nodes)


def _like(x: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    """``x`` in the shape and type of another value."""
    return x.to(of.dtype).expand(of.shape)


def _settle(raw: Raw) -> None:
    """Let a random operation draw the same every time: dropout drops nothing, numbers are one half."""
    if raw.op.startswith("native_dropout"):
        raw.args = (*raw.args[:2], False)
    elif raw.args and isinstance(raw.args[0], Ref):
        raw.op, raw.function, raw.args, raw.kwargs = "full_like.default", lambda x: torch.full_like(x, 0.5), raw.args[:1], {}
    else:
        draw = raw.function
        raw.function = lambda *args, **kwargs: torch.full_like(draw(*args, **kwargs), 0.5)


FIRST_OF_TUPLE = (
    "native_batch_norm",
    "_native_batch_norm",
    "cudnn_batch_norm",
    "max_pool2d_with_indices",
    "native_dropout",
    "native_layer_norm",
)


def fold(trace: Trace, values: Values) -> tuple[Trace, Values]:
    """Fold what does not depend on the input into the arguments of its readers; skip identities; note shapes.

    Returns the folded trace and the folded constants by node name.
    """
    constant: Values = {}
    alias: dict[str, Any] = {}
    nodes: dict[str, Raw] = {}
    unused: set[str] = set()

    def resolve(leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            return constant[leaf.name] if leaf.name in constant else alias.get(leaf.name, leaf)
        return leaf

    for recorded in trace.nodes.values():
        value = values[recorded.name]
        old = _shaped(recorded, value)
        raw = replace(old, args=replace_leaves(old.args, resolve), kwargs={k: replace_leaves(v, resolve) for k, v in old.kwargs.items()})
        if raw.op != "input" and (not raw.refs or raw.op in SHAPE_ONLY):
            constant[raw.name] = value
            continue
        if any(name in unused for name in raw.refs):
            unused.add(raw.name)
            continue
        source = nodes.get(raw.args[0].name) if raw.function is operator.getitem else None
        if source is not None and source.op.startswith(FIRST_OF_TUPLE):
            if raw.args[1] != 0:  # statistics, indices: nothing that a chip could use
                unused.add(raw.name)
                continue
            if not isinstance(values[source.name], torch.Tensor):
                source.shape, source.function = tuple(value.shape), _first(source.function)
                values[source.name] = value
            alias[raw.name] = raw.args[0]
            continue
        raw = _single(_item(raw, nodes))
        same = _unchanged(raw, nodes)
        if same is not None:
            alias[raw.name] = same
            continue
        if raw.op in ("view.default", "_unsafe_view.default"):  # copies into contiguous memory are identities here
            raw = replace(raw, function=torch.reshape)
        if _is_identity(raw, value, values):
            alias[raw.name] = raw.args[0]
            continue
        if isinstance(value, torch.Tensor):
            raw.shape = tuple(value.shape)
        nodes[raw.name] = raw
    outputs = []
    for t, names in enumerate(trace.outputs):
        resolved = [resolve(Ref(n)) for n in names]
        if t < len(trace.outputs) - 1:  # the input may need some steps to get through
            resolved = [r if isinstance(r, Ref) else Ref(n) for r, n in zip(resolved, names, strict=True)]
        if any(not isinstance(r, Ref) for r in resolved):
            raise fail("SNN114", "an output of the network does not depend on its input", help="return the output of the last layer")
        if any(r.name in names for r in resolved for names in trace.inputs):
            raise fail("SNN114", "an output of the network is its input, unchanged", help="return the output of the last layer")
        outputs.append([r.name for r in resolved])
    return replace(trace, nodes=nodes, outputs=outputs), constant


def _shaped(raw: Raw, value: Any) -> Raw:
    """What takes its shape from another value takes it from here on as a number, so that it does not depend on that value."""
    if raw.op == RESHAPE_LIKE:
        return replace(raw, op="view.default", function=torch.reshape, args=(raw.args[0], list(value.shape)))
    if raw.op == LIKE:
        kind, shape = value.dtype, list(value.shape)
        return replace(raw, op="expand.default", function=lambda x, size: x.to(kind).expand(size), args=(raw.args[0], shape))
    return raw


def _item(raw: Raw, nodes: Mapping[str, Raw]) -> Raw:
    """An item of a split or unbound tensor as one data movement."""
    if raw.function is not operator.getitem or raw.args[0].name not in nodes:
        return raw
    source, k = nodes[raw.args[0].name], raw.args[1]
    if not source.op.startswith(("unbind", "split", "chunk")):
        return raw
    return replace(raw, op="select.item", args=source.args, kwargs=source.kwargs, function=lambda *a, **kw: source.function(*a, **kw)[k])


def _unchanged(raw: Raw, nodes: Mapping[str, Raw]) -> Any:
    """The argument that a power of 1 or sign(x) * relu(abs(x)) leaves as it is (PyTorch's lp_pool2d); None for anything else."""
    if raw.op.startswith("pow.") and isinstance(raw.args[1], (int, float)) and raw.args[1] == 1:
        return raw.args[0]
    if not raw.op.startswith("mul.") or not all(isinstance(a, Ref) and a.name in nodes for a in raw.args[:2]):
        return None
    sign, size = (nodes[a.name] for a in raw.args[:2])
    inner = nodes.get(size.args[0].name) if size.op.startswith("relu") and isinstance(size.args[0], Ref) else None
    whole = sign.op.startswith("sign.") and inner is not None and inner.op.startswith("abs.") and inner.args[0] == sign.args[0]
    return sign.args[0] if whole else None


def _single(raw: Raw) -> Raw:
    """A stack or concatenation of one tensor as a data movement."""
    if not raw.op.startswith(("stack.", "cat.")) or len(raw.args[0]) != 1:
        return raw
    function = raw.function
    return replace(raw, op="unsqueeze.single", args=(raw.args[0][0], *raw.args[1:]), function=lambda x, *a, **kw: function([x], *a, **kw))


def _first(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: function(*args, **kwargs)[0]


def _is_identity(raw: Raw, value: Any, values: Values) -> bool:
    """Whether the node passes its first argument on unchanged."""
    source = raw.args[0] if raw.args else None
    if not isinstance(source, Ref) or not isinstance(value, torch.Tensor):
        return False
    before = values[source.name]
    if isinstance(before, tuple):
        return False
    if raw.op in IDENTITY:
        return bool(before.dtype == value.dtype)
    return raw.op in SAME_ELEMENTS and bool(before.shape == value.shape)

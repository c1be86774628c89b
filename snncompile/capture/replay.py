"""Execute recorded operations once more, as pure functions, and hold each value only until its last reader.

What does not depend on the input is computed once, however many steps compute it and however often the trace is replayed.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from snncompile.capture.driver import Inputs
from snncompile.capture.trace import Raw, Ref, Trace, replace_leaves
from snncompile.errors import fail

SHAPE_ONLY = {
    "zeros_like.default", "ones_like.default", "full_like.default", "new_zeros.default", "new_ones.default", "new_full.default",
    "empty_like.default", "new_empty.default", "empty.memory_format",
}  # fmt: skip
"""Operations that take no more than the shape of what they read."""
Values = dict[str, Any]


def replay(trace: Trace, inputs: list[Inputs], constants: Values | None = None, keep: Collection[str] = ()) -> Values:
    """Execute every node on the inputs of every call.

    constants  what ``fixed_values`` found, if it is known already
    keep       values to return beside inputs, constants and outputs; of all others, dtype and shape are returned (a ``meta`` tensor)
    """
    values: Values = {
        name: x for names, given in zip(trace.inputs, inputs, strict=True) for name, x in zip(names, given, strict=True)
    }  # fmt: skip
    known = fixed_values(trace) if constants is None else constants
    kept = {*values, *keep, *(name for names in trace.outputs for name in names)}
    last = last_readers(trace.nodes.values(), kept)
    derived: set[str] = set()  # from shapes: constants as well
    with torch.no_grad():
        for raw in trace.nodes.values():
            if raw.op == "input":
                continue
            if raw.name in known:
                values[raw.name] = known[raw.name]
                continue
            values[raw.name] = execute(raw, values)
            if raw.op in SHAPE_ONLY or all(r in derived or r in known for r in raw.refs):
                derived.add(raw.name)
            for name in last.get(raw.name, ()):
                if name not in known and name not in derived:
                    values[name] = described(values[name])
    return values


UNSET = ("empty.", "empty_like.", "empty_strided.", "new_empty.", "new_empty_strided.")
"""What makes a tensor and leaves its values to chance: all of them are written later, or nothing may depend on them."""


def execute(raw: Raw, values: Mapping[str, Any]) -> Any:
    """The value of one node."""

    def value(leaf: Any) -> Any:
        return values[leaf.name] if isinstance(leaf, Ref) else leaf

    args = replace_leaves(raw.args, value)
    kwargs = {k: replace_leaves(v, value) for k, v in raw.kwargs.items()}
    made = raw.function(*args, **kwargs)
    return made.zero_() if raw.op.startswith(UNSET) else made


def last_readers(nodes: Iterable[Raw], keep: Collection[str] = ()) -> dict[str, list[str]]:
    """By node, the values that nothing reads after it: those whose last reader it is, and its own if nobody reads that."""
    last: dict[str, str] = {}
    for raw in nodes:
        last[raw.name] = raw.name
        for ref in raw.refs:
            last[ref] = raw.name
    found: dict[str, list[str]] = {}
    for name, reader in last.items():
        if name not in keep:
            found.setdefault(reader, []).append(name)
    return found


def described(value: Any) -> Any:
    """The dtype and shape of a value that is let go."""
    if isinstance(value, (tuple, list)):
        return tuple(described(v) for v in value)
    return torch.empty_like(value, device="meta") if isinstance(value, torch.Tensor) else value


def fixed_values(trace: Trace) -> Values:
    """The values of all nodes that read no input, not even its shape.

    A computation that occurs several times, such as the standardisation of a weight at every step, is executed once, and its result is
    one object. What only such nodes read is let go, but for what may stand in the place of a state: at the first step nothing was
    there to be read, and the operation that reads the state later reads a constant.
    """
    twins: dict[str, str] = {}  # a fixed node, and the first that computes the same
    first: dict[Hashable, str] = {}
    needed: set[str] = {name for names in trace.outputs for name in names}
    reading: dict[tuple[str, str], set[str]] = {}
    varying: set[tuple[str, str]] = set()
    for raw in trace.nodes.values():
        place = (raw.op, str(raw.loc))
        if raw.op == "input" or raw.op in SHAPE_ONLY or any(r not in twins for r in raw.refs):
            needed.update(twins[r] for r in raw.refs if r in twins)
            varying.add(place)
            continue
        twins[raw.name] = first.setdefault((raw.op, id(raw.function), _key(raw.args, twins), _key(raw.kwargs, twins)), raw.name)
        reading.setdefault(place, set()).update(twins[r] for r in raw.refs)
    needed.update(name for place in varying for name in reading.get(place, ()))

    def to_twin(leaf: Any) -> Any:
        return Ref(twins[leaf.name]) if isinstance(leaf, Ref) else leaf

    nodes = [
        replace(raw, args=replace_leaves(raw.args, to_twin), kwargs={k: replace_leaves(v, to_twin) for k, v in raw.kwargs.items()})
        for raw in trace.nodes.values()
        if twins.get(raw.name) == raw.name
    ]
    last = last_readers(nodes, needed)
    values: Values = {}
    with torch.no_grad():
        for raw in nodes:
            values[raw.name] = execute(raw, values)
            for name in last.get(raw.name, ()):
                values[name] = described(values[name])
    return {name: values[twin] for name, twin in twins.items()}


def _key(value: Any, twins: Mapping[str, str]) -> Hashable:
    """What two equal arguments have in common: the same tensors, the same constants of the same types."""
    if isinstance(value, (tuple, list)):
        return (type(value), *(_key(v, twins) for v in value))
    if isinstance(value, dict):
        return tuple((k, _key(v, twins)) for k, v in value.items())
    if isinstance(value, Ref):
        return twins[value.name]
    if isinstance(value, torch.Tensor):
        return (value.data_ptr(), value.dtype, value.shape, value.stride()) if value.layout is torch.strided else id(value)
    return (type(value), repr(value))


def check_replay(trace: Trace, inputs: list[Inputs], expected: list[torch.Tensor], what: str, constants: Values | None = None) -> Values:
    """Replay a per-step trace and compare with the model's own outputs ``expected[k]``, (T, ...) or reduced; returns all values."""
    values = replay(trace, inputs, constants)
    for k, theirs in enumerate(expected):
        mine = torch.stack([values[names[k]].float() for names in trace.outputs])
        kind = trace.reduced[k] if trace.reduced else ""
        mine = reduce(mine, kind)
        if mine.numel() != theirs.numel() or not torch.allclose(
            mine.reshape(theirs.shape), theirs.float(), rtol=1e-4, atol=1e-5, equal_nan=True
        ):
            raise fail(
                "SNN117",
                f"the recorded operations do not reproduce the network's own output on {what}",
                loc=trace.nodes[trace.outputs[-1][k]].loc,
                notes=["either it updates a tensor through a view, or it decides in Python on the values of tensors"],
                help="write such updates out of place, and branches on tensors with torch.where",
            )
    return values


def reduce(y: Any, kind: str, axis: int = 0) -> Any:
    """A network's readout over time: ``mean``, ``sum``, the ``last`` step, or none."""
    if kind == "last":
        return y[-1] if axis == 0 else y[:, -1]
    return y.mean(axis) if kind == "mean" else y.sum(axis) if kind == "sum" else y


__all__ = ["SHAPE_ONLY", "Values", "check_replay", "execute", "fixed_values", "last_readers", "reduce", "replay"]

"""What of a graph does not depend on the network's input, and whether every operator of it is understood.

Fixed are stored tensors, shapes, and what is computed from them alone; so are states that go their own way, such as a counter of the
steps (t' = t + 1): constants per step are often read at it.
"""

from __future__ import annotations

from dataclasses import dataclass

import snncompile.capture.onnx.layers
import snncompile.capture.onnx.pointwise
import snncompile.capture.onnx.shaping  # noqa: F401 - they register their operators
from snncompile.capture.onnx.file import OnnxFile
from snncompile.capture.onnx.node import OPERATORS, Node
from snncompile.capture.onnx.states import Roles
from snncompile.errors import CompileError, Diagnostic, Location


@dataclass(frozen=True)
class Fixed:
    """Names of the values that are the same for every input, and of the states among them."""

    values: frozenset[str]
    states: frozenset[str]


def find_fixed(file: OnnxFile, roles: Roles) -> Fixed:
    """Start with all states and drop those whose next value depends on an input, until none is left to drop."""
    states = set(roles.states)
    while True:
        known = {*file.stored, *states}
        for n in file.nodes:
            if n.op in ("Shape", "Size", "Constant") or (n.inputs and all(name in known or not name for name in n.inputs)):
                known.update(n.outputs)
        moving = {name for name in states if roles.states[name] not in known}
        if not moving:
            return Fixed(frozenset(known), frozenset(states))
        states -= moving


def check_operators(file: OnnxFile, fixed: Fixed) -> None:
    """Raise SNN172 with every node that cannot be run."""
    found: list[Diagnostic] = []
    unknown: dict[str, list[Node]] = {}
    for n in file.nodes:
        known = OPERATORS.get(n.op)
        if known is None:
            unknown.setdefault(n.op, []).append(n)
            continue
        reason = known.refuse(n) if known.refuse is not None else None
        moving = [n.inputs[k] for k in known.static if k < len(n.inputs) and n.inputs[k] and n.inputs[k] not in fixed.values]
        if reason is None and moving:
            reason = f"takes a shape, axis, index or bound from '{moving[0]}', which depends on the network's input"
        if reason is not None:
            found.append(Diagnostic("SNN172", f"{file.path}: node '{n.name}' ({n.op}) {reason}", _location(n)))
    for label, group in unknown.items():
        names = ", ".join(f"'{n.name}'" for n in group[:6]) + (f" and {len(group) - 6} more" if len(group) > 6 else "")
        found.append(Diagnostic(
            "SNN172", f"{file.path}: the operator {label} is not understood; nodes: {names}", _location(group[0]),
            help="leave this part to the host, or write it with operators that are (docs/onnx.md lists them)",
        ))  # fmt: skip
    if found:
        raise CompileError(found)


def _location(n: Node) -> Location:
    return Location(n.file, n.line, n.function)


__all__ = ["Fixed", "check_operators", "find_fixed"]

"""Drop operations that do nothing, and flatten sums."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir.graph import Graph, Op, fresh_name
from snncompile.ir.linear_ops import Add, Affine, Delay, Gather
from snncompile.passes.arrays import is_all
from snncompile.passes.base import Change, Refusal, RewritePass, inherit


@dataclass(frozen=True)
class Simplify(RewritePass):
    """Remove identities and nested sums.

    affine(x), factor 1, shift 0       ->  x
    gather(x), same shape and order    ->  x
    add(x)                             ->  x
    add(a, add(b, c)), sole reader     ->  add(a, b, c)
    two equal gathers or delays of x   ->  one
    add(x, x, y)                       ->  add(affine(x) factor 2, y)
    """

    name = "simplify"

    def rule(self, op: Op, graph: Graph) -> Change | Refusal | None:
        """Simplify one node."""
        if isinstance(op, Affine) and is_all(op.factor, 1.0) and is_all(op.shift, 0.0):
            return Change(redirect={op.name: op.inputs[0]})
        if isinstance(op, Gather) and op.index.shape == graph.shape(op.inputs[0]) and op.is_reshape:
            return Change(redirect={op.name: op.inputs[0]})
        if isinstance(op, (Gather, Delay)):
            twin = next((n for n in graph.readers_of[graph.node(op.inputs[0]).name] if n is not op and _same_wiring(n, op)), None)
            return None if twin is None else Change((inherit(twin, op),), {op.name: twin.name})
        if not isinstance(op, Add):
            return None
        if len(op.inputs) == 1:
            return Change(redirect={op.name: op.inputs[0]})
        inner = [n for n in map(graph.node, op.inputs) if isinstance(n, Add) and graph.sole_reader(n.name) is op]
        inner = [n for n in inner if op.inputs.count(n.name) == 1]
        if inner:
            names = {n.name for n in inner}
            flat = tuple(r for ref in op.inputs for r in (graph.node(ref).inputs if ref in names else (ref,)))
            return Change((inherit(replace(op, inputs=flat), *inner),))
        ref, count = Counter(op.inputs).most_common(1)[0]
        if count > 1:
            name = fresh_name(graph.by_name, f"{op.name}_twice")
            factor, shift = np.array([float(count)]), np.array([0.0])
            scaled = Affine(name=name, inputs=(ref,), loc=op.loc, origin=op.origin or (op.name,), factor=factor, shift=shift)
            return Change((scaled, replace(op, inputs=(name, *(r for r in op.inputs if r != ref)))))
        return None


def _same_wiring(one: Op, other: Op) -> bool:
    """Whether both are the same gather or the same delay of the same value."""
    if one.inputs != other.inputs:
        return False
    if isinstance(one, Gather) and isinstance(other, Gather):
        return np.array_equal(one.index, other.index)
    return isinstance(one, Delay) and isinstance(other, Delay) and bool(np.all(one.initial == other.initial))

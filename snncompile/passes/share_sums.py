"""Let the sums of a residual stream read each other again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir.graph import Array, Graph, Op, fresh_name, node_of
from snncompile.ir.linear_ops import Add, Affine, AvgPool2d, Conv2d, Linear
from snncompile.passes.arrays import compact, constant_in_time, is_all, spread
from snncompile.passes.base import Change, Refusal, RewritePass, inherit

Terms = Mapping[str, Array]
SAME = 1e-12
"""The relative difference within which two factors are in the same ratio as two others."""


@dataclass(frozen=True)
class ShareSums(RewritePass):
    """A capture writes every point of a residual stream as the sum of all that was added until there. Here each reads the one before.

    Given    %s1 = add(a x, b y)    %s2 = add(r a x, r b y, z)         x, y currents of more than ``max_copy`` weights
    Result   %s1 = add(a x, b y)    %s2 = add(z, r %s1)

    A population then hears one real-valued stream, not one for every block before it. Cheaper currents stay: they are computed once
    for each reader, which rounds nothing.
    """

    name = "share-sums"
    max_copy: int = 4096

    def rule(self, op: Op, graph: Graph) -> Change | Refusal | None:
        """Rewrite one sum by the largest other one that it contains."""
        if not isinstance(op, Add) or any(isinstance(_behind(r, graph), Add) for r in op.inputs):
            return None
        terms = summands(op, graph)
        if len(terms) < 2:
            return None
        best: tuple[int, Add, Array] | None = None
        for other in graph.of(Add):
            part = {} if other is op else summands(other, graph)
            if not 1 < len(part) < len(terms) + (best is None) or (best is not None and len(part) <= best[0]):
                continue
            if len(part) == len(terms) and graph.nodes.index(other) > graph.nodes.index(op):
                continue  # of two equal sums the first is kept
            ratio = _ratio(part, terms)
            if ratio is not None and sum(_weights(ref, graph) for ref in part) > self.max_copy:
                best = (len(part), other, ratio)
        if best is None:
            return None
        _, other, ratio = best
        shared = summands(other, graph)
        rest = tuple(r for r in op.inputs if not any(ref in shared for ref in _term(r, graph)))
        name = fresh_name(graph.by_name, f"{op.name}_{other.name}")
        scaled = Affine(name=name, inputs=(other.name,), loc=op.loc, origin=op.origin or (op.name,), factor=ratio, shift=np.array([0.0]))
        return Change((scaled, inherit(replace(op, inputs=(*rest, name)), other)))


def summands(op: Add, graph: Graph) -> dict[str, Array]:
    """What a sum adds up, sums inside it taken apart, with factors ``(1, ...)``; empty if it is not linear or adds a value twice."""
    found: dict[str, Array] = {}
    for ref in op.inputs:
        parts = _term(ref, graph)
        if not parts or any(r in found for r in parts):
            return {}
        found |= parts
    return found


def _term(ref: str, graph: Graph) -> dict[str, Array]:
    """One summand: a value, a multiple of one, or a multiple of a sum."""
    op = graph.node(ref)
    rank = len(graph.shape(ref))
    factor = spread(np.ones(1), rank)
    if isinstance(op, Affine):
        if not is_all(op.shift, 0.0) or not constant_in_time(op.factor):
            return {}
        ref, factor = op.inputs[0], spread(op.factor, rank)[:1]
        op = graph.node(ref)
    if isinstance(op, Add):
        return {r: factor * f for r, f in summands(op, graph).items()}
    return {ref: factor}


def _behind(ref: str, graph: Graph) -> Op:
    op = graph.node(ref)
    return graph.node(op.inputs[0]) if isinstance(op, Affine) else op


def _ratio(part: Terms, whole: Terms) -> Array | None:
    """The factor that takes ``part`` to the same terms of ``whole``; None if there is none."""
    if not part or any(ref not in whole or np.any(factor == 0) for ref, factor in part.items()):
        return None
    ratios = [whole[ref] / factor for ref, factor in part.items()]
    if any(np.any(np.abs(r - ratios[0]) > SAME * np.abs(ratios[0])) for r in ratios):
        return None
    return compact(ratios[0])


def _weights(ref: str, graph: Graph) -> int:
    """The weights of the current behind a summand."""
    op = graph.by_name[node_of(ref)]
    while isinstance(op, (Affine, AvgPool2d)):
        op = graph.node(op.inputs[0])
    return op.weight.size if isinstance(op, (Conv2d, Linear)) else 0

"""A synapse that reads a concatenation becomes one synapse per part."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir.graph import Array, Graph, Op, fresh_name
from snncompile.ir.linear_ops import Add, Affine, Conv2d, Delay, Gather, Input, Linear
from snncompile.ir.population import FLOAT_POPULATIONS
from snncompile.passes.base import Change, Refusal, RewritePass, inherit
from snncompile.passes.fold_gathers import channels_scattered, columns_scattered, whole_channels


@dataclass(frozen=True)
class SplitConcat(RewritePass):
    """A concatenation arrives as a sum of gathers that fill each other's zeros; each part gets its slice of the weights.

    conv2d(add(gather(a), gather(b)))  ->  add(conv2d(a), conv2d(b))        whole channels, ungrouped convolution
    linear(add(gather(a), gather(b)))  ->  add(linear(a), linear(b))
    """

    name = "split-concat"

    def rule(self, op: Op, graph: Graph) -> Change | Refusal | None:
        """Split one synapse."""
        if not isinstance(op, (Conv2d, Linear)):
            return None
        source = graph.node(op.inputs[0])
        if not isinstance(source, Add):
            return None
        parts = [graph.node(r) for r in source.inputs]
        masks = [_support(p, graph) for p in parts]
        if any(m is None for m in masks) or np.any(np.sum([np.asarray(m, dtype=np.int64) for m in masks], axis=0) > 1):
            return None
        if isinstance(op, Conv2d) and op.groups != 1:
            return Refusal(op.name, "it is grouped")
        taken = dict(graph.by_name)
        pieces: list[Op] = []
        for ref, part in zip(source.inputs, parts, strict=True):
            piece = self._piece(op, ref, part, graph)
            if piece is None:
                return Refusal(op.name, f"'{part.name}' does not fill whole channels")
            piece = replace(piece, name=fresh_name(taken, f"{op.name}_{graph.node(piece.inputs[0]).name}"), origin=op.origin or (op.name,))
            taken[piece.name] = piece
            pieces.append(piece)
        pieces[0] = replace(pieces[0], bias=op.bias)  # type: ignore[call-arg]
        whole = Add(name=op.name, inputs=tuple(p.name for p in pieces), loc=op.loc, origin=op.origin or (op.name,))
        return Change((*pieces, inherit(whole, source)))

    def _piece(self, op: Conv2d | Linear, ref: str, part: Op, graph: Graph) -> Conv2d | Linear | None:
        if not isinstance(part, Gather):
            return replace(op, inputs=(ref,), bias=None)
        shape = graph.shape(part.inputs[0])
        if isinstance(op, Linear):
            return replace(op, inputs=part.inputs, bias=None, weight=columns_scattered(op.weight, part.index, int(np.prod(shape))))
        channels = whole_channels(part.index, shape)
        if channels is None:
            return None
        return replace(op, inputs=part.inputs, bias=None, weight=channels_scattered(op.weight, channels, shape[0]))


def _support(part: Op, graph: Graph) -> Array | None:
    """Where a part of a sum may be nonzero; None if it is not wiring (or a scaled payload)."""
    if isinstance(part, Affine):
        inner = _support(graph.node(part.inputs[0]), graph)
        return None if inner is None else np.asarray(inner | np.any(part.shift != 0))
    if isinstance(part, Gather) and isinstance(graph.node(part.inputs[0]), (Input, *FLOAT_POPULATIONS, Delay, Conv2d, Linear)):
        return np.asarray(part.index >= 0)
    return None

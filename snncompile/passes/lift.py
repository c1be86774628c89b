"""Bring pooling and diagonal synapses to the two forms that all folding rules know: convolution and affine map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snncompile.ir.graph import Graph, Op, fresh_name
from snncompile.ir.interpret import average
from snncompile.ir.linear_ops import Affine, AvgPool2d, Conv2d, Diagonal
from snncompile.passes.arrays import compact, is_all
from snncompile.passes.base import Change, Refusal, RewritePass


@dataclass(frozen=True)
class PoolToConv(RewritePass):
    """Average pooling is a depthwise convolution with weights 1 / (kh * kw).

    Where padded pixels do not count, windows at the border divide by fewer pixels: an affine map per position follows.
    """

    name = "pool-to-conv"

    def rule(self, op: Op, graph: Graph) -> Change | Refusal | None:
        """Replace one pooling."""
        if not isinstance(op, AvgPool2d):
            return None
        shape = graph.shape(op.inputs[0])
        (kh, kw), (ph, pw) = op.kernel, op.padding
        conv = Conv2d(
            name=op.name, inputs=op.inputs, loc=op.loc, origin=op.origin, groups=shape[0], stride=op.stride, padding=(ph, ph, pw, pw),
            weight=np.full((shape[0], 1, kh, kw), 1.0 / (kh * kw)),
        )  # fmt: skip
        if op.count_include_pad:
            return Change((conv,))
        counting = AvgPool2d(name=op.name, inputs=op.inputs, kernel=op.kernel, stride=op.stride, padding=op.padding)
        factor = compact(1.0 / average(np.ones((1, 1, *shape[1:])), counting))
        if is_all(factor, 1.0):
            return Change((conv,))
        name = fresh_name(graph.by_name, f"{op.name}_border")
        border = Affine(name=name, inputs=(op.name,), loc=op.loc, origin=op.origin or (op.name,), factor=factor, shift=np.array([0.0]))
        return Change((conv, border), {op.name: name})


@dataclass(frozen=True)
class DiagonalToAffine(RewritePass):
    """A diagonal synapse is an affine map without shift; what is left of it at the end becomes diagonal again."""

    name = "diagonal-to-affine"

    def rule(self, op: Op, graph: Graph) -> Change | Refusal | None:
        """Replace one diagonal synapse."""
        if not isinstance(op, Diagonal):
            return None
        affine = Affine(
            name=op.name, inputs=op.inputs, loc=op.loc, origin=op.origin,
            factor=np.asarray(op.weight, dtype=np.float64)[None], shift=np.array([0.0]),
        )  # fmt: skip
        return Change((affine,))

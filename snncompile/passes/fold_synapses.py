"""Two synapses without a neuron between them become one where that is exact and not larger."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from snncompile.ir.graph import Array, Graph, Op, fresh_name
from snncompile.ir.linear_ops import Conv2d, Gather, Linear
from snncompile.passes.arrays import response, total, with_bias
from snncompile.passes.base import Change, Refusal, RewritePass, inherit
from snncompile.passes.compose import composed, dense_behind_depthwise, is_depthwise


@dataclass(frozen=True)
class FoldSynapses(RewritePass):
    """Fold a synapse into the synapse that reads it.

    conv2d(depthwise(x))  ->  conv2d(x)     average pooling: conv3x3 s1 p1 behind AP2 is conv6x6 s2 p2, each tap / 4
    depthwise(conv2d(x))  ->  conv2d(x)     pooling of currents; the inner convolution has no other reader
    linear(depthwise(x))  ->  linear(x)     each weight repeated over its window
    linear(linear(x))     ->  linear(x)     if the product has no more weights than both factors

    No result has more than ``max_weights`` weights. What stays apart gets a relay population.
    """

    name = "fold-synapses"
    max_weights: int = 1 << 26

    def rule(self, op: Op, graph: Graph) -> Change | Refusal | None:
        """Fold the synapse that ``op`` reads into it."""
        if not isinstance(op, (Conv2d, Linear)):
            return None
        inner = graph.node(op.inputs[0])
        if not isinstance(inner, (Conv2d, Linear)):
            return None
        if isinstance(inner, Linear):
            return self._behind_dense(op, inner, graph)
        pooled = isinstance(op, Conv2d) and is_depthwise(op) and graph.sole_reader(inner.name) is op
        if not is_depthwise(inner) and not pooled:
            return Refusal(op.name, f"'{inner.name}' mixes channels; both together would be larger than apart")
        x, mid, out = graph.shape(inner.inputs[0]), graph.shapes[inner.name], graph.shapes[op.name]
        if isinstance(op, Linear):
            if op.weight.shape[0] * prod(x) > self.max_weights:
                return Refusal(op.name, f"with '{inner.name}' folded in it would have more than {self.max_weights} weights")
            merged = replace(op, weight=dense_behind_depthwise(op.weight, inner, x, mid), inputs=inner.inputs)
            return Change((_biased(inherit(merged, inner), op, inner, graph),))
        result = composed(op, inner, x, mid, out)
        if isinstance(result, str):
            return Refusal(op.name, result)
        conv, crop = result
        if conv.weight.size > self.max_weights:
            return Refusal(op.name, f"with '{inner.name}' folded in it would have more than {self.max_weights} weights")
        conv = replace(conv, inputs=inner.inputs)
        if crop is None:
            return Change((_biased(inherit(conv, inner), op, inner, graph),))
        name = fresh_name(graph.by_name, f"{inner.name}_crop")
        gather = Gather(name=name, inputs=inner.inputs, loc=inner.loc, origin=inner.origin or (inner.name,), index=crop)
        return Change((gather, _biased(inherit(replace(conv, inputs=(name,)), inner), op, inner, graph)))

    def _behind_dense(self, op: Conv2d | Linear, inner: Linear, graph: Graph) -> Change | Refusal:
        if not isinstance(op, Linear):
            return Refusal(op.name, f"a convolution cannot be merged with the dense layer '{inner.name}'")
        size = op.weight.shape[0] * inner.weight.shape[1]
        if size > op.weight.size + inner.weight.size:
            return Refusal(op.name, f"'{inner.name}' is a bottleneck; both together would be larger than apart")
        merged = inherit(replace(op, weight=np.matmul(op.weight, inner.weight, dtype=np.float64), inputs=inner.inputs), inner)
        return Change((_biased(merged, op, inner, graph),))


def _biased(merged: Conv2d | Linear, outer: Conv2d | Linear, inner: Conv2d | Linear, graph: Graph) -> Conv2d | Linear:
    """The merged synapse with the outer bias plus what the outer synapse makes of the inner bias."""
    through: Array | None = None if inner.bias is None else response(outer, inner.bias, graph.shapes[inner.name])
    return with_bias(merged, total(outer.bias, through, rank=len(graph.shapes[outer.name])))

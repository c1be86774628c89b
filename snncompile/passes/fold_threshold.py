"""The threshold of a stateless graded neuron is a bias with the other sign."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir.graph import Graph, Op
from snncompile.ir.neuron import Neuron, Reset, constant
from snncompile.passes.arrays import compact, spread
from snncompile.passes.base import Change, Refusal, RewritePass


@dataclass(frozen=True)
class FoldThreshold(RewritePass):
    """relu(gain * i + bias - theta)  ->  relu(gain * i + (bias - theta) - 0),   for a payload on a grid (EM-PF's parallel neurons).

    Without a state nothing but the payload sees the threshold, so that integers need to round one constant and not two: the
    population is exact, whatever its threshold. Its membrane ``m`` now counts from the threshold.

    Source   EM-PF (arXiv 2410.07547), parallel neurons:  s = relu(I - theta) = relu((I - theta) - 0)
    Shapes   bias, theta (1 | T, ...), broadcastable to the neurons
    Refusals a membrane that is read
    """

    name = "fold-threshold"

    def rule(self, op: Op, graph: Graph) -> Change | Refusal | None:
        """Move one threshold."""
        if not isinstance(op, Neuron) or op.reset is not Reset.STATELESS or not op.grid or not np.any(op.theta):
            return None
        used = {r for n in graph.nodes for r in n.inputs} | set(graph.outputs.values())
        if f"{op.name}.m" in used:
            return Refusal(op.name, "its membrane is read")
        rank = len(graph.shapes[op.name])
        return Change((replace(op, bias=compact(spread(op.bias, rank) - spread(op.theta, rank)), theta=constant(0.0)),))

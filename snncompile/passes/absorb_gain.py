"""A gain that is the same at every step leaves the neuron and becomes part of its synapses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir.graph import Graph, Op, fresh_name
from snncompile.ir.linear_ops import Affine
from snncompile.ir.neuron import Neuron, constant
from snncompile.passes.arrays import constant_in_time, is_all
from snncompile.passes.base import Change, Refusal, RewritePass


@dataclass(frozen=True)
class AbsorbGain(RewritePass):
    """``gain * i`` with a constant gain is a factor on the input:  neuron(x), gain g  ->  neuron(affine(x) factor g), gain 1.

    Right with a synaptic current too, because that is linear in the input and starts at 0.
    """

    name = "absorb-gain"

    def rule(self, op: Op, graph: Graph) -> Change | Refusal | None:
        """Move one gain."""
        if not isinstance(op, Neuron) or (op.gain.shape == (1,) and is_all(op.gain, 1.0)):
            return None
        if not constant_in_time(op.gain):
            return Refusal(op.name, "its gain differs between steps")
        if is_all(op.gain, 1.0):
            return Change((replace(op, gain=constant(1.0)),))
        name = fresh_name(graph.by_name, f"{op.name}_gain")
        scale = Affine(name=name, inputs=op.inputs, loc=op.loc, origin=op.origin or (op.name,), factor=op.gain[:1], shift=np.array([0.0]))
        return Change((scale, replace(op, inputs=(name,), gain=constant(1.0))))

"""A synaptic filter in front of a neuron becomes the neuron's own synaptic current (CuBa)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir.graph import Graph, Op, fresh_name
from snncompile.ir.linear_ops import Affine, Delay
from snncompile.ir.neuron import Fire, Neuron, Reset
from snncompile.passes.arrays import constant_in_time, is_all, spread
from snncompile.passes.base import Change, Refusal, RewritePass, inherit


@dataclass(frozen=True)
class FuseFilters(RewritePass):
    """A population that only filters its input for one neuron dissolves into that neuron's ``alpha``.

    Given    %f = neuron(%x) fire none, reset keep, leak a, bias b     %g = affine(%f) factor c     %n = neuron(%g)
    Result   %g = affine(%x) factor c * gain, shift c * b              %n = neuron(%g), alpha a

    The neuron may read the filter through a delay of one step: then its current comes late.

    Source   i[t] = a i[t-1] + x[t] of the current-based neuron (CuBa), as ``snncompile.ir.neuron.Neuron`` defines it
    Shapes   a, b (1 | T, ...); c (1, ...), broadcastable to the neurons
    Refusals a second filter; a filter that others read, that does not start at 0, or whose gain differs between steps
    """

    name = "fuse-filters"

    def rule(self, op: Op, graph: Graph) -> Change | Refusal | None:
        """Dissolve one filter."""
        if not isinstance(op, Neuron):
            return None
        chain: list[Op] = []
        reader: Op = op
        factor, rank = np.ones(1), len(graph.shapes[op.name])
        while True:
            ref = reader.inputs[0]
            node = graph.node(ref)
            if isinstance(node, Neuron):
                break
            if not isinstance(node, (Affine, Delay)):
                return None
            if isinstance(node, Affine):
                if not is_all(node.shift, 0.0) or not constant_in_time(node.factor):
                    return None
                factor = spread(factor, rank) * spread(node.factor[:1], rank)
            chain.append(node)
            reader = node
        f, late = node, [n for n in chain if isinstance(n, Delay)]
        if f.fire is not Fire.NONE or f.reset is not Reset.KEEP or f.alpha is not None:
            return None
        if ref not in (f.name, f"{f.name}.m", f"{f.name}.v") or len(late) > 1 or any(not is_all(d.initial, 0.0) for d in late):
            return None
        if op.alpha is not None:
            return Refusal(op.name, f"it has a synaptic current already, beside the filter '{f.name}'")
        if any(graph.sole_reader(n.name) is None for n in (f, *chain)):
            return Refusal(f.name, "its filtered current has other readers")
        if not is_all(f.v_init, 0.0) or not constant_in_time(f.gain):
            return Refusal(f.name, "it does not start at 0, or its gain differs between steps")
        name = fresh_name(graph.by_name, f"{op.name}_current")
        factor = spread(factor, rank)
        gain, shift = factor * spread(f.gain[:1], rank), factor * spread(f.bias, rank)
        current = Affine(name=name, inputs=f.inputs, loc=f.loc, factor=gain, shift=shift)
        neuron = inherit(replace(op, inputs=(name,), alpha=f.leak, late_current=bool(late)), f)
        return Change((replace(current, origin=neuron.origin), neuron), {})

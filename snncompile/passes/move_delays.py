"""Delays move towards the payload, the only place where a chip can hold a value back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir.graph import Array, Graph, Op, fresh_name
from snncompile.ir.linear_ops import Add, Affine, Conv2d, Delay, Gather, Linear
from snncompile.passes.arrays import constant_in_time, one_step_later, with_bias
from snncompile.passes.base import Change, Refusal, RewritePass, inherit


@dataclass(frozen=True)
class MoveDelays(RewritePass):
    """Delay an op's input in place of its output:  delay(f(x))  ->  f(delay(x)).

    At step 0 the op then reads zeros, so its bias becomes a per-step one: the delay's initial value at step 0, then the op's
    own bias of the step before. A synapse with other readers stays; the relay that it gets later carries the delay.
    """

    name = "move-delays"

    def rule(self, op: Op, graph: Graph) -> Change | Refusal | None:
        """Move one delay across one op."""
        if not isinstance(op, Delay):
            return None
        source = graph.node(op.inputs[0])
        if isinstance(source, (Conv2d, Linear, Add)) and graph.sole_reader(source.name) is not op:
            return Refusal(op.name, f"'{source.name}' has other readers")
        if isinstance(source, (Conv2d, Linear)):
            bias = one_step_later(source.bias, op.initial, graph.steps, op.size)
            return self._moved(op, source, graph, with_bias(source, bias))
        if isinstance(source, Affine):
            shift = _or_zero(one_step_later(source.shift, op.initial, graph.steps, op.size))
            factor = source.factor
            if not constant_in_time(factor):
                factor = factor[np.maximum(np.arange(graph.steps) - 1, 0)]
            return self._moved(op, source, graph, replace(source, factor=factor, shift=shift))
        if isinstance(source, (Gather, Add)):
            return self._moved(op, source, graph, source, start=one_step_later(None, op.initial, graph.steps, op.size))
        return None

    def _moved(self, op: Delay, source: Op, graph: Graph, after: Op, start: Array | None = None) -> Change:
        """``after`` reading a delay of each thing that ``source`` read, then ``start`` added; readers of the delay follow."""
        taken = dict(graph.by_name)
        if graph.sole_reader(source.name) is not op:
            after = replace(after, name=fresh_name(taken, f"{source.name}_later"))
            taken[after.name] = after
        delays: list[Op] = []
        for ref in source.inputs:
            shape = graph.shape(ref)
            name = fresh_name(taken, f"{graph.node(ref).name}_before")
            zero = np.zeros((1,) * len(shape))
            delays.append(replace(op, name=name, inputs=(ref,), size=shape, initial=zero, origin=op.origin or (op.name,)))
            taken[name] = delays[-1]
        after = inherit(replace(after, inputs=tuple(d.name for d in delays)), op)
        if start is None:
            return Change((*delays, after), {op.name: after.name})
        name = fresh_name(taken, f"{source.name}_start")
        shifted = Affine(name=name, inputs=(after.name,), loc=op.loc, origin=after.origin, factor=np.array([1.0]), shift=start)
        return Change((*delays, after, shifted), {op.name: name})


def _or_zero(array: Array | None) -> Array:
    return np.array([0.0]) if array is None else array

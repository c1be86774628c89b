"""A gain on a neuron's input leaves the neuron: into its synapses, or into leak, threshold and bias of each step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir.graph import Array, Graph, Op, fresh_name
from snncompile.ir.linear_ops import Affine
from snncompile.ir.neuron import Neuron, constant
from snncompile.passes.arrays import compact, constant_in_time, is_all, spread
from snncompile.passes.base import Change, Refusal, RewritePass

LARGEST_LEAK = 2.0


@dataclass(frozen=True)
class AbsorbGain(RewritePass):
    """Where the gain of EM-PF's membrane batch norm goes. With  mh[t] = k[t] m[t] + c[t],  m[t] = lambda[t] v[t-1] + I[t]:

        Form A   mh[t] = (k lambda)[t] v[t-1] + k[t] I[t] + c[t];   fire and reset as they were       leak k lambda, gain k, bias c
        Form B   y = mh / k:   y[t] = lambda[t] k[t-1] v_y[t-1] + I[t] + c[t] / k[t];   fire at y >= theta[t] / k[t], reset by reset / k[t]

    A is how a neuron is captured, right for every real k and every payload. B has no gain, but needs k > 0 at every step and a spike,
    which does not tell the membrane's size.

    Two rules; what neither can take stays in the neuron, which is Form A.

    ``gain * i`` with a constant gain is a factor on the input:  neuron(x), gain g  ->  neuron(affine(x) factor g), gain 1.
    Right with a synaptic current too, because that is linear in the input and starts at 0.

    A positive gain of each step divides the membrane instead, if the spike does not tell (Form B):  y[t] = m[t] / g[t],
        y[t] = leak[t] * g[t-1] / g[t] * v_y[t-1] + i[t] + bias[t] / g[t]      (g[-1] = g[0])
    and threshold, reset amount, reset value and lower bound are divided by g[t], the initial membrane by g[0].

    Source   EM-PF (arXiv 2410.07547), eqs. (6) and (7), v3 for Form A; Form B follows from it by y = mh / k
    Shapes   gain, leak, bias, thresholds and resets (1 | T, ...), broadcastable to the neurons; T and C in EM-PF
    Ranges   Form A any k; Form B k > 0, and a leak of at most 2 afterwards
    Refusals (Form B) a graded payload; a gain that is not positive; a membrane that is read; an adaptive threshold; a larger leak
    """

    name = "absorb-gain"

    def rule(self, op: Op, graph: Graph) -> Change | Refusal | None:
        """Move one gain."""
        if not isinstance(op, Neuron) or (op.gain.shape == (1,) and is_all(op.gain, 1.0)):
            return None
        if not constant_in_time(op.gain):
            reason = _keeps(op, graph)
            if reason:
                return Refusal(op.name, f"its gain differs between steps, and {reason}")
            divided = _divided(op, graph)
            if np.abs(divided.leak).max() > LARGEST_LEAK:
                return Refusal(op.name, f"its gain differs between steps, and divided by it the leak would exceed {LARGEST_LEAK:g}")
            return Change((divided,))
        if is_all(op.gain, 1.0):
            return Change((replace(op, gain=constant(1.0)),))
        name = fresh_name(graph.by_name, f"{op.name}_gain")
        scale = Affine(name=name, inputs=op.inputs, loc=op.loc, origin=op.origin or (op.name,), factor=op.gain[:1], shift=np.array([0.0]))
        return Change((scale, replace(op, inputs=(name,), gain=constant(1.0))))


def _keeps(op: Neuron, graph: Graph) -> str:
    """Why the membrane cannot be divided by the gain; empty if it can."""
    used = {r for n in graph.nodes for r in n.inputs} | set(graph.outputs.values())
    if not op.spiking:
        return "its payload is graded"
    if not np.all(op.gain > 0):
        return "it is not positive"
    if {f"{op.name}.m", f"{op.name}.v"} & used:
        return "its membrane is read"
    if op.adapt_jump is not None:
        return "its threshold adapts"
    return ""


def _divided(op: Neuron, graph: Graph) -> Neuron:
    """Form B."""
    rank = len(graph.shapes[op.name])
    gain = spread(op.gain, rank)
    before = np.concatenate([gain[:1], gain[:-1]])

    def over(values: Array) -> Array:
        return compact(spread(values, rank) / gain)

    return replace(
        op, gain=constant(1.0), leak=compact(spread(op.leak, rank) * before / gain), bias=over(op.bias), theta=over(op.theta),
        reset_amount=over(op.reset_amount), reset_value=over(op.reset_value), v_min=None if op.v_min is None else over(op.v_min),
        v_init=np.asarray(spread(op.v_init[None], rank)[0] / gain[0]),
    )  # fmt: skip

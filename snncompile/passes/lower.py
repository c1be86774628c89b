"""The last step to the population form: identity synapses, merged diagonals, all constants in the neurons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir.graph import Array, Graph, Op, fresh_name
from snncompile.ir.linear_ops import Add, Affine, Conv2d, Delay, Diagonal, Gather, Input, Linear
from snncompile.ir.population import FLOAT_POPULATIONS, FloatPopulation
from snncompile.passes.arrays import constant_in_time, is_all, spread
from snncompile.passes.base import Change, Refusal, RewritePass, inherit
from snncompile.passes.neuron_bias import add_current


@dataclass(frozen=True)
class LowerNeurons(RewritePass):
    """Rewrite what one neuron reads.

    payload            ->  diagonal(payload), weight 1
    affine(payload)    ->  diagonal(payload), the factor as weight; the shift into the neuron's bias
    conv2d, linear     ->  the bias into the neuron's bias
    two diagonals on the same payload  ->  one, weights added
    """

    name = "lower-neurons"

    def rule(self, op: Op, graph: Graph) -> Change | Refusal | None:
        """Lower the synapses of one neuron."""
        if not isinstance(op, FLOAT_POPULATIONS):
            return None
        done: list[Op] = []
        neuron: FloatPopulation = op
        refused: list[Refusal] = []
        changed = False
        for k in range(len(op.inputs)):
            found = self._current(neuron, k, graph, {n.name: n for n in done})
            if isinstance(found, Refusal):
                refused.append(found)
            elif found is not None:
                nodes, neuron = found
                done, changed = [*done, *nodes], True
        if not changed:
            return refused[0] if refused else None
        return Change((*done, neuron))

    def _current(
        self, op: FloatPopulation, k: int, graph: Graph, done: Mapping[str, Op]
    ) -> tuple[list[Op], FloatPopulation] | Refusal | None:
        """Lower what one current of a population sums: its new nodes, and the population; None if there is nothing to do."""
        root = graph.node(op.inputs[k])
        refs = root.inputs if isinstance(root, Add) else (op.inputs[k],)
        currents = [p for p in (root, *map(graph.node, refs)) if isinstance(p, (Conv2d, Linear, Affine, Diagonal, Add))]
        if any(graph.sole_reader(p.name) is None for p in currents):
            return Refusal(op.name, "a synapse that it reads has other readers")
        taken = {**graph.by_name, **done}
        rank = len(graph.shape(op.inputs[k]))
        neuron, changed = op, False
        parts: dict[str, Op] = {}
        for ref in refs:
            part, bias = _synapse(ref, graph, taken, rank, op.name)
            if part is None:
                return Refusal(op.name, f"it reads '{ref}', which is no synapse on a payload")
            if bias is not None:
                neuron = add_current(neuron, bias, graph.steps, rank, k)
            changed = changed or bias is not None or part is not graph.by_name.get(part.name)
            key = f"diagonal on {part.inputs[0]}" if isinstance(part, Diagonal) else part.name
            twin = parts.get(key)
            if isinstance(twin, Diagonal) and isinstance(part, Diagonal):
                part = inherit(replace(twin, weight=np.add(twin.weight, part.weight, dtype=np.float64)), part)
                changed = True
            parts[key] = part
            taken[part.name] = part
        if not changed:
            return None
        names = tuple(p.name for p in parts.values())
        if len(names) == 1:
            return [*parts.values()], replace(neuron, inputs=(*neuron.inputs[:k], names[0], *neuron.inputs[k + 1 :]))
        return [*parts.values(), *((replace(root, inputs=names),) if isinstance(root, Add) else ())], neuron


def _synapse(ref: str, graph: Graph, taken: dict[str, Op], rank: int, reader: str) -> tuple[Op | None, Array | None]:
    """The synapse without bias for one thing that a neuron sums, and the constant that was taken from it."""
    part = graph.node(ref)
    if isinstance(part, (Conv2d, Linear)):
        return (part, None) if part.bias is None else (replace(part, bias=None), part.bias)
    if isinstance(part, Diagonal):
        return part, None
    if isinstance(part, Affine):
        if not constant_in_time(part.factor):
            return None, None
        weight = spread(part.factor, rank)[0]
        diagonal = Diagonal(name=part.name, inputs=part.inputs, loc=part.loc, origin=part.origin, weight=weight)
        return diagonal, None if is_all(part.shift, 0.0) else part.shift
    if isinstance(part, (Input, *FLOAT_POPULATIONS, Gather, Delay)):
        name = fresh_name(taken, f"{reader}_{part.name}")
        ones = np.ones((1,) * rank)
        return Diagonal(name=name, inputs=(ref,), loc=graph.by_name[reader].loc, origin=(reader,), weight=ones), None
    return None, None

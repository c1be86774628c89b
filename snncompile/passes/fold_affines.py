"""Fold affine maps (batch norm, input normalisation, gains on spikes) into the synapse before or behind them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir.graph import Array, Graph, Op, Shape, fresh_name
from snncompile.ir.linear_ops import Add, Affine, Conv2d, Linear
from snncompile.ir.neuron import Neuron
from snncompile.ir.program import NeuronProgram
from snncompile.passes.arrays import (
    compact,
    constant_in_time,
    is_all,
    per_channel,
    per_element,
    response,
    spread,
    times,
    total,
    with_bias,
)
from snncompile.passes.base import Change, Refusal, RewritePass, inherit
from snncompile.passes.neuron_bias import add_current

NOTHING = np.array([0.0])


def affine_like(op: Affine, factor: Array, shift: Array | None, rank: int) -> Affine:
    """``op`` with another factor and shift, both compacted."""
    small = compact(spread(factor, rank))
    return replace(op, factor=small, shift=NOTHING if shift is None else compact(spread(shift, rank)))


@dataclass(frozen=True)
class FoldAffineBack(RewritePass):
    """Fold an affine map into what produces its input.

    a * (b * x + c) + d               ->  (a b) * x + (a c + d)
    a * (W x + b) + d                 ->  (a W) x + (a b + d)                  batch norm; a per output channel
    a * (x + y) + d, sole reader      ->  (a * x + d) + (a * y)                batch norm behind a residual sum
    A shared synapse is copied if it has at most ``max_copy`` weights.

    A batch norm arrives as  a = gamma / sqrt(var + eps),  d = beta - a mean  (``snncompile.capture.layers``). Any sign of gamma is right:
    a negative one flips the signs of its channel's weights, and no comparison. Binary weights stay binary: scale * a * sign(W).

    Source   batch normalisation: Ioffe and Szegedy (ICML 2015); in front of binary neurons and behind binary weights, EM-PF's BN(BConv)
    Shapes   W [out,in] or [out,in/groups,k,k]; a, d per output channel (d per position and step, too); b as d
    Ranges   a any real number
    Refusals other readers of a large synapse; a factor that differs between steps or positions; a sum that adds a value to itself
    """

    name = "fold-affine-back"
    max_copy: int = 4096

    def rule(self, op: Op, graph: Graph) -> Change | Refusal | None:
        """Fold one affine map."""
        if not isinstance(op, Affine):
            return None
        source = graph.node(op.inputs[0])
        rank = len(graph.shapes[op.name])
        if isinstance(source, Affine):
            factor = spread(op.factor, rank) * spread(source.factor, rank)
            shift = total(times(op.factor, source.shift, rank), op.shift, rank=rank)
            return Change((inherit(replace(affine_like(op, factor, shift, rank), inputs=source.inputs), source),))
        alone = graph.sole_reader(source.name) is op
        if isinstance(source, Add):
            if is_all(op.factor, 1.0) and not alone:
                return None
            if op.name not in graph.output_nodes and all(takes(r, op.factor, graph.shapes[op.name]) for r in graph.readers_of[op.name]):
                return None  # it folds forward, which leaves a concatenation in the sum as it is
            return self._into_sum(op, source, graph, alone)
        if not isinstance(source, (Conv2d, Linear)):
            return None
        if not alone and source.weight.size > self.max_copy:
            return Refusal(op.name, f"'{source.name}' has other readers")
        weight = scaled_rows(source, op.factor, graph.shapes[source.name])
        if weight is None:
            return Refusal(op.name, f"its factor differs between steps or between the positions of '{source.name}'")
        bias = total(times(op.factor, source.bias, rank), op.shift, rank=rank)
        folded = with_bias(inherit(replace(source, weight=weight), op), bias)
        if alone:
            return Change((folded,), {op.name: source.name})
        return Change((replace(folded, name=op.name),))

    def _into_sum(self, op: Affine, source: Add, graph: Graph, alone: bool) -> Change | Refusal:
        if not constant_in_time(op.factor):
            return Refusal(op.name, "its factor differs between steps")
        if not alone:
            return Refusal(op.name, f"'{source.name}' has other readers")
        if len(set(source.inputs)) < len(source.inputs):
            return Refusal(op.name, f"'{source.name}' adds a value to itself")
        keep = next((k for k, r in enumerate(source.inputs) if isinstance(graph.node(r), (Conv2d, Linear, Affine))), 0)
        taken = dict(graph.by_name)
        parts: list[Op] = []
        refs = list(source.inputs)
        for k, ref in enumerate(source.inputs):
            shift = op.shift if k == keep else NOTHING
            if is_all(op.factor, 1.0) and k != keep:
                continue
            name = fresh_name(taken, f"{op.name}_{graph.node(ref).name}")
            part = replace(op, name=name, inputs=(ref,), shift=shift, origin=op.origin or (op.name,))
            taken[name] = part
            parts.append(part)
            refs[k] = name
        return Change((*parts, inherit(replace(source, inputs=tuple(refs)), op)), {op.name: source.name})


@dataclass(frozen=True)
class FoldAffineForward(RewritePass):
    """Fold an affine map in front of a synapse into the synapse.

    W (a * x + d) + b   ->  (W a) x + (W d + b)        a per input channel of a convolution, per input of a dense layer

    Padded pixels are 0 behind the affine map, so ``W d`` of a padded convolution differs at the border: a bias per position.

    Source   linearity; it takes the constant gain of OTTT's spikes (2.74) and the input's normalisation into the weights
    Shapes   as ``FoldAffineBack``, a per input channel or input
    Ranges   a, d any real numbers
    Refusals a factor that differs between steps, or between the positions that share a convolution's weight
    """

    name = "fold-affine-forward"

    def rule(self, op: Op, graph: Graph) -> Change | Refusal | None:
        """Fold the affine map that one synapse reads."""
        if not isinstance(op, (Conv2d, Linear)):
            return None
        source = graph.node(op.inputs[0])
        if not isinstance(source, Affine):
            return None
        shape = graph.shapes[source.name]
        weight = scaled_columns(op, source.factor, shape)
        if weight is None:
            return Refusal(source.name, f"its factor differs between steps or between the positions that '{op.name}' reads")
        bias = total(op.bias, None if is_all(source.shift, 0.0) else response(op, source.shift, shape), rank=len(graph.shapes[op.name]))
        return Change((with_bias(inherit(replace(op, weight=weight, inputs=source.inputs), source), bias),))


@dataclass(frozen=True)
class FoldAffineIntoNeuron(RewritePass):
    """Fold a shift, or a factor that differs between steps, into the neuron that reads it.

    neuron(x + d)                ->  neuron(x), bias + gain * d           filtered by alpha where there is a synaptic current
    neuron(a[t] * x + d)         ->  neuron(x), gain * a[t], bias + gain * d

    Source   the definition of ``snncompile.ir.neuron.Neuron``:  m = leak v + gain (a x + d) + bias
    Shapes   a, d (1 | T, ...), broadcastable to the neurons
    Refusals a factor that differs between steps in front of a synaptic current, which is summed before the gain
    """

    name = "fold-affine-into-neuron"

    def rule(self, op: Op, graph: Graph) -> Change | Refusal | None:
        """Fold the affine map that one neuron reads."""
        if isinstance(op, NeuronProgram):
            return _into_program(op, graph)
        if not isinstance(op, Neuron):
            return None
        source = graph.node(op.inputs[0])
        if not isinstance(source, Affine):
            return None
        rank = len(graph.shapes[op.name])
        constant = constant_in_time(source.factor)
        if constant and not is_all(source.factor, 1.0):
            return None
        if not constant and op.alpha is not None:
            return Refusal(source.name, f"its factor differs between steps, and '{op.name}' filters its current")
        biased = add_current(op, source.shift, graph.steps, rank)
        assert isinstance(biased, Neuron)
        gain = op.gain if constant else compact(spread(op.gain, rank) * spread(source.factor, rank))
        return Change((replace(inherit(replace(biased, gain=gain), source), name=op.name, inputs=source.inputs),))


def _into_program(op: NeuronProgram, graph: Graph) -> Change | None:
    """The same for the first current of a program that reads a shift or a factor of each step."""
    rank = len(graph.shapes[op.name])
    for k, ref in enumerate(op.inputs):
        source = graph.node(ref)
        if not isinstance(source, Affine) or (constant_in_time(source.factor) and not is_all(source.factor, 1.0)):
            continue
        made = add_current(op, source.shift, graph.steps, rank, k)
        assert isinstance(made, NeuronProgram)
        gains = list(made.gain)
        gains[k] = compact(spread(gains[k], rank) * spread(source.factor, rank))
        inputs = (*op.inputs[:k], source.inputs[0], *op.inputs[k + 1 :])
        return Change((replace(inherit(replace(made, gain=tuple(gains)), source), name=op.name, inputs=inputs),))
    return None


def takes(reader: Op, factor: Array, shape: Shape) -> bool:
    """Whether a synapse can take a factor on its input of this shape."""
    if isinstance(reader, Conv2d):
        return per_channel(factor, shape) is not None
    return isinstance(reader, Linear) and constant_in_time(factor)


def scaled_rows(synapse: Conv2d | Linear, factor: Array, shape: Shape) -> Array | None:
    """The weights times a factor per output channel; None if the factor is not one."""
    if isinstance(synapse, Conv2d):
        rows = per_channel(factor, shape)
        return None if rows is None else np.asarray(synapse.weight * rows[:, None, None, None])
    rows = per_element(factor, shape)
    return None if rows is None else np.asarray(synapse.weight * rows[:, None])


def scaled_columns(synapse: Conv2d | Linear, factor: Array, shape: Shape) -> Array | None:
    """The weights times a factor per input channel (or input); None if the factor is not one."""
    if isinstance(synapse, Linear):
        columns = per_element(factor, shape)
        return None if columns is None else np.asarray(synapse.weight * columns)
    channels = per_channel(factor, shape)
    if channels is None:
        return None
    out, per_group = synapse.weight.shape[:2]
    groups = np.repeat(channels.reshape(synapse.groups, per_group), out // synapse.groups, axis=0)
    return np.asarray(synapse.weight * groups[:, :, None, None])

"""Wiring moves towards the payload; what only renames or reorders disappears."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir.graph import Array, Graph, Op, Shape, fresh_name
from snncompile.ir.linear_ops import Add, Affine, Conv2d, Delay, Gather, Input, Linear
from snncompile.ir.population import FLOAT_POPULATIONS
from snncompile.passes.arrays import compact, spread, with_bias
from snncompile.passes.base import Change, Refusal, RewritePass, inherit
from snncompile.passes.compose import is_depthwise


@dataclass(frozen=True)
class FoldGathers(RewritePass):
    """Fold gathers.

    gather(gather(x))                       ->  gather(x)
    gather(affine(x))                       ->  affine(gather(x))            constants gathered too
    gather(linear(x)), vector result        ->  linear(x), rows gathered
    gather(conv2d(x)), whole channels       ->  conv2d(x), output channels gathered
    gather(depthwise(x)), whole channels    ->  depthwise(gather(x))
    gather(add(x, y))                       ->  add(gather(x), gather(y))    where each part takes it
    linear(gather(x)), a reshape            ->  linear(x)
    linear(gather(x)), x not a payload      ->  linear(x), columns scattered
    conv2d(gather(x)), all whole channels   ->  conv2d(x), input channels scattered
    """

    name = "fold-gathers"

    def rule(self, op: Op, graph: Graph) -> Change | Refusal | None:
        """Fold one gather, or the gather in front of one synapse."""
        if isinstance(op, Linear):
            return self._into_linear(op, graph)
        if isinstance(op, Conv2d):
            return self._into_conv(op, graph)
        if not isinstance(op, Gather):
            return None
        source = graph.node(op.inputs[0])
        alone = graph.sole_reader(source.name) is op
        feeds_dense = op.name not in graph.output_nodes and all(isinstance(r, Linear) for r in graph.readers_of[op.name])
        if feeds_dense and self._only_reshapes(op, graph):
            return None
        if isinstance(source, Gather):
            flat = np.append(source.index.reshape(-1), -1)
            return Change((inherit(replace(op, inputs=source.inputs, index=flat[op.index]), source),))
        if isinstance(source, Affine):
            return self._swap_affine(op, source, graph, alone)
        if not isinstance(source, (Conv2d, Linear, Add)):
            return None
        if not alone:
            return Refusal(op.name, f"'{source.name}' has other readers")
        if isinstance(source, Add):
            return self._into_sum(op, source, graph)
        folded = rows_gathered(source, op.index, graph.shapes[source.name])
        if folded is None and isinstance(source, Conv2d) and is_depthwise(source):
            return self._in_front(op, source, graph)
        if folded is None:
            return Refusal(op.name, f"it moves single pixels of '{source.name}', which shares its weights between pixels")
        return Change((inherit(folded, op),), {op.name: source.name})

    def _only_reshapes(self, op: Gather, graph: Graph) -> bool:
        return op.is_reshape and op.index.size == int(np.prod(graph.shape(op.inputs[0])))

    def _into_linear(self, op: Linear, graph: Graph) -> Change | None:
        gather = graph.node(op.inputs[0])
        if not isinstance(gather, Gather):
            return None
        if self._only_reshapes(gather, graph):
            return Change((inherit(replace(op, inputs=gather.inputs), gather),))
        if isinstance(graph.node(gather.inputs[0]), (Input, *FLOAT_POPULATIONS, Delay)):
            return None
        size = int(np.prod(graph.shape(gather.inputs[0])))
        return Change((inherit(replace(op, inputs=gather.inputs, weight=columns_scattered(op.weight, gather.index, size)), gather),))

    def _into_conv(self, op: Conv2d, graph: Graph) -> Change | None:
        gather = graph.node(op.inputs[0])
        if not isinstance(gather, Gather) or op.groups != 1:
            return None
        shape = graph.shape(gather.inputs[0])
        channels = whole_channels(gather.index, shape)
        if channels is None or set(channels.tolist()) - {-1} != set(range(shape[0])):
            return None
        return Change((inherit(replace(op, inputs=gather.inputs, weight=channels_scattered(op.weight, channels, shape[0])), gather),))

    def _swap_affine(self, op: Gather, source: Affine, graph: Graph, alone: bool) -> Change:
        shape = graph.shapes[source.name]
        moved = fresh_name(graph.by_name, f"{source.name}_wired")
        factor = gathered(source.factor, op.index, shape, fill_from_neighbours)
        shift = gathered(source.shift, op.index, shape, None)
        affine = inherit(replace(source, inputs=(moved,), factor=factor, shift=shift), op)
        if alone:
            return Change((replace(op, name=moved, inputs=source.inputs, origin=op.origin or (op.name,)), affine), {op.name: source.name})
        return Change((replace(op, name=moved, inputs=source.inputs, origin=op.origin or (op.name,)), replace(affine, name=op.name)))

    def _in_front(self, op: Gather, source: Conv2d, graph: Graph) -> Change | Refusal:
        """Gather whole channels in front of a depthwise convolution."""
        channels = whole_channels(op.index, graph.shapes[source.name])
        if channels is None:
            return Refusal(op.name, f"it moves single pixels of '{source.name}', which shares its weights between pixels")
        shape = graph.shape(source.inputs[0])
        area = shape[1] * shape[2]
        index = channels[:, None, None] * area + np.arange(area).reshape(shape[1:])
        index = np.where(channels[:, None, None] < 0, -1, index)
        name = fresh_name(graph.by_name, f"{source.name}_wired")
        wired = replace(op, name=name, inputs=source.inputs, index=index, origin=op.origin or (op.name,))
        weight, bias = _picked(source.weight, channels), _picked_bias(source.bias, channels, source)
        conv = inherit(replace(source, inputs=(name,), weight=weight, bias=bias, groups=len(channels)), op)
        return Change((wired, conv), {op.name: source.name})

    def _into_sum(self, op: Gather, source: Add, graph: Graph) -> Change | Refusal:
        for ref in source.inputs:
            part = graph.node(ref)
            takes = not isinstance(part, (Add, Conv2d, Linear)) or (
                not isinstance(part, Add)
                and graph.sole_reader(part.name) is source
                and rows_gathered(part, op.index, graph.shapes[part.name]) is not None
            )
            if not takes:
                return Refusal(op.name, f"'{part.name}', a part of '{source.name}', cannot take it")
        taken = dict(graph.by_name)
        parts: list[Op] = []
        for ref in source.inputs:
            name = fresh_name(taken, f"{op.name}_{graph.node(ref).name}")
            parts.append(replace(op, name=name, inputs=(ref,), origin=op.origin or (op.name,)))
            taken[name] = parts[-1]
        return Change((*parts, inherit(replace(source, inputs=tuple(p.name for p in parts)), op)), {op.name: source.name})


def gathered(array: Array, index: Array, shape: Shape, fill: Callable[[Array, Array], Array] | None) -> Array:
    """A per-step constant of this shape as seen behind a gather, compacted; 0 (or ``fill``) where the gather puts zeros."""
    steps = len(array)
    flat = np.broadcast_to(spread(array, len(shape)), (steps, *shape)).reshape(steps, -1)
    out = np.where(index < 0, 0.0, flat[:, np.maximum(index, 0)])
    return compact(out if fill is None else fill(out, index))


def fill_from_neighbours(values: Array, index: Array) -> Array:
    """Values for the positions that the gather leaves zero, where any factor is right: ones that keep the array compact."""
    empty = index < 0
    if not empty.any() or empty.all():
        return np.where(empty, 1.0, values)
    out = values.copy()
    for channel in range(len(index)):
        some = ~empty[channel]
        chosen = values[:, channel][:, some][:, 0] if some.any() else values[:, ~empty][:, 0]
        out[:, channel] = np.where(empty[channel], chosen.reshape(-1, *(1,) * (index.ndim - 1)), values[:, channel])
    return out


def rows_gathered(synapse: Conv2d | Linear, index: Array, shape: Shape) -> Conv2d | Linear | None:
    """The synapse that computes a gather of its outputs, or None if it cannot: whole channels of an ungrouped convolution."""
    if isinstance(synapse, Linear):
        if index.ndim != 1:
            return None
        return with_bias(replace(synapse, weight=_picked(synapse.weight, index)), _picked_bias(synapse.bias, index, synapse))
    channels = whole_channels(index, shape)
    if channels is None or synapse.groups != 1:
        return None
    return replace(synapse, weight=_picked(synapse.weight, channels), bias=_picked_bias(synapse.bias, channels, synapse))


def whole_channels(index: Array, shape: Shape) -> Array | None:
    """The source channel of each channel of a gather that moves whole ``(H, W)`` maps (-1: zeros); None if it does more."""
    if index.ndim != 3 or len(shape) != 3 or index.shape[1:] != shape[1:]:
        return None
    area = shape[1] * shape[2]
    first = index[:, 0, 0]
    channels = np.where(first < 0, -1, first // area)
    expected = channels[:, None, None] * area + np.arange(area).reshape(shape[1:])
    return channels if np.array_equal(index, np.where(channels[:, None, None] < 0, -1, expected)) else None


def _picked(weight: Array, rows: Array) -> Array:
    keep = (rows >= 0).reshape(-1, *(1,) * (weight.ndim - 1))
    return np.where(keep, weight[np.maximum(rows, 0)], 0.0)


def _picked_bias(bias: Array | None, rows: Array, synapse: Conv2d | Linear) -> Array | None:
    if bias is None:
        return None
    full = spread(bias, synapse.weight.ndim - 1)
    full = np.broadcast_to(full, (full.shape[0], synapse.weight.shape[0], *full.shape[2:]))
    return np.moveaxis(_picked(np.moveaxis(full, 1, 0), rows), 0, 1)


def columns_scattered(weight: Array, index: Array, size: int) -> Array:
    """The weights on ``x`` of a dense layer that reads ``gather(x)``, x of ``size`` elements."""
    flat = index.reshape(-1)
    out = np.zeros((size, weight.shape[0]))
    np.add.at(out, flat[flat >= 0], weight.T[flat >= 0])
    return np.ascontiguousarray(out.T)


def channels_scattered(weight: Array, channels: Array, count: int) -> Array:
    """The kernel on ``x`` of ``count`` channels for one on a map whose channel k is channel ``channels[k]`` of x (-1: zeros)."""
    out = np.zeros((count, weight.shape[0], *weight.shape[2:]))
    np.add.at(out, channels[channels >= 0], weight.swapaxes(0, 1)[channels >= 0])
    return np.ascontiguousarray(out.swapaxes(0, 1))

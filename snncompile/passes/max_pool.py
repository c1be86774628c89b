"""Maximum pooling out of what a chip has: spikes that any spike causes, or rectified differences of payloads."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir.graph import Array, Graph, Op, fresh_name
from snncompile.ir.linear_ops import Add, Affine, Conv2d, Gather
from snncompile.ir.max_pool import MaxPool2d
from snncompile.ir.neuron import Fire, Neuron, Reset, constant
from snncompile.ir.population import FLOAT_POPULATIONS
from snncompile.passes.arrays import constant_in_time
from snncompile.passes.base import Change, Refusal, RewritePass
from snncompile.passes.relay import relay


@dataclass(frozen=True)
class LowerMaxPool(RewritePass):
    """Replace one maximum over windows.

    of binary spikes    a population that fires where its window holds a spike
    of a * x + b        a * max(x) + b for a > 0 that is the same for a whole channel
    of anything else    max(x, y) = y + relu(x - y): one population of rectified differences for every tap but the first, along
                        rows, then along columns; exact on payloads of one LSB
    """

    name = "lower-max-pool"

    def rule(self, op: Op, graph: Graph) -> Change | Refusal | None:
        """Lower one pooling."""
        if not isinstance(op, MaxPool2d):
            return None
        source = graph.node(op.inputs[0])
        if isinstance(source, FLOAT_POPULATIONS) and source.spiking and op.inputs[0] == source.name and source.max_spikes == 1:
            return _any_spike(op, graph)
        if isinstance(source, Affine) and _monotone(source, graph):
            inner = replace(op, name=fresh_name(graph.by_name, f"{op.name}_of_{source.inputs[0].partition('.')[0]}"), inputs=source.inputs)
            return Change((inner, replace(source, name=op.name, inputs=(inner.name,), loc=op.loc)))
        return _differences(op, graph)


def _monotone(source: Affine, graph: Graph) -> bool:
    """Whether a channel's values keep their order: a positive factor and a shift without positions."""
    rank = len(graph.shapes[source.name])
    flat = all(a.ndim <= 1 or (a.ndim == 1 + rank and a.shape[2:] == (1,) * (rank - 1)) for a in (source.factor, source.shift))
    return flat and constant_in_time(source.factor) and bool(np.all(source.factor > 0))


def _any_spike(op: MaxPool2d, graph: Graph) -> Change:
    channels = graph.shape(op.inputs[0])[0]
    name = fresh_name(graph.by_name, f"{op.name}_count")
    conv = Conv2d(
        name=name, inputs=op.inputs, loc=op.loc, origin=op.origin or (op.name,), weight=np.ones((channels, 1, *op.kernel)),
        stride=op.stride, padding=op.padding, dilation=op.dilation, groups=channels,
    )  # fmt: skip
    return Change((conv, _stateless(op, op.name, name, Fire.STEP_GE, 1.0)))


def _stateless(op: Op, name: str, ref: str, fire: Fire, theta: float) -> Neuron:
    zero = constant(0.0)
    return Neuron(
        name=name, inputs=(ref,), loc=op.loc, origin=op.origin or (op.name,), fire=fire, reset=Reset.STATELESS, leak=zero,
        gain=constant(1.0), bias=zero, theta=constant(theta), reset_amount=zero, reset_value=zero, v_init=np.zeros(1),
    )  # fmt: skip


def _differences(op: MaxPool2d, graph: Graph) -> Change:
    """The tree of rectified differences; ``op``'s readers follow the last sum."""
    build = _Build(op, graph)
    source = graph.node(op.inputs[0])
    terms = [op.inputs[0]]
    if not isinstance(source, FLOAT_POPULATIONS) or op.inputs[0] != source.name:  # differences need payloads to read
        carrier = relay(build.name("relay"), op.inputs[0], op)
        build.nodes.append(carrier)
        terms = [carrier.name]
    shape = list(graph.shape(op.inputs[0]))
    for axis in (0, 1):
        taps = op.taps(axis, shape[1 + axis])
        at = np.where(taps < 0, taps.max(axis=1, keepdims=True), taps)
        index = np.arange(int(np.prod(shape))).reshape(shape)
        best = build.wired(terms, index.take(at[:, 0], axis=1 + axis))
        for k in range(1, at.shape[1]):
            if np.array_equal(at[:, k], at[:, 0]):
                continue
            other = build.wired(terms, index.take(at[:, k], axis=1 + axis))
            best = [*other, build.positive_part(best, other)]
        terms, shape[1 + axis] = best, len(at)
    return Change((*build.nodes, Add(name=op.name, inputs=tuple(terms), loc=op.loc, origin=op.origin or (op.name,))))


class _Build:
    """Collects the nodes of one pooling. A value is a list of references whose sum it is."""

    def __init__(self, op: MaxPool2d, graph: Graph) -> None:
        self.op, self.taken, self.nodes = op, dict[str, object](graph.by_name), list[Op]()

    def name(self, suffix: str) -> str:
        name = fresh_name(self.taken, f"{self.op.name}_{suffix}")
        self.taken[name] = name
        return name

    def add(self, node: Op) -> str:
        self.nodes.append(node)
        return node.name

    def wired(self, terms: list[str], index: Array) -> list[str]:
        """The same positions of every term."""
        origin = self.op.origin or (self.op.name,)
        return [self.add(Gather(name=self.name("tap"), inputs=(t,), loc=self.op.loc, origin=origin, index=index)) for t in terms]

    def positive_part(self, x: list[str], y: list[str]) -> str:
        """A population that sends relu(x - y)."""
        op, origin = self.op, self.op.origin or (self.op.name,)
        minus, nothing = np.array([-1.0]), np.array([0.0])
        negated = [
            self.add(Affine(name=self.name("minus"), inputs=(r,), loc=op.loc, origin=origin, factor=minus, shift=nothing)) for r in y
        ]
        apart = self.add(Add(name=self.name("apart"), inputs=(*x, *negated), loc=op.loc, origin=origin))
        return self.add(_stateless(op, self.name("over"), apart, Fire.RELU, 0.0))

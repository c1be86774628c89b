"""Layers of a ``.net`` file to an integer graph with one population a layer.

    dense, conv, pool   a population; its synapses are the layer's weights in parts of 8 bits, one set per distinct delay
    dense_rec           the same, and synapses from itself one step late
    input               with a neuron: a population fed by the values one to one; without: the spikes themselves
    flatten             row-major (C, H, W), which a dense layer reads anyway
    average             a population that counts the spikes of each group; the average is its payload times 1 / group

A hop of Lava's pipeline (one step per synapse process) is the schedule's business here: the graph is in model steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from snncompile.errors import InternalError, fail
from snncompile.importers.netx.layers import Layer
from snncompile.importers.netx.neuron import UNITY, NeuronSpec, integrator
from snncompile.importers.netx.prove import Proved, prove
from snncompile.importers.netx.weights import as_netx_runs_them, split
from snncompile.ir.graph import Array, Op, Shape
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.linear_ops import Conv2d, Delay, Diagonal, Gather, Linear
from snncompile.ir.neuron import Reset
from snncompile.ledger import Decision
from snncompile.numerics import Interval
from snncompile.quantize.payload import Payload, Synapse, accumulator_bound, connections
from snncompile.target import Target

SHIFT = 6
"""Lava shifts synaptic input and bias mantissas by 6 bits."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The values that the network reads:  payload k in low..high stands for  k * lsb + offset."""

    shape: Shape
    low: int
    high: int
    lsb: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, eq=False)
class _Part:
    """A synapse, the exponent of its weights, and whether it comes from the population itself."""

    op: Synapse
    exponent: int
    own: bool = False


@dataclass(kw_only=True)
class Builder:
    """The graph so far. ``last`` is the population whose payload the next layer reads."""

    target: Target
    steps: int
    nodes: list[Op] = field(default_factory=list)
    proved: list[Proved] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    last: str = ""
    payload: Payload | None = None

    def source(self, s: Source) -> None:
        """The network's input."""
        self.last = "input"
        self.nodes.append(IntInput(
            name="input", size=s.shape, lsb=np.full((1,) * len(s.shape), s.lsb), offset=np.full((1,) * len(s.shape), s.offset),
            low=s.low, high=s.high,
        ))  # fmt: skip
        self.payload = Payload(shape=s.shape, lsb=np.ones(()), offset=np.zeros(()), low=min(s.low, 0), high=max(s.high, 0))

    @property
    def shape(self) -> Shape:
        """Of what the next layer reads."""
        return self._payload.shape

    @property
    def _payload(self) -> Payload:
        if self.payload is None:
            raise InternalError("a layer comes before the input")
        return self.payload

    def add(self, layer: Layer, *, sign: int = 1, readout: bool = False) -> None:
        """A layer with weights, or an input that is encoded by neurons; a ``readout`` keeps its membrane and never fires."""
        name = _name(layer)
        parts = list(self._parts(name, layer, sign))
        shape = self._fitting(layer, parts[0].op)
        if layer.recurrent is not None:
            parts += self._recurrent(name, layer.recurrent, shape)
        spikes = Payload(shape=shape, lsb=np.ones(()), offset=np.zeros(()), low=0, high=1)
        bounds = [accumulator_bound(p.op, _rows(p.op, shape), spikes if p.own else self._payload, len(shape)) for p in parts]
        neuron = IntNeuron(
            name=name, inputs=tuple(p.op.name for p in parts), origin=(layer.where,), exponents=tuple(SHIFT + p.exponent for p in parts),
            v_scale=np.ones((1,) * len(shape)), out_scale=np.ones(()),
            **_dynamics(layer.neuron or integrator(), layer.bias, shape, silent=readout),
        )  # fmt: skip
        self._finish([p.op for p in parts], neuron, bounds, shape, spikes)

    def count(self, layer: Layer) -> None:
        """lava-dl's ``average``: the mean of each group of consecutive neurons, as counts."""
        name, groups, size = _name(layer), prod(layer.shape), prod(self.shape)
        if size % groups:
            raise fail("SNN150", f"dataset '{layer.where}/shape' asks for {groups} averages of {size} neurons")
        weight = np.repeat(np.eye(groups, dtype=np.int8), size // groups, axis=1)
        op = Linear(name=f"{name}_synapse", inputs=(self.last,), weight=weight)
        forgets = NeuronSpec(i_decay=np.full(1, UNITY), v_decay=np.full(1, UNITY), threshold=0)
        neuron = IntNeuron(
            name=name, inputs=(op.name,), origin=(layer.where,), exponents=(0,), v_scale=np.full(1, groups / size),
            out_scale=np.full(1, groups / size), **_dynamics(forgets, None, (groups,), silent=True),
        )  # fmt: skip
        self._finish([op], neuron, [accumulator_bound(op, weight.astype(np.int64), self._payload, 1)], (groups,), None)

    def _finish(
        self, synapses: Sequence[Synapse], neuron: IntNeuron, bounds: list[Interval], shape: Shape, payload: Payload | None
    ) -> None:
        number = sum(connections(op, shape) for op in synapses)
        proved = prove(neuron, bounds, shape=shape, synapses=number, steps=self.steps, target=self.target)
        self.nodes += [*synapses, proved.neuron]
        self.proved.append(proved)
        self.last, self.payload = neuron.name, payload

    def _parts(self, name: str, layer: Layer, sign: int) -> Iterator[_Part]:
        """The layer's weights as synapses: one set per distinct delay, each in parts of the target's width."""
        if layer.kind == "input":
            weight = np.full((1,) * len(self.shape), sign, dtype=np.int8)
            yield _Part(Diagonal(name=f"{name}_synapse", inputs=(self.last,), weight=weight), 0)
            return
        assert layer.weight is not None
        if layer.weight.ndim == 2:
            if prod(self.shape) != layer.weight.shape[1]:
                found = f"reads {layer.weight.shape[1]} neurons, '{self.last}' has {prod(self.shape)} of shape {list(self.shape)}"
                raise fail("SNN150", f"dataset '{layer.where}/weight' {found}")
            self._note_netx(layer)
        for weight, delay in _by_delay(layer.weight, layer.delay):
            columns = np.flatnonzero(weight.any(axis=0)) if weight.ndim == 2 else np.arange(0)
            some = delay is not None and 0 < columns.size < weight.shape[1]  # others have other delays
            for k, (q, e) in enumerate(split(weight, self.target.weight.high)):
                label = f"{name}_synapse" + (f"_d{delay}" if delay is not None else "") + (f"_{k}" if k else "")
                ref = self._delayed(delay or 0)
                if some:
                    self.nodes.append(Gather(name=f"{label}_wiring", inputs=(ref,), index=columns))
                    ref = f"{label}_wiring"
                yield _Part(self._synapse(label, ref, layer, q[:, columns] if some else q), e)

    def _synapse(self, label: str, ref: str, layer: Layer, q: Array) -> Synapse:
        q = q.astype(np.min_scalar_type(-self.target.weight.high))
        if layer.kind in ("dense", "dense_rec"):
            return Linear(name=label, inputs=(ref,), weight=q)
        if len(self.shape) != 3:
            raise fail(
                "SNN150", f"layer '{layer.where}' is a {layer.kind} layer on '{self.last}' of shape {list(self.shape)}, not [C, H, W]"
            )
        if layer.kind == "pool":
            q = np.repeat(q, self.shape[0], axis=0)
        window, groups = layer.window, self.shape[0] if layer.kind == "pool" else layer.groups
        if q.shape[1] * groups != self.shape[0]:
            found = f"has shape {list(q.shape)} with {groups} group(s), '{self.last}' has {self.shape[0]} channels"
            raise fail("SNN150", f"dataset '{layer.where}/weight' {found}")
        top, left = window.padding
        return Conv2d(
            name=label, inputs=(ref,), weight=q, stride=window.stride, padding=(top, top, left, left), dilation=window.dilation,
            groups=groups,
        )  # fmt: skip

    def _recurrent(self, name: str, weight: Array, shape: Shape) -> Iterator[_Part]:
        self.nodes.append(Delay(name=f"{name}_before", inputs=(name,), size=shape, initial=np.zeros((1,) * len(shape), dtype=np.int64)))
        for k, (q, e) in enumerate(split(weight, self.target.weight.high)):
            label = f"{name}_recurrent" + (f"_{k}" if k else "")
            yield _Part(
                Linear(name=label, inputs=(f"{name}_before",), weight=q.astype(np.min_scalar_type(-self.target.weight.high))), e, own=True
            )

    def _fitting(self, layer: Layer, op: Synapse) -> Shape:
        """The population's shape, which the file says too."""
        try:
            shape = op.infer((op.weight.shape[1],) if isinstance(op, Linear) else self.shape)
        except ValueError as e:
            raise fail("SNN150", f"layer '{layer.where}' does not fit what comes before it: {e}") from e
        if shape != layer.shape:
            made = f"is {list(layer.shape)}, the layer makes {list(shape)} of {list(self.shape)}"
            raise fail("SNN150", f"dataset '{layer.where}/shape' {made}")
        return shape

    def _delayed(self, delay: int) -> str:
        """What the next layer reads, some steps late; all delays share their nodes."""
        ref, known = self.last, {n.name for n in self.nodes}
        for k in range(1, delay + 1):
            name = f"{self.last}_delay{k}"
            if name not in known:
                zero = np.zeros((1,) * len(self.shape), dtype=np.int64)
                self.nodes.append(Delay(name=name, inputs=(ref,), size=self.shape, initial=zero))
            ref = name
        return ref

    def _note_netx(self, layer: Layer) -> None:
        """Where netx itself, or lava-dl, would run these integers differently."""
        assert layer.weight is not None
        theirs = as_netx_runs_them(layer.weight)
        if theirs is None or np.any(theirs != layer.weight):
            change = "cannot load them" if theirs is None else f"would change them by up to {int(np.abs(theirs - layer.weight).max())}"
            self._decide(layer, "weight", "taken as they are", f"netx itself {change}, to fit its choice of weight bits")
        if layer.delay is not None and layer.bias is not None and np.any(layer.delay) and np.any(layer.bias):
            why = "netx delays what a neuron receives; lava-dl delayed what it sends, which differs where there is a bias"
            self._decide(layer, "delay", "of a neuron's inputs", why)

    def _decide(self, layer: Layer, key: str, value: str, why: str) -> None:
        where = f"{layer.where}/{key}"
        self.decisions.append(Decision(stage="file", what=f"{key} of {_name(layer)}", value=value, why=why, source="default", where=where))


def _by_delay(weight: Array, delay: Array | None) -> Iterator[tuple[Array, int | None]]:
    """The weights of each distinct delay, the others 0."""
    if delay is None or not np.any(delay):
        yield weight, None
        return
    for d in np.unique(delay):
        yield np.where(delay == d, weight, 0), int(d)


def _rows(op: Synapse, shape: Shape) -> Array:
    """Weights with one row per channel of the population."""
    weight = np.asarray(op.weight, dtype=np.int64)
    return np.broadcast_to(weight, (shape[0], *weight.shape[1:])) if isinstance(op, Diagonal) else weight


def _name(layer: Layer) -> str:
    return f"layer{layer.where.rpartition('/')[2]}"


def _dynamics(spec: NeuronSpec, bias: Array | None, shape: Shape, *, silent: bool) -> dict[str, Any]:
    """The fields of ``IntNeuron`` for  v > threshold << 6 ,  which on integers is  v >= (threshold << 6) + 1."""
    ones = (1,) * len(shape)

    def aligned(values: Array) -> Array:
        return values.reshape((1, *(ones if values.size == 1 else values.shape))).astype(np.int64)

    zero = np.zeros((1, *ones), dtype=np.int64)
    alpha = UNITY - aligned(spec.i_decay)
    return {
        "fire": "none" if silent else "step", "reset": Reset.KEEP if silent else Reset.SET, "decay_bits": 12,
        "leak": UNITY - aligned(spec.v_decay), "alpha": alpha if np.any(alpha) else None,
        "bias": zero if bias is None else aligned(bias) << SHIFT,
        "threshold": zero + (0 if silent else (spec.threshold << SHIFT) + 1),
        "reset_amount": zero, "reset_value": zero, "v_init": np.zeros(ones, dtype=np.int64),
    }  # fmt: skip


__all__ = ["SHIFT", "Builder", "Source"]

"""What travels on a population's axons, and what a synapse makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from snncompile.errors import fail
from snncompile.ir.conv import correlate
from snncompile.ir.graph import Array, Graph, Shape
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.linear_ops import Conv2d, Diagonal, Linear
from snncompile.ir.population import Port
from snncompile.ir.program import IntProgram
from snncompile.numerics import Interval
from snncompile.quantize.blockwise import flat, per_row

Synapse = Conv2d | Linear | Diagonal


@dataclass(frozen=True, kw_only=True, eq=False)
class Payload:
    """Integers k in ``low..high`` that stand for the values ``lsb * k + offset`` (both broadcast to ``shape``)."""

    shape: Shape
    lsb: Array
    offset: Array
    low: int
    high: int

    @property
    def uniform(self) -> bool:
        """Whether every element has the same LSB and no offset."""
        return self.lsb.size == 1 and not np.any(self.offset)


SPIKE_LSB = np.ones(())


def payload_of(op: IntInput | IntNeuron | IntProgram, bounds: tuple[int, int], shape: Shape) -> Payload:
    """The payload of an integer source; ``bounds`` is what its payload can be."""
    low, high = min(bounds[0], 0), max(bounds[1], 0)
    if isinstance(op, IntInput):
        return Payload(shape=shape, lsb=op.lsb, offset=op.offset, low=low, high=high)
    return Payload(shape=shape, lsb=op.out_scale, offset=np.zeros(()), low=low, high=high)


@dataclass(frozen=True, kw_only=True, eq=False)
class Incoming:
    """One port's weights in units of the payload.

    weight  weights times payload LSB; axis 0 has one entry per output channel
    lsb     payload LSB, broadcastable to the synapse's own weight
    zero    offset / lsb over the synapse's input, or None if there is no offset anywhere
    """

    port: Port
    payload: Payload
    weight: Array
    lsb: Array
    zero: Array | None

    @property
    def channel_peak(self) -> Array:
        """The largest magnitude per output channel."""
        rows = flat(self.weight)
        return np.asarray(np.maximum(rows.max(axis=1, initial=0.0), -rows.min(axis=1, initial=0.0)))


def incoming(graph: Graph, port: Port, payload: Payload, channels: int) -> Incoming:
    """Multiply a port's weights by what one payload LSB is worth."""
    synapse = port.synapse
    lsb, zero = _at_synapse(graph, port, payload)
    if isinstance(synapse, Conv2d):
        lsb = _per_input_channel(lsb, synapse, graph.shape(synapse.inputs[0])) if lsb.size > 1 else lsb
        weight = _times(synapse.weight, lsb)
    elif isinstance(synapse, Linear):
        lsb = lsb.reshape(1, -1) if lsb.size > 1 else lsb
        weight = _times(synapse.weight, lsb)
    else:
        weight = np.asarray(synapse.weight, dtype=np.float64) * lsb
        ndim = len(graph.shape(synapse.name))
        weight = weight.reshape((1,) * (ndim - weight.ndim) + weight.shape)
        weight = np.broadcast_to(weight, (channels, *weight.shape[1:]))
    return Incoming(port=port, payload=payload, weight=np.asarray(weight, dtype=np.float64), lsb=np.asarray(lsb), zero=zero)


def _times(weight: Array, lsb: Array) -> Array:
    """Weights in units of the payload; those themselves where it counts spikes."""
    return weight if lsb.size == 1 and float(lsb.reshape(-1)[0]) == 1.0 else weight * lsb


def _at_synapse(graph: Graph, port: Port, payload: Payload) -> tuple[Array, Array | None]:
    """LSB and offset / LSB of the values that reach the synapse; a -1 of the gather is a true zero."""
    if payload.uniform:
        return payload.lsb.reshape(()), None
    shape = graph.shape(port.synapse.inputs[0])
    lsb = np.broadcast_to(payload.lsb, payload.shape).reshape(-1)
    zero = np.broadcast_to(payload.offset / payload.lsb, payload.shape).reshape(-1)
    if port.gather is not None:
        wired = port.gather.index.reshape(-1)
        zero = np.where(wired < 0, 0.0, zero[np.maximum(wired, 0)])
        lsb = lsb[np.maximum(wired, 0)]
    same = np.all(lsb == lsb[0]) if lsb.size else True
    return (lsb[:1].reshape(()) if same else lsb.reshape(shape)), (zero.reshape(shape) if np.any(zero) else None)


def _per_input_channel(lsb: Array, op: Conv2d, shape: Shape) -> Array:
    """A payload LSB per input channel, laid out like the kernel."""
    flat = np.broadcast_to(lsb, shape).reshape(shape[0], -1)
    if not np.all(flat == flat[:, :1]):
        raise fail(
            "SNN309", f"'{op.name}' is a convolution over values whose resolution differs from pixel to pixel", loc=op.loc,
            help="give the input one range per channel",
        )  # fmt: skip
    out, per_group = op.weight.shape[:2]
    group = np.arange(out) // (out // op.groups)
    columns = group[:, None] * per_group + np.arange(per_group)[None]
    return np.asarray(flat[:, 0][columns][:, :, None, None])


def offset_map(synapse: Synapse, q: Array, zero: Array) -> Array:
    """What the offset adds to every accumulator, in accumulator LSBs: zero padding is a true zero and adds nothing."""
    if isinstance(synapse, Conv2d):
        return np.asarray(correlate(zero[None], synapse, q.astype(np.float64))[0])
    if isinstance(synapse, Linear):
        return np.asarray(q.astype(np.float64) @ zero.reshape(-1))
    return np.asarray(q * zero)


def accumulator_bound(synapse: Synapse, q: Array, payload: Payload, ndim: int) -> Interval:
    """What a synapse's sums can be, per output channel; partial sums lie within, because every term's interval holds 0."""
    if isinstance(synapse, Diagonal):
        q = q.astype(np.int64)
        positive, negative = np.maximum(q, 0), np.minimum(q, 0)
        high = positive * payload.high + negative * payload.low
        low = positive * payload.low + negative * payload.high
        return Interval.of(low, high)
    pos = per_row(lambda rows: np.maximum(rows, 0).sum(axis=1, dtype=np.int64), flat(q))
    neg = flat(q).sum(axis=1, dtype=np.int64) - pos
    shape = (len(q),) + (1,) * (ndim - 1)
    return Interval.of((pos * payload.low + neg * payload.high).reshape(shape), (pos * payload.high + neg * payload.low).reshape(shape))


def connections(synapse: Synapse, shape: Shape) -> int:
    """How many synapses a layer has on the chip, shared weights counted once per neuron."""
    if isinstance(synapse, Conv2d):
        return int(prod(shape) * prod(synapse.weight.shape[1:]))
    return int(synapse.weight.size if isinstance(synapse, Linear) else prod(shape))


def initial_payload(value: Array, payload: Payload) -> Array | None:
    """The payload that stands for a delay's initial value, or None if there is none."""
    exact = (value - payload.offset) / payload.lsb
    nearest = np.rint(exact)
    if np.any(np.abs(exact - nearest) > 1e-6) or np.any(nearest < payload.low) or np.any(nearest > payload.high):
        return None
    return np.asarray(nearest.astype(np.int64))


__all__ = ["Incoming", "Payload", "accumulator_bound", "connections", "incoming", "initial_payload", "offset_map", "payload_of"]

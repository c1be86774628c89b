"""Biases for what most neurons see most of the time: the background.

Where an input is zero, all neurons of a channel follow one trajectory: without input in the first layer, with what the background's
channels send in the next. Where rounding flips a spike of it, it flips one in all of them at once; and training likes to bring that
trajectory to within a millionth of its threshold, where a step makes a difference to the loss. The bias of such a channel moves by a
few steps, until on a blank sample the integers fire when the network does, and when the real numbers with the program's weights and
biases do (they are what the program is compared with: a bias is a rounded number anyway). Where no move does both, the latter counts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from snncompile.ir.graph import Array, Dialect, Graph, Shape
from snncompile.ir.integer import IntNeuron
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Input
from snncompile.ir.neuron import Neuron
from snncompile.ir.reference import State, neuron_step

DISTANCES = (*range(1, 17), 20, 24, 28, 32, 40, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Steps by which a bias is moved in turn: membrane LSBs, or the power of two on whose multiples exact dynamics keep their biases."""
WIDE = {"membrane": (-(2**40), 2**40), "accumulator": (-(2**40), 2**40)}

Population = TypeVar("Population", Neuron, IntNeuron)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blank:
    """What a population hears and sends on a blank sample, ``(T, *shape)``.

    arriving  the program's payloads at each synapse; None for silence: nobody ran a blank sample, or a loop is not built yet
    sent      what the network's sends, in payloads (spikes, and values on a grid)
    """

    arriving: tuple[Array, ...] | None = None
    sent: Array | None = None


def farthest(guard_bits: int) -> int:
    """Membrane LSBs by which a bias may move: two steps of a weight, or the 32 that rounded leaks may need."""
    return max(32, 2 << guard_bits)


def counts(n: Neuron) -> bool:
    """Whether a population's payloads are whole numbers: spikes, or values on a grid."""
    return n.spiking or bool(n.grid)


def silence(real: Neuron, whole: IntNeuron, steps: int, rank: int) -> tuple[Array, Array]:
    """Sums of accumulators in silence, and what the network's population sends then, ``(T, *shape)``; axes along which neurons are alike
    have length 1."""
    extents = [
        values.shape[1:] if name in n.time_fields else values.shape
        for n in (real, whole) for name, values in vars(n).items() if isinstance(values, np.ndarray)
    ]  # fmt: skip
    extent = np.broadcast_shapes(*extents, (1,) * rank)
    return np.zeros((steps, *extent), dtype=np.int64), real_payloads(real, np.zeros((steps, *extent)))


def settle(real: Neuron, whole: IntNeuron, total: Array, sent: Array, *, guard_bits: int, lattice: int | None = None) -> IntNeuron:
    """``whole`` with biases that fire like ``real`` on a blank sample; those for which no move helps stay.

    total, sent  the sums of the program's accumulators and what the network sends, in payloads, ``(T, *shape)``
    lattice      the dynamics are exact with biases on the multiples of 2**lattice
    """
    shape = total.shape[1:]
    own, network = _wrong(real, whole, total, sent, exact=lattice is not None)
    at = np.nonzero(own | network)
    if not len(at[0]):
        return whole
    start = np.broadcast_to(whole.bias, (whole.bias.shape[0], *shape))
    full = start.copy()
    here: Any = (slice(None), *at)
    full[here] = _moved(
        _some(real, at, shape), _some(whole, at, shape), total[here], sent[here], guard_bits=guard_bits, lattice=lattice
    )  # fmt: skip
    return whole if np.array_equal(full, start) else replace(whole, bias=full)


def _wrong(real: Neuron, tried: IntNeuron, total: Array, sent: Array, *, exact: bool) -> tuple[Array, Array]:
    """Where the integers differ from their own real numbers, and from the network."""
    fired = whole_payloads(tried, total)
    own = fired if exact else _real_spikes(real, tried, total)
    return (fired != own).any(axis=0), (fired != sent).any(axis=0)


def _some(n: Population, at: tuple[Array, ...], shape: Shape) -> Population:
    """Some neurons of a population, in a row."""

    def chosen(name: str, values: Any) -> Any:
        if not isinstance(values, np.ndarray):
            return values
        if name not in n.time_fields:
            return np.broadcast_to(values, shape)[at]
        aligned = values.reshape(len(values), *(1,) * (len(shape) + 1 - values.ndim), *values.shape[1:])
        every: Any = (slice(None), *at)
        return np.broadcast_to(aligned, (len(values), *shape))[every]

    kept: dict[str, Any] = {f.name: chosen(f.name, getattr(n, f.name)) for f in fields(n)}
    return replace(n, **kept)


def _moved(real: Neuron, whole: IntNeuron, total: Array, sent: Array, *, guard_bits: int, lattice: int | None) -> Array:
    """The biases that fire like ``real``."""
    start, unit = whole.bias, 1 << (lattice or 0)
    full = start.copy()
    own, network = _wrong(real, whole, total, sent, exact=lattice is not None)
    for distance in DISTANCES:
        if distance * unit > farthest(guard_bits):
            break
        for move in (distance * unit, -distance * unit):
            left = own | network
            tried = replace(whole, bias=start + np.where(left, move, 0))
            now_own, now_network = _wrong(real, tried, total, sent, exact=lattice is not None)
            better = left & ((own & ~now_own) | ((own == now_own) & network & ~now_network))
            full = np.where(better, start + move, full)
            own, network = np.where(better, now_own, own), np.where(better, now_network, network)
        if not (own | network).any():
            break
    return full


def whole_payloads(n: IntNeuron, total: Array) -> Array:
    """A population's payloads for these sums of accumulators, ``(T, *shape)``."""
    state: State = {}
    alone = replace(n, inputs=("x",), exponents=(0,))
    return np.stack([neuron_step(alone, [total[t, None]], state, t, WIDE)[0][0] for t in range(len(total))])


def _real_spikes(real: Neuron, n: IntNeuron, total: Array) -> Array:
    """The same of the real numbers with the program's bias and input, ``(T, *shape)``."""
    given = {"bias": np.asarray(n.bias * n.v_scale)}
    if n.gain is not None and n.gain_shift is not None and n.i_scale is not None:
        given["gain"] = np.asarray(n.gain * 2.0**-n.gain_shift * n.v_scale / n.i_scale)
    scale = n.v_scale if n.i_scale is None else n.i_scale
    return real_payloads(replace(real, **given), total * scale)  # type: ignore[arg-type]


def real_payloads(n: Neuron, current: Array) -> Array:
    """What a population of the network sends for these currents, in payloads, ``(T, *shape)``."""
    nodes = (Input(name="x", size=current.shape[1:]), replace(n, inputs=("x",)))
    graph = Graph(name="blank", dialect=Dialect.FLOAT, nodes=nodes, outputs={"s": n.name}, steps=len(current))
    return in_payloads(n, interpret(graph, {"x": current[None]})["s"][0])


def in_payloads(n: Neuron, sent: Array) -> Array:
    """What a population of spikes, or of values on a grid, sends, as the integers that stand for it."""
    return np.asarray(np.rint(sent / (n.grid or 1.0)), dtype=np.int64)


__all__ = ["WIDE", "Blank", "counts", "farthest", "in_payloads", "real_payloads", "settle", "silence", "whole_payloads"]

"""Biases for what most neurons see most of the time: nothing.

All neurons of a channel that get no input follow one trajectory, so where rounding flips a spike of it, it flips one in all of them at
once (a leak of exp(-1/10) can bring a membrane to within one LSB of its threshold). The bias of such a channel moves by a few membrane
LSBs, until the integers fire without input when the real numbers with the same bias do. A bias is a rounded number anyway: the float
network that a program is compared with is given the moved one back.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from snncompile.ir.graph import Array, Dialect, Graph
from snncompile.ir.integer import IntNeuron
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Input
from snncompile.ir.neuron import Neuron
from snncompile.ir.reference import State, neuron_step

FARTHEST = 32
"""Membrane LSBs by which a bias may move."""
WIDE = {"membrane": (-(2**40), 2**40)}


def settle(real: Neuron, whole: IntNeuron, steps: int) -> IntNeuron:
    """``whole`` with biases that fire like ``real`` without input; those for which no move helps stay."""
    if not real.spiking:
        return whole
    bias, shape = whole.bias, np.broadcast_shapes(whole.bias.shape[1:], *_shapes(whole))
    wrong = _differs(real, whole, shape, steps)
    if not wrong.any():
        return whole
    full = np.broadcast_to(bias, (bias.shape[0], *shape)).copy()
    for distance in range(1, FARTHEST + 1):
        for move in (distance, -distance):
            tried = replace(whole, bias=full + np.where(wrong, move, 0))
            good = wrong & ~_differs(real, tried, shape, steps)
            full += np.where(good, move, 0)
            wrong &= ~good
        if not wrong.any():
            break
    return replace(whole, bias=full)


def _shapes(whole: IntNeuron) -> list[tuple[int, ...]]:
    fields = (whole.leak, whole.threshold, whole.reset_amount, whole.reset_value, whole.spike_step, whole.reset_keep, whole.v_min)
    return [*(f.shape[1:] for f in fields if f is not None), whole.v_init.shape]


def _differs(real: Neuron, whole: IntNeuron, shape: tuple[int, ...], steps: int) -> Array:
    """Per element, whether any step's spikes without input differ."""
    state: State = {}
    silence = np.zeros((1, *shape), dtype=np.int64)
    alone = replace(whole, inputs=("x",), exponents=(0,))
    fired = [neuron_step(alone, [silence], state, t, WIDE)[0][0] for t in range(steps)]
    twin = replace(real, inputs=("x",), bias=np.asarray(whole.bias * whole.v_scale))
    graph = Graph(
        name="silence", dialect=Dialect.FLOAT, nodes=(Input(name="x", size=shape), twin), outputs={"s": twin.name}, steps=steps
    )  # fmt: skip
    expected = interpret(graph, {"x": np.zeros((1, 1, *shape))})["s"][0]
    return np.asarray((np.stack(fired) != expected).any(axis=0))


__all__ = ["settle"]

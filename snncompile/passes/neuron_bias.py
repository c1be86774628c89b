"""A constant on a neuron's input current is a bias on its membrane."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from snncompile.ir.graph import Array
from snncompile.ir.neuron import at_step
from snncompile.ir.population import FloatPopulation
from snncompile.ir.program import NeuronProgram
from snncompile.passes.arrays import compact, is_all, spread


def add_current(neuron: FloatPopulation, current: Array, steps: int, rank: int, which: int = 0) -> FloatPopulation:
    """The neuron that reads ``x`` as this one read ``x + current``; ``current`` is per step, ``(1 | T, ...)``.

    A program adds it to its current number ``which``.

    bias' = bias + gain * current                        without a synaptic current
    bias' = bias + gain[t] * j[t],  j[t] = alpha[t] * j[t-1] + current[t],  j[-1] = 0     with one (j[t-1] if late)

    Source   the definition of ``snncompile.ir.neuron.Neuron``, which is linear in its current up to the membrane
    """
    if is_all(current, 0.0):
        return neuron
    added = spread(current, rank)
    if isinstance(neuron, NeuronProgram):
        biases = list(neuron.bias)
        biases[which] = compact(spread(biases[which], rank) + spread(neuron.gain[which], rank) * added)
        return replace(neuron, bias=tuple(biases))
    if neuron.alpha is not None:
        alpha = spread(neuron.alpha, rank)
        j = np.zeros(np.broadcast_shapes(added.shape[1:], alpha.shape[1:]))
        filtered = []
        for t in range(steps):
            after = at_step(alpha, t) * j + at_step(added, t)
            filtered.append(j if neuron.late_current else after)
            j = after
        added = np.stack(filtered)
    return replace(neuron, bias=compact(spread(neuron.bias, rank) + spread(neuron.gain, rank) * added))

"""The float rule that the chip follows, in a few lines of NumPy: what PyTorch's online rule does to the same spikes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from snncompile.ir.graph import Array, Graph
from snncompile.ir.integer import IntNeuron
from snncompile.learning.program import LearningProgram

Floats = npt.NDArray[np.float64]


def learn_float(program: LearningProgram, graph: Graph, spikes: Array, labels: Array, weights: Floats | None = None) -> Floats:
    """Weights after a stream, (post, pre), in units of the folded layer (what a bare spike adds to a logit).

        x = gain * s,   a[t] = leak * a[t-1] + x[t],   y = W x + b,   W -= (eta / T) * g (outer) a       at every step t of T

    spikes  (N, T, pre)       labels  (N,), negative for none       weights  to start from, by default those the chip is loaded with
    """
    w = (program.chip_weights(graph) * program.lsb if weights is None else weights).astype(np.float64) / program.gain
    neuron = graph.by_name[program.population]
    assert isinstance(neuron, IntNeuron)
    bias = np.broadcast_to(neuron.bias[0] * neuron.v_scale, (len(w),))
    steps = spikes.shape[1]
    for sample, label in zip(spikes, labels, strict=True):
        a = np.zeros(w.shape[1])
        for s in sample:
            x = program.gain * s.astype(np.float64)
            a = program.leak * a + x
            if label >= 0:
                w -= program.rate / steps * np.outer(gradient(program.error.loss, w @ x + bias, int(label)), a)
    return np.asarray(w * program.gain)


def gradient(loss: str, y: Floats, label: int) -> Floats:
    """dL/dy: softmax(y) - onehot for cross-entropy, 2 (y - onehot) / n for the mean-square error."""
    onehot = (np.arange(len(y)) == label).astype(np.float64)
    if loss == "mse":
        return np.asarray(2 * (y - onehot) / len(y))
    e = np.exp(y - y.max())
    return np.asarray(e / e.sum() - onehot)


__all__ = ["gradient", "learn_float"]

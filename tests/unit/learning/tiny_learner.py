"""A network of 28 synapses by 16 neurons whose readout learns, and a stream for it."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

import snncompile
from snncompile.ir import reference
from snncompile.learning.attach import LearnOptions, Plastic, make_plastic
from snncompile.online import OnlineLIF, ResettableNetwork, TracedLinear
from snncompile.pipeline import Compiled

STEPS, INPUTS, HIDDEN, CLASSES = 4, 12, 16, 3


class TinyLearner(ResettableNetwork):
    """Dense LIF, then a readout that learns by the trace of its input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.neuron = TracedLinear(INPUTS, HIDDEN, trace_leak=None), OnlineLIF(2.0)
        self.out = TracedLinear(HIDDEN, CLASSES, trace_leak=0.5)
        with torch.no_grad():
            self.hidden.weight.mul_(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.neuron(self.hidden(x)))


@cache
def tiny() -> Compiled:
    return snncompile.compile(TinyLearner().eval(), input_shape=(INPUTS,), steps=STEPS, input_range=(0, 255, 1))


def learner(**options: object) -> Plastic:
    c = tiny()
    chosen = LearnOptions(**{"layer": "out", "rate": 0.2, **options})
    return make_plastic(c.result, c.float_graph, c.source_graph, c.target, chosen)


def stream(samples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Payloads (N, 1, inputs) and targets (N,), some of them none."""
    g = np.random.default_rng(seed)
    return g.integers(0, 256, (samples, 1, INPUTS)), g.integers(-1, CLASSES, samples)


def spikes(plastic: Plastic, x: np.ndarray) -> np.ndarray:
    """What the source population sends."""
    graph = plastic.result.graph
    return reference.run(graph, {graph.nodes[0].name: x}, record=[plastic.program.source])[plastic.program.source]

"""Samples per second of learning, each on one core:  uv run python benchmarks/learning_speed.py.

A readout of 128 x 10 synapses at T = 6 learns from 500 samples of random spikes: the integer engine with its hardware steps, and PyTorch's
online rule. Processor time, so that other work on the machine does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

import snncompile
from snncompile.learning import LearnOptions, Widths, learn, make_plastic
from snncompile.learning.float_rule import float_stages
from snncompile.online import OnlineLIF, ResettableNetwork, TracedLinear
from snncompile.online.chain import Stage, learn_chain

SAMPLES, STEPS, INPUTS, CLASSES, DENSITY = 500, 6, 128, 10, 0.15


class Readout(ResettableNetwork):
    """A population of 128 neurons, and the readout that learns."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.neuron = TracedLinear(INPUTS, INPUTS, trace_leak=None), OnlineLIF(2.0)
        self.readout = TracedLinear(INPUTS, CLASSES, bias=False, trace_leak=0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One step."""
        return self.readout(self.neuron(self.hidden(x)))


def timed(name: str, act: Callable[[], object]) -> None:
    """Print the rate of the best of three runs."""
    seconds = []
    for _ in range(3):
        started = time.process_time()
        act()
        seconds.append(time.process_time() - started)
    print(f"  {name:22} {SAMPLES / min(seconds):8,.0f} samples/s")


def main() -> None:
    """Measure both rules."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    g = np.random.default_rng(0)
    spikes = (g.random((SAMPLES, STEPS, INPUTS)) < DENSITY).astype(np.uint8)
    labels = g.integers(0, CLASSES, SAMPLES)
    compiled = snncompile.compile(Readout().eval(), input_shape=(INPUTS,), steps=STEPS, input_range=(0, 255, 1))
    for rule in ("ottt", "sltt"):
        options = LearnOptions(layer="readout", rule=rule)
        plastic = make_plastic(compiled.result, compiled.float_graph, compiled.source_graph, compiled.target, options)
        p, graph, widths = plastic.program, plastic.result.graph, Widths.of(compiled.target)
        stages = [Stage(**given) for given in float_stages(p, graph)]
        print(f"{rule}: {p.time(plastic.schedule).hardware_steps(SAMPLES):,} hardware steps")
        timed("integer engine", lambda: learn(p, graph, plastic.schedule, widths, spikes, labels))  # noqa: B023 - called at once
        timed("PyTorch's online rule", lambda: learn_chain(stages, spikes, labels, loss="softmax"))  # noqa: B023


if __name__ == "__main__":
    main()

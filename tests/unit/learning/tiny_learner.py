"""Two small networks whose layers learn, 28 synapses by 16 neurons and four dense layers, and a stream for them."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn

import snncompile
from snncompile.ir import reference
from snncompile.learning.attach import LearnOptions, Plastic, make_plastic
from snncompile.online import OnlineLIF, ResettableNetwork, Scale, TracedLinear
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


class Blank(TinyLearner):
    """The same with a readout of zeros."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.out.weight)


class OneClass(TinyLearner):
    """The same with one output."""

    def __init__(self) -> None:
        super().__init__()
        self.out = TracedLinear(HIDDEN, 1, trace_leak=0.5)


class HardLIF(nn.Module):
    """A neuron that resets to a fixed membrane."""

    def __init__(self, leak: float, reset: float) -> None:
        super().__init__()
        self.leak, self.to, self.v = leak, reset, None

    def reset(self) -> None:
        self.v = None

    def forward(self, current: torch.Tensor) -> torch.Tensor:
        u = current if self.v is None else self.leak * self.v + current
        s = (u >= 1).to(u.dtype)
        self.v = torch.where(s > 0, torch.full_like(u, self.to), u)
        return s


class DeepLearner(ResettableNetwork):
    """Dense LIF layers of 16, 20 and 14 neurons, then a readout; a gain of 1.5 behind the spikes of the second."""

    def __init__(self, leak: float = 0.5, reset: float | None = None) -> None:
        super().__init__()
        torch.manual_seed(1)

        def neuron() -> nn.Module:
            return OnlineLIF(1 / (1 - leak)) if reset is None else HardLIF(leak, reset)

        self.first, self.lif0 = TracedLinear(INPUTS, HIDDEN, trace_leak=None), neuron()
        self.fc1, self.lif1, self.gain = TracedLinear(HIDDEN, 20, trace_leak=leak), neuron(), Scale(1.5)
        self.fc2, self.lif2 = TracedLinear(20, 14, trace_leak=leak), neuron()
        self.out = TracedLinear(14, CLASSES, trace_leak=leak)
        with torch.no_grad():
            for layer in (self.first, self.fc1, self.fc2):
                layer.weight.mul_(3)

    def reset(self) -> None:
        super().reset()
        for module in self.modules():
            if isinstance(module, HardLIF):
                module.reset()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.lif1(self.fc1(self.lif0(self.first(x))))
        return self.out(self.lif2(self.fc2(self.gain(x))))


class DeepBlank(DeepLearner):
    """The same with a readout of zeros."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.out.weight)


class NormLearner(ResettableNetwork):
    """A frozen norm behind the hidden layer that learns: a gain for every neuron, one of them negative."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.lif0 = nn.Linear(INPUTS, HIDDEN), OnlineLIF(2.0)
        self.fc1, self.norm, self.lif1 = nn.Linear(HIDDEN, 20), nn.BatchNorm1d(20), OnlineLIF(2.0)
        self.out = nn.Linear(20, CLASSES)
        with torch.no_grad():
            self.first.weight.mul_(3)
            self.norm.running_var.uniform_(0.5, 2)
            self.norm.running_mean.normal_()
            self.norm.weight.uniform_(0.5, 3)
            self.norm.weight[3] *= -1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.lif1(self.norm(self.fc1(self.lif0(self.first(x))))))


def compiled(net: nn.Module, input_range: tuple[float, float, float] = (0, 255, 1)) -> Compiled:
    return snncompile.compile(net.eval(), input_shape=(INPUTS,), steps=STEPS, input_range=input_range)


@cache
def tiny() -> Compiled:
    return compiled(TinyLearner())


@cache
def deep() -> Compiled:
    return compiled(DeepLearner())


def plastic_of(c: Compiled, options: dict[str, object]) -> Plastic:
    return make_plastic(c.result, c.float_graph, c.source_graph, c.target, LearnOptions(**options))


def learner(**options: object) -> Plastic:
    return plastic_of(tiny(), {"layer": "out", "rate": 0.2, **options})


def deep_learner(**options: object) -> Plastic:
    return plastic_of(deep(), {"layer": ("fc1", "fc2", "out"), "rate": 0.2, **options})


def compiled_learner(net: nn.Module, input_range: tuple[float, float, float] = (0, 255, 1), **options: object) -> Plastic:
    return plastic_of(compiled(net, input_range), options)


def stream(samples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Payloads (N, 1, inputs) and targets (N,), some of them none."""
    g = np.random.default_rng(seed)
    return g.integers(0, 256, (samples, 1, INPUTS)), g.integers(-1, CLASSES, samples)


def activities(plastic: Plastic, samples: int) -> dict[str, np.ndarray]:
    """A teacher's activities, 0..255, for layers that learn from one."""
    g, graph = np.random.default_rng(5), plastic.result.graph
    return {name: g.integers(0, 256, (samples, graph.shape(name)[0])) for name in plastic.program.local}


def spikes(plastic: Plastic, x: np.ndarray) -> np.ndarray:
    """What the source population sends."""
    graph = plastic.result.graph
    if plastic.program.source == graph.nodes[0].name:
        return x.astype(np.uint8)
    return reference.run(graph, {graph.nodes[0].name: x}, record=[plastic.program.source])[plastic.program.source]

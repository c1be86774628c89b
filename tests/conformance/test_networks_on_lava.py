"""Whole networks of several libraries, from PyTorch to Lava's simulator and ONNX Runtime: every bit of every population at every step.

They are taken as they come: no adapter, no wrapper. Sizes are small, parameters such that every population is active.
"""

from __future__ import annotations

import numpy as np
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, layer, neuron
from test_loops import Feedback, LoopInForward
from torch import nn
from written_neurons import Around, Cuba, FourBit, GradedClamp, LateCuba, PerChannel

import snncompile
from snncompile.ir import reference
from snncompile.ir.integer import IntNeuron
from snncompile.online.registry import build_network
from snncompile.pipeline import original
from snncompile.verify import Program, Verification, verify

STEPS = 6
BACKENDS = ("lava", "onnx", "reference")


def images(*shape: int, high: int = 255, count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, (count, 1, *shape), endpoint=True).astype(np.float64)


def frames(*shape: int, scale: float = 2.0, count: int = 3, steps: int = STEPS) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, scale, (count, steps, *shape))


def proof(model: nn.Module, x: np.ndarray, *, layout: str = "step", image: bool = False) -> tuple[snncompile.Compiled, Verification]:
    steps = STEPS if x.shape[1] == 1 else x.shape[1]
    compiled = snncompile.compile(
        model, input_shape=x.shape[2:], steps=steps, layout=layout, calibration=x, input_range=(0.0, 255.0, 1.0) if image else None
    )
    program = Program(graph=compiled.result.graph, schedule=compiled.schedule, populations=compiled.result.populations)
    return compiled, verify(program, {"x": x}, original=original(compiled, model, x), backends=BACKENDS, timeout_s=240)


def assert_proven(found: Verification, populations: int) -> None:
    assert found.ok, found.failures
    lava = found.backends[0]
    assert [(b.backend, b.differing_bits) for b in found.backends] == [(name, 0) for name in BACKENDS]
    assert lava.populations >= populations
    assert lava.compared_bits > 0
    assert found.dynamics is not None
    assert found.dynamics.differing_exact == 0
    assert found.dynamics.inexact_rate <= 1e-4


def ottt(feedback: bool) -> nn.Module:
    torch.manual_seed(1)
    net = build_network(
        "ottt_vgg", config=[6, "A", 8, "A", 10], in_channels=1, num_classes=10, input_size=[14, 14], classifier="flatten",
        mean=[0.13], std=[0.31], feedback=feedback,
    )  # fmt: skip
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.endswith("gain"):
                p.mul_(3)
            elif name.endswith("bias"):
                p.add_(torch.randn_like(p) * 0.3)
    return net


def test_the_feedback_variant_of_the_ottt_network_is_bit_exact_and_needs_three_hardware_steps_a_model_step():
    compiled, found = proof(ottt(feedback=True), images(1, 14, 14), image=True)
    assert compiled.schedule.initiation_interval == 3
    assert all(p.exact for p in compiled.result.populations)
    assert_proven(found, 4)


def test_a_hand_written_network_with_feedback_that_the_first_step_skips_is_bit_exact():
    torch.manual_seed(0)
    compiled, found = proof(Feedback(), frames(2, 8, 8))
    assert compiled.schedule.initiation_interval == 2
    assert_proven(found, 3)


@pytest.mark.parametrize(("mode", "layout"), [("m", "TB"), ("s", "step")])
def test_a_spikingjelly_network_is_bit_exact(mode, layout):
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1, bias=False), layer.BatchNorm2d(4), neuron.LIFNode(tau=2.0), layer.MaxPool2d(2),
        layer.Conv2d(4, 8, 3, padding=1), neuron.ParametricLIFNode(init_tau=1.7, v_reset=None), layer.AvgPool2d(2),
        layer.Flatten(), layer.Linear(32, 10), neuron.IFNode(),
    )  # fmt: skip
    with torch.no_grad():
        net[1].running_var.uniform_(0.05, 0.1)
        net[4].weight.mul_(3)
        net[8].weight.mul_(4)
    functional.set_step_mode(net, mode)
    _, found = proof(net, frames(2, 8, 8), layout=layout)
    assert_proven(found, 4)


class SnnTorch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(16, 20), nn.Linear(20, 12), nn.Linear(12, 5)
        self.lif1 = snntorch.Leaky(beta=0.9, init_hidden=True)
        self.lif2 = snntorch.Leaky(beta=0.5, init_hidden=True, reset_mechanism="zero", threshold=0.6)
        self.lif3 = snntorch.Synaptic(alpha=0.7, beta=0.8, init_hidden=True, output=True, threshold=0.5)

    def forward(self, x):
        return self.lif3(self.fc3(self.lif2(self.fc2(self.lif1(self.fc1(x))))))[0]


def test_an_snntorch_network_with_three_kinds_of_neurons_is_bit_exact():
    torch.manual_seed(0)
    _, found = proof(SnnTorch(), frames(16, scale=4.0, steps=12))
    assert_proven(found, 3)


def test_an_snntorch_loop_inside_forward_is_bit_exact():
    torch.manual_seed(0)
    _, found = proof(LoopInForward(), frames(8, scale=4.0), layout="TB")
    assert_proven(found, 2)


@pytest.mark.parametrize("written", [PerChannel, Cuba, LateCuba, GradedClamp, FourBit], ids=lambda n: n.__name__)
def test_other_neurons_in_a_residual_network_are_bit_exact(written):
    _, found = proof(Around(written), frames(2, 6, 6, scale=3.0))
    assert [(b.backend, b.differing_bits) for b in found.backends] == [(name, 0) for name in BACKENDS]


class ImageAndCue(nn.Module):
    """A frame and a cue that stays, each through its own layer, meet in one population; there are two readouts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc, self.out, self.side = nn.Conv2d(2, 4, 3), nn.Linear(5, 16), nn.Linear(16, 3), nn.Linear(16, 2)
        self.v: torch.Tensor | float = 0.0

    def forward(self, image: torch.Tensor, cue: torch.Tensor) -> dict[str, torch.Tensor]:
        m = 0.5 * self.v + self.conv(image).flatten(1) + self.fc(cue)
        s = (m >= 0.5).float()
        self.v = m - 0.5 * s
        return {"classes": self.out(s), "side": self.side(s)}


def test_two_named_inputs_bit_for_bit() -> None:
    x = {"image": frames(2, 4, 4, scale=1.0, count=4), "cue": frames(5, scale=1.0, count=4, steps=1)}
    model = ImageAndCue()
    compiled = snncompile.compile(model, input_shape={"image": (2, 4, 4), "cue": (5,)}, steps=STEPS, calibration=x)
    program = Program(graph=compiled.result.graph, schedule=compiled.schedule, populations=compiled.result.populations)
    found = verify(program, x, original=original(compiled, model, x), backends=BACKENDS, timeout_s=240)
    assert_proven(found, 3)
    (spiking,) = (n.name for n in compiled.result.graph.of(IntNeuron) if n.fire == "step")
    assert 0.1 < reference.run(compiled.result.graph, x, record=[spiking])[spiking].mean() < 0.9

"""Calling conventions: time loops outside and inside forward, merged batch and time axes, readouts over time."""

from __future__ import annotations

import numpy as np
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from snncompile.capture.capture import capture
from snncompile.capture.check import check_capture
from snncompile.ir.linear_ops import Delay
from snncompile.ir.neuron import Fire, Neuron


class LoopInForward(nn.Module):
    """snnTorch's tutorial style: states made in forward, lists stacked at the end, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 12), nn.Linear(12, 4)
        self.lif1, self.lif2 = snntorch.Leaky(beta=0.9), snntorch.Leaky(beta=0.8, reset_mechanism="zero")

    def forward(self, x):
        m1, m2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, membranes = [], []
        for frame in x:
            s1, m1 = self.lif1(self.fc1(frame), m1)
            s2, m2 = self.lif2(self.fc2(s1), m2)
            spikes.append(s2)
            membranes.append(m2)
        return torch.stack(spikes), torch.stack(membranes)


class OverTime(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        y = self.layers(x.flatten(0, 1).contiguous())
        return y.view(*x.shape[:2], *y.shape[1:])


class LoopedLIF(nn.Module):
    def forward(self, x):
        v, out = 0, []
        for t in range(x.shape[1]):
            v = 0.5 * v + x[:, t]
            s = (v > 1.0).float()
            v = (1 - s) * v
            out.append(s)
        return torch.stack(out, dim=1)


class Merged(nn.Module):
    """TET's style: layers over batch and time merged, neurons that loop, [B, T, ...]."""

    def __init__(self, readout: str) -> None:
        super().__init__()
        self.conv1, self.lif = OverTime(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)), LoopedLIF()
        self.conv2 = OverTime(nn.AvgPool2d(2), nn.Conv2d(4, 6, 3))
        self.fc, self.readout = OverTime(nn.Flatten(1), nn.Linear(24, 3)), readout
        with torch.no_grad():
            self.conv1.layers[0].weight.mul_(4)
            self.conv2.layers[1].weight.mul_(4)

    def forward(self, x):
        y = self.fc(self.lif(self.conv2(self.lif(self.conv1(x)))))
        return {"none": y, "mean": y.mean(1), "sum": y.sum(dim=1)}[self.readout]


def spikingjelly_network(mode: str) -> nn.Module:
    net = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1, bias=False), layer.BatchNorm2d(4), neuron.LIFNode(tau=2.0), layer.MaxPool2d(2),
        layer.Conv2d(4, 6, 3), neuron.ParametricLIFNode(init_tau=1.7, v_reset=None), layer.Flatten(), layer.Linear(24, 3), neuron.IFNode(),
    )  # fmt: skip
    with torch.no_grad():
        net[0].weight.mul_(3)
        net[4].weight.mul_(4)
    functional.set_step_mode(net, mode)
    return net


def check(model: nn.Module, shape: tuple[int, ...], layout: str, steps: int = 5) -> None:
    captured = capture(model, input_shape=shape, steps=steps, layout=layout)
    x = np.random.default_rng(0).uniform(0, 3, (3, steps, *shape))
    record = check_capture(captured, model, x)
    assert record.differing_spikes == 0
    assert record.populations >= 2
    assert record.membrane_error < 1e-5


def test_a_loop_inside_forward_with_explicit_states():
    torch.manual_seed(0)
    check(LoopInForward(), (8,), "TB")


@pytest.mark.parametrize("readout", ["none", "mean", "sum"])
def test_layers_over_merged_time_and_batch_with_looping_neurons(readout):
    torch.manual_seed(0)
    check(Merged(readout), (2, 8, 8), "BT")


@pytest.mark.parametrize(("mode", "layout"), [("s", "step"), ("m", "TB")])
def test_spikingjelly_in_both_step_modes(mode, layout):
    torch.manual_seed(0)
    check(spikingjelly_network(mode), (2, 8, 8), layout)


def test_a_network_that_was_run_before_on_another_batch_size_is_reset():
    torch.manual_seed(0)
    net = spikingjelly_network("s").eval()
    net(torch.rand(7, 2, 8, 8))
    check(net, (2, 8, 8), "step")


class Feedback(nn.Module):
    """A convolution with bias from the last map of the step before into the first layer; skipped at the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.back, self.fc = nn.Conv2d(6, 4, 3, padding=1), nn.Linear(6 * 16, 3)
        nn.init.constant_(self.back.bias, 0.7)

    def forward(self, x, init=False):
        if init:
            self.v1 = self.v2 = 0.0
            self.last = None
        i = self.conv1(x)
        if self.last is not None:
            i = i + self.back(nn.functional.interpolate(self.last, scale_factor=2))
        self.v1 = 0.5 * self.v1 + i
        s1 = (self.v1 >= 1).float()
        self.v1 = self.v1 - s1
        self.v2 = 0.5 * self.v2 + 2 * self.conv2(s1)
        self.last = (self.v2 >= 0.5).float()
        self.v2 = self.v2 - 0.5 * self.last
        return self.fc(self.last.flatten(1))


def test_feedback_that_the_first_step_skips_is_a_delay_without_its_bias():
    torch.manual_seed(0)
    model = Feedback()
    check(model, (2, 8, 8), "step", steps=6)
    graph = capture(model, input_shape=(2, 8, 8), steps=6).graph
    assert len(graph.of(Delay)) == 1


def test_a_leaky_readout_is_a_population_that_never_fires():
    class Readout(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.out, self.v, self.acc = nn.Linear(8, 6), nn.Linear(6, 3), 0.0, 0.0

        def forward(self, x):
            m = 0.5 * self.v + self.fc(x)
            s = (m >= 0.1).float()
            self.v = m - 0.1 * s
            self.acc = 0.9 * self.acc + self.out(s)
            return self.acc

    torch.manual_seed(0)
    model = Readout()
    captured = capture(model, input_shape=(8,), steps=5)
    assert check_capture(captured, model, np.random.default_rng(0).uniform(0, 3, (3, 5, 8))).differing_spikes == 0
    fires = [n.fire for n in captured.graph.nodes if isinstance(n, Neuron)]
    assert fires == [Fire.STEP_GE, Fire.NONE]


@pytest.mark.parametrize("mean", [False, True])
def test_a_multi_step_network_that_resets_itself_in_forward(mean):
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = spikingjelly_network("m")

        def forward(self, x):
            functional.reset_net(self.net)
            y = self.net(x)
            return y.mean(0) if mean else y

    torch.manual_seed(0)
    check(Whole(), (2, 8, 8), "TB")


def test_python_may_read_numbers_from_buffers():
    class Switched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.lif1 = nn.Linear(8, 12), snntorch.Leaky(beta=0.9, init_hidden=True, reset_mechanism="none", reset_delay=False)
            self.fc2, self.lif2 = nn.Linear(12, 4), snntorch.Leaky(beta=0.5, init_hidden=True, reset_mechanism="none", reset_delay=False)

        def forward(self, x):
            return self.lif2(self.fc2(self.lif1(self.fc1(x))))

    torch.manual_seed(0)
    check(Switched(), (8,), "step")

"""Poolings as PyTorch means them: of spikes and currents, padded, with ceil_mode, adaptive to any size, and upsampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from agreement import agrees
from spikingjelly.activation_based import neuron
from torch import nn

from snncompile.capture.capture import capture
from snncompile.capture.check import check_capture
from snncompile.passes import check_population_form, run_passes

POOLINGS = {
    "max, padded": lambda: nn.MaxPool2d(3, 2, 1),
    "max, ceil_mode": lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
    "max, ceil_mode, a window too many": lambda: nn.MaxPool2d(2, 2, 1, ceil_mode=True),
    "max, dilated": lambda: nn.MaxPool2d((2, 1), 1, dilation=(2, 1)),
    "average, padding counted": lambda: nn.AvgPool2d(3, 2, 1),
    "average, padding not counted": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "adaptive, uneven": lambda: nn.AdaptiveAvgPool2d((3, 5)),
    "adaptive, to a larger map": lambda: nn.AdaptiveAvgPool2d(9),
    "adaptive, one side kept": lambda: nn.AdaptiveAvgPool2d((None, 1)),
    "nearest upsampling": lambda: nn.Upsample(scale_factor=2),
}


class Net(nn.Module):
    def __init__(self, pooling, *, of_spikes):
        super().__init__()
        self.conv, self.of_spikes = nn.Conv2d(2, 3, 3, padding=1), of_spikes
        self.first, self.second = (neuron.LIFNode(tau=2.0, v_reset=None) for _ in range(2))
        self.pooling = pooling
        self.fc = nn.LazyLinear(4)

    def forward(self, x):
        y = self.conv(2 * x)
        y = self.pooling(self.first(y) if self.of_spikes else y)
        return self.fc(self.second(y * 2).flatten(1))


@pytest.mark.parametrize("of_spikes", [True, False], ids=["spikes", "currents"])
@pytest.mark.parametrize("pooling", POOLINGS.values(), ids=POOLINGS)
def test_a_pooling_is_captured_and_reaches_population_form(pooling, of_spikes):
    torch.manual_seed(0)
    net = Net(pooling(), of_spikes=of_spikes).eval()
    net(torch.zeros(1, 2, 7, 6))
    net.first.reset()
    net.second.reset()
    captured = capture(net, input_shape=(2, 7, 6), steps=3)
    x = np.random.default_rng(0).uniform(-1, 1, (2, 3, 2, 7, 6))
    record = check_capture(captured, net, x)
    assert record.differing_spikes == 0
    assert record.output_error < 1e-5 or record.ties
    (source,) = (n for n in captured.graph.nodes if n.kind == "input")
    after, _ = run_passes(captured.graph, probe={source.name: x})
    check_population_form(after)


class Spread(nn.Module):
    """Inhibition by the mean activity a step ago, one number for all neurons of a map; or a convolution that wraps around."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular" if kind == "circular" else "zeros")
        self.kind, self.v, self.s = kind, 0.0, None

    def forward(self, x):
        axes, i = (2, 3), self.conv(x)
        inhibition = 0.0 if self.s is None or self.kind == "circular" else self.s.mean(axes, keepdim=True)
        self.v = 0.5 * self.v + 3 * i - inhibition
        self.s = (self.v >= 1).float()
        self.v = self.v * (1 - self.s)
        return self.s.flatten(1)


@pytest.mark.parametrize("kind", ["channel", "circular"])
def test_one_number_for_all_neurons_of_a_map_and_circular_padding_are_wiring(kind):
    agrees(Spread(kind), (1, 5, 4))


ALONG = {
    "average": lambda x: nn.functional.avg_pool1d(x.unsqueeze(1), 2).squeeze(1),
    "average, padded": lambda x: nn.functional.avg_pool1d(x.unsqueeze(1), 3, 2, 1).squeeze(1),
    "maximum": lambda x: nn.functional.max_pool1d(x.unsqueeze(1), 2).squeeze(1),
    "adaptive": lambda x: nn.functional.adaptive_avg_pool1d(x.unsqueeze(1), 3).squeeze(1),
    "as a map": lambda x: nn.functional.avg_pool2d(x.reshape(-1, 1, 2, 4), 2).flatten(1),
    "a mean": lambda x: x.mean(1, keepdim=True),
    "means of parts": lambda x: x.unflatten(1, (2, 4)).mean(2),
}


class Along(nn.Module):
    """A pooling over the features of a vector, behind a population."""

    def __init__(self, pooling):
        super().__init__()
        self.first, self.lif, self.pooling = nn.Linear(5, 8), neuron.LIFNode(tau=2.0, v_reset=None), pooling
        self.second, self.last = nn.LazyLinear(4), neuron.LIFNode(tau=2.0, v_reset=None)

    def forward(self, x):
        return self.last(self.second(self.pooling(self.lif(3 * self.first(x)))))


@pytest.mark.parametrize("pooling", ALONG.values(), ids=ALONG)
def test_a_pooling_over_the_features_of_a_vector_is_captured(pooling):
    torch.manual_seed(0)
    net = Along(pooling).eval()
    net(torch.zeros(1, 5))
    net.lif.reset()
    net.last.reset()
    captured = capture(net, input_shape=(5,), steps=3)
    x = np.random.default_rng(0).uniform(-1, 1, (4, 3, 5))
    assert check_capture(captured, net, x).differing_spikes == 0
    (source,) = (n for n in captured.graph.nodes if n.kind == "input")
    after, _ = run_passes(captured.graph, probe={source.name: x})
    check_population_form(after)

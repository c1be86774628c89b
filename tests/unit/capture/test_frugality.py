"""A capture runs the network no more often than it must, and holds its weights once."""

import numpy as np
import torch
from torch import nn
from written_neurons import SoftGe

import snncompile
from snncompile.capture.capture import capture
from snncompile.ir.linear_ops import Conv2d, Linear


class Counted(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.spikes, self.fc = nn.Conv2d(2, 4, 3, padding=1), SoftGe(), nn.Linear(4 * 16, 3)
        self.calls = [0]

    def __deepcopy__(self, memo):
        twin = Counted()
        twin.load_state_dict(self.state_dict())
        twin.calls = self.calls
        return twin.eval()

    def forward(self, x):
        self.calls[0] += 1
        return self.fc(self.spikes(self.conv(x)).flatten(1))


def test_a_network_is_called_a_few_times_per_step():
    net = Counted()
    capture(net, input_shape=(2, 4, 4), steps=4)
    assert net.calls[0] <= 10  # 2 to find state that outlives a run, 3 recorded, 4 on another input, 1 to see what it returns


def test_captured_weights_are_float32_as_trained_and_folded_ones_float64():
    net = Counted()
    found = snncompile.compile(net, input_shape=(2, 4, 4), steps=3, input_range=(0, 1, 1))
    captured = found.source_graph.of(Conv2d, Linear)
    assert [n.weight.dtype for n in captured] == [np.float32] * 2
    assert all(n.weight.dtype == np.float64 for n in found.float_graph.of(Conv2d, Linear))
    assert np.array_equal(captured[0].weight, net.conv.weight.detach().numpy())
    with torch.no_grad():
        net.conv.weight.zero_()
    assert captured[0].weight.any()

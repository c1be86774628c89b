"""Training memory does not grow with T, measured as the bytes autograd holds plus the state the network keeps."""

from __future__ import annotations

import pytest
import torch
from measuring import Meter, training_bytes

from snncompile.online import ottt_vgg
from snncompile.online.rule import direct_coding, step_loss, train_batch


def network():
    torch.manual_seed(0)
    net = ottt_vgg(config=[4, "A", 6], in_channels=1, input_size=(8, 8), feedback=True)
    return net, torch.randn(2, 1, 8, 8), torch.tensor([1, 4])


def online_peak(steps, online):
    net, x, labels = network()
    optimiser = torch.optim.SGD(net.parameters(), 0.01)
    return training_bytes(net, lambda: train_batch(net, direct_coding(x, steps), labels, optimiser, steps=steps, online=online))


@pytest.mark.parametrize("online", [False, True], ids=["OTTT_A", "OTTT_O"])
def test_training_memory_at_64_steps_is_that_at_4_steps(online):
    assert online_peak(64, online) / online_peak(4, online) <= 1.05


def test_the_meter_sees_a_graph_that_does_grow_with_t():
    peaks = []
    for steps in (4, 64):
        net, x, labels = network()
        with Meter() as meter:
            losses = [step_loss(net(x, init=t == 0), labels, steps) for t in range(steps)]
        peaks.append(meter.peak)
        del losses
    assert peaks[1] / peaks[0] > 10

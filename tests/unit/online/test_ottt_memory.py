"""Training memory does not grow with T, measured as the bytes autograd holds plus the state the network keeps."""

from __future__ import annotations

import pytest
import torch

from snncompile.online import OnlineLIF, ottt_vgg
from snncompile.online.rule import direct_coding, step_loss, train_batch
from snncompile.online.trace import PresynapticTrace


class Meter:
    """Live and peak bytes of tensors saved for backward."""

    live = peak = 0

    def __enter__(self):
        self.hooks = torch.autograd.graph.saved_tensors_hooks(lambda tensor: Held(self, tensor), lambda held: held.tensor)
        self.hooks.__enter__()
        return self

    def __exit__(self, *exception):
        self.hooks.__exit__(*exception)


class Held:
    def __init__(self, meter, tensor):
        self.meter, self.tensor = meter, tensor.detach()
        meter.live += tensor.nbytes
        meter.peak = max(meter.peak, meter.live)

    def __del__(self):
        self.meter.live -= self.tensor.nbytes


def network():
    torch.manual_seed(0)
    net = ottt_vgg(config=[4, "A", 6], in_channels=1, input_size=(8, 8), feedback=True)
    return net, torch.randn(2, 1, 8, 8), torch.tensor([1, 4])


def state_bytes(net):
    tensors = [m.v for m in net.modules() if isinstance(m, OnlineLIF)] + [m.a for m in net.modules() if isinstance(m, PresynapticTrace)]
    assert all(tensor is not None and tensor.grad_fn is None for tensor in [*tensors, net.last_map])
    return sum(tensor.nbytes for tensor in [*tensors, net.last_map])


def online_peak(steps, online):
    net, x, labels = network()
    optimiser = torch.optim.SGD(net.parameters(), 0.01)
    with Meter() as meter:
        train_batch(net, direct_coding(x, steps), labels, optimiser, steps=steps, online=online)
    assert meter.live == 0  # no graph outlives its step
    return meter.peak + state_bytes(net)


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

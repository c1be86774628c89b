"""What several tests measure with: gradients as they would be applied, and the bytes that training holds."""

from __future__ import annotations

import torch

from snncompile.online import memory
from snncompile.online.memory import Meter


class CollectGradients(torch.optim.Optimizer):
    """Changes no weight; keeps what each step would have applied."""

    def __init__(self, net):
        super().__init__(net.parameters(), {})
        self.names = {p: name for name, p in net.named_parameters()}
        self.steps = []

    def step(self, closure=None):
        self.steps.append({self.names[p]: p.grad.numpy().copy() for g in self.param_groups for p in g["params"] if p.grad is not None})


def carried(net):
    """The network's carried state; there is some, and none may hold a graph."""
    found = memory.carried(net)
    assert found
    assert all(tensor.grad_fn is None for tensor in found)
    return found


def training_bytes(net, train):
    """As ``memory.training_bytes``; besides, no graph may outlive the training."""
    with Meter() as meter:
        train()
    assert meter.live == 0
    return meter.peak + sum(tensor.nbytes for tensor in carried(net))


def parameters(build):
    with torch.device("meta"):
        return sum(p.numel() for p in build().parameters())

"""What several tests measure with: gradients as they would be applied, and the bytes that training holds."""

from __future__ import annotations

import torch

from snncompile.online.state import Stateful


class CollectGradients(torch.optim.Optimizer):
    """Changes no weight; keeps what each step would have applied."""

    def __init__(self, net):
        super().__init__(net.parameters(), {})
        self.names = {p: name for name, p in net.named_parameters()}
        self.steps = []

    def step(self, closure=None):
        self.steps.append({self.names[p]: p.grad.numpy().copy() for g in self.param_groups for p in g["params"] if p.grad is not None})


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


def carried(net):
    """Every tensor that the network keeps from one step to the next; none may hold a graph."""
    owners = [net, *(module for module in net.modules() if isinstance(module, Stateful))]
    found = {id(value): value for owner in owners for value in vars(owner).values() if isinstance(value, torch.Tensor)}
    assert found
    assert all(tensor.grad_fn is None for tensor in found.values())
    return list(found.values())


def training_bytes(net, train):
    """Peak bytes of saved tensors plus carried state over ``train()``; no graph may outlive it."""
    with Meter() as meter:
        train()
    assert meter.live == 0
    return meter.peak + sum(tensor.nbytes for tensor in carried(net))


def parameters(build):
    with torch.device("meta"):
        return sum(p.numel() for p in build().parameters())

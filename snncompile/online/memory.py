"""How much memory training holds: the tensors that autograd saves for the backward pass, and the state carried between steps."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import cast

import torch
from torch import Tensor, nn

from snncompile.online.state import Stateful


class Meter:
    """Inside ``with Meter() as meter``: live and peak bytes of tensors saved for backward; what is saved twice is counted twice."""

    def __init__(self) -> None:
        self.live = self.peak = 0
        self._hooks = torch.autograd.graph.saved_tensors_hooks(lambda tensor: _Held(self, tensor), lambda held: cast("_Held", held).tensor)

    def __enter__(self) -> Meter:
        self._hooks.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._hooks.__exit__()


class _Held:
    """A saved tensor; counted until autograd lets go of it."""

    def __init__(self, meter: Meter, tensor: Tensor) -> None:
        self.meter, self.tensor = meter, tensor.detach()
        meter.live += tensor.nbytes
        meter.peak = max(meter.peak, meter.live)

    def __del__(self) -> None:
        self.meter.live -= self.tensor.nbytes


def carried(net: nn.Module) -> list[Tensor]:
    """Every tensor that a network keeps from one step to the next: plain attributes of the network and of its stateful modules."""
    owners = [net, *(module for module in net.modules() if isinstance(module, Stateful))]
    found = {id(value): value for owner in owners for value in vars(owner).values() if isinstance(value, Tensor)}
    return list(found.values())


def training_bytes(net: nn.Module, train: Callable[[], object]) -> int:
    """Peak bytes of saved tensors over ``train()``, plus the carried state that it leaves; weights and optimiser do not count."""
    with Meter() as meter:
        train()
    return meter.peak + sum(tensor.nbytes for tensor in carried(net))

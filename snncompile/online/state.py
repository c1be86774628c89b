"""State between time steps: plain attributes, forgotten before a new sample."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from snncompile.errors import fail


class Stateful(nn.Module, ABC):
    """A module that carries something from one time step to the next, in plain attributes that no state dict holds."""

    @abstractmethod
    def forget(self) -> None:
        """Return to the state before the first step of a sample."""


def forget_all(net: nn.Module) -> None:
    """Return every stateful module of a network to the state before the first step."""
    for module in net.modules():
        if isinstance(module, Stateful):
            module.forget()


class ResettableNetwork(nn.Module):
    """A network advanced by ``net(x)`` once per time step, without a keyword for the first one.

    Calling  ``net.reset()`` before every sample or batch, then ``net(x[t])`` for each t; a network fresh from its factory needs no
             reset, nor does a copy of one. SLTT's and EM-PF's own code works like this (``functional.reset_net``, ``utils.reset_model``)
    """

    def reset(self) -> None:
        """Forget the sample before."""
        forget_all(self)


def initial_state(like: Tensor, state: Tensor | None, init: bool = False) -> Tensor:
    """The state to start this step from: zeros for a new sample, otherwise what the last step left (SNN704 if it has another shape)."""
    if init or state is None:
        return torch.zeros_like(like)
    if state.shape != like.shape:
        raise fail(
            "SNN704",
            f"the state left by the last step has shape {list(state.shape)}, this step needs {list(like.shape)}",
            help="call the network with init=True on the first step of every sample or batch, or its reset() before it",
        )
    return state

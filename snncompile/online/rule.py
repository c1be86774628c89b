"""The online learning rule over one batch: backward at every time step, memory independent of T."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat

import torch
from torch import Tensor, nn
from torch.nn import functional

from snncompile.errors import CompileError, fail

METHODS = ("OTTT_A", "OTTT_O")
"""OTTT_A sums the gradient over the steps of a batch, OTTT_O applies it at each step."""


def step_loss(logits: Tensor, labels: Tensor, steps: int, mse: float = 0.05) -> Tensor:
    """The loss of one time step:  L[t] = ((1 - a) * CE(y[t], label) + a * MSE(y[t], onehot)) / T,  a = ``mse``.

    Source   OTTT (Xiao et al., NeurIPS 2022); a = 0.05 for CIFAR
    Shapes   logits [B,classes], labels [B] int64; a scalar
    """
    loss = (1 - mse) * functional.cross_entropy(logits, labels)
    if mse > 0:
        onehot = functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
        loss = loss + mse * functional.mse_loss(logits, onehot)
    return loss / steps


def train_batch(
    net: nn.Module,
    frames: Iterable[Tensor],
    labels: Tensor,
    optimiser: torch.optim.Optimizer,
    *,
    steps: int,
    online: bool = False,
    mse: float = 0.05,
) -> tuple[Tensor, float]:
    """Train on one batch and return the summed logits, [B,classes], and the loss.

        at each t:   dL[t]/dW_ij = M_i[t] psi_i[t] a_j[t],   M = error of L[t] propagated through space only
        OTTT_A  (online=False)   W <- optimiser(W, sum_t dL[t]/dW)      once per batch
        OTTT_O  (online=True)    W <- optimiser(W, dL[t]/dW)            at every t

    The trace a and psi are the layers' own (``TracedConv2d``, ``OnlineLIF``); here is only the loop. The graph of a step is freed before
    the next step begins, so memory does not grow with T. Logits are those of the weights in force at each step.
    Source   OTTT (Xiao et al., NeurIPS 2022), algorithm 1 and 2
    Shapes   frames: T tensors [B,C,H,W] (``direct_coding`` repeats one image); labels [B] int64
    Errors   SNN731 no frame at all
    """
    total: Tensor | None = None
    loss_sum = 0.0
    optimiser.zero_grad(set_to_none=True)
    for t, frame in enumerate(frames):
        logits = net(frame, init=t == 0)
        loss = step_loss(logits, labels, steps, mse)
        loss.backward()  # type: ignore[no-untyped-call]
        if online:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        total = logits.detach() if total is None else total + logits.detach()
        loss_sum += float(loss.detach())
    if not online:
        optimiser.step()
    if total is None:
        raise no_steps()
    return total, loss_sum


def direct_coding(images: Tensor, steps: int) -> Iterable[Tensor]:
    """The same image at every one of ``steps`` time steps."""
    return repeat(images, steps)


@torch.no_grad()
def summed_logits(net: nn.Module, frames: Iterable[Tensor]) -> Tensor:
    """The readout: the sum over t of the step's logits, [B,classes] (SNN731 no frame at all)."""
    total: Tensor | None = None
    for t, frame in enumerate(frames):
        logits: Tensor = net(frame, init=t == 0)
        total = logits if total is None else total + logits
    if total is None:
        raise no_steps()
    return total


def no_steps() -> CompileError:
    """The error of a sample without time steps (SNN731)."""
    return fail("SNN731", "a sample without time steps has no decision", help="give at least one frame")

"""The online learning rule over one batch: backward at every time step, memory independent of T."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Tensor, nn
from torch.nn import functional

from snncompile.errors import CompileError, fail
from snncompile.online.multistep import SequenceNetwork
from snncompile.online.state import ResettableNetwork


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens at the time steps of a batch.

    kind        "online": backward at every step that learns; "through_time": one backward through all steps (``multistep``), for
                comparison; "tandem": every layer follows its teacher's (``ltl``)
    each_step   online: the optimiser runs at every step that learns, instead of once per batch; through time: a loss at every step
    sampled     only K randomly drawn steps learn, the others only run:  dL/dW = sum over t in S of dL[t]/dW, S drawn from T uniformly,
                without repetition, anew for each batch
    stop        the batch ends at its last learning step

    Source      SLTT-K (Meng et al., ICCV 2023) draws K steps; random back-propagation of EM-PF (arXiv 2410.07547) draws 1 and stops there
    Ranges      1 <= K <= T
    """

    kind: str = "online"
    each_step: bool = False
    sampled: bool = False
    stop: bool = False

    def draw(self, steps: int, k: int, generator: torch.Generator | None = None) -> frozenset[int]:
        """The steps of one batch that learn: all of them, or K of T without repetition."""
        if not self.sampled:
            return frozenset(range(steps))
        return frozenset(torch.randperm(steps, generator=generator)[:k].tolist())


RULES: dict[str, Rule] = {
    "OTTT_A": Rule(),
    "OTTT_O": Rule(each_step=True),
    "NDOT_A": Rule(),
    "NDOT_O": Rule(each_step=True),
    "SLTT": Rule(),
    "SLTT_K": Rule(sampled=True),
    "OSR_A": Rule(),
    "OSR_O": Rule(each_step=True),
    "EMPF": Rule(each_step=True),
    "EMPF_R": Rule(sampled=True, stop=True),
    "LTL": Rule("tandem"),
    "TET": Rule("through_time", each_step=True),
    "STBP": Rule("through_time"),
}
"""The ending _A sums the gradient over the steps of a batch, _O applies it at each step, _K learns at K random steps, _R (random
back-propagation over one step) at K = 1 random step, with nothing run after it."""

METHODS = tuple(RULES)


def step_loss(logits: Tensor, labels: Tensor, steps: int, mse: float = 0.05) -> Tensor:
    """The loss of one time step:  L[t] = ((1 - a) * CE(y[t], label) + a * MSE(y[t], onehot)) / T,  a = ``mse``.

    Source   OTTT (Xiao et al., NeurIPS 2022): a = 0.05 for CIFAR, 0.001 for DVS, 0 for ImageNet; OSR alike. SLTT's code takes the
             constant 1 for onehot unless it is told otherwise (-mse_n_reg); here it is onehot for all rules
    Shapes   logits [B,classes], labels [B] int64; a scalar
    Ranges   0 <= a <= 1; steps = T >= 1
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
    learning: Collection[int] | None = None,
    stop: bool = False,
) -> tuple[Tensor, float]:
    """Train on one batch and return the summed logits, [B,classes], and the loss.

        at each t:   dL[t]/dW_ij = M_i[t] psi_i[t] a_j[t],   M = error of L[t] propagated through space only
        OTTT_A  (online=False)   W <- optimiser(W, sum_t dL[t]/dW)      once per batch
        OTTT_O  (online=True)    W <- optimiser(W, dL[t]/dW)            at every t
        NDOT    a_j[t] is the trace that the presynaptic neuron keeps
        SLTT    a_j[t] is the spike s_j[t] itself;   SLTT-K: only the steps in ``learning``, the others run without a graph
        OSR     as SLTT;  M passes the normalisation as ``Renormalise`` says
        EM-PF   as SLTT, psi = 1[m > theta];  one random step; ``stop``: nothing is run after it

    The trace a and psi are the layers' own (``TracedConv2d``, ``OnlineLIF``); here is only the loop. The graph of a step is freed before
    the next step begins, so memory does not grow with T. Logits are those of the weights in force at each step.
    Source   OTTT (Xiao et al., NeurIPS 2022); SLTT (Meng et al., ICCV 2023); NDOT, OSR as their classes; EM-PF (arXiv 2410.07547)
    Shapes   frames: T tensors [B,C,H,W] (``direct_coding`` repeats one image); labels [B] int64
    Errors   SNN731 no frame at all
    """
    total: Tensor | None = None
    loss_sum = 0.0
    optimiser.zero_grad(set_to_none=True)
    last = max(learning, default=-1) if learning is not None and stop else None
    for t, frame in enumerate(frames):
        learns = learning is None or t in learning
        with torch.set_grad_enabled(learns):
            logits = advance(net, frame, t == 0)
            loss = step_loss(logits, labels, steps, mse)
        if learns:
            loss.backward()  # type: ignore[no-untyped-call]
        if learns and online:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        total = logits.detach() if total is None else total + logits.detach()
        loss_sum += float(loss.detach())
        if t == last:
            break
    if not online:
        optimiser.step()
    if total is None:
        raise no_steps()
    return total, loss_sum


def advance(net: nn.Module, frame: Tensor, first: bool) -> Tensor:
    """One step of the network in its own calling convention: ``net(x, init=True)`` first, or ``net.reset()`` before ``net(x)``."""
    if isinstance(net, ResettableNetwork):
        if first:
            net.reset()
        logits: Tensor = net(frame)
    else:
        logits = net(frame, init=first)
    return logits


def direct_coding(images: Tensor, steps: int) -> Iterable[Tensor]:
    """The same image at every one of ``steps`` time steps."""
    return repeat(images, steps)


def time_steps(samples: Tensor, steps: int) -> Iterable[Tensor]:
    """The inputs of T time steps, [B,C,H,W] each: an image [B,C,H,W] is shown at every one, a sequence [B,T,C,H,W] in its order."""
    return direct_coding(samples, steps) if samples.dim() == 4 else samples.unbind(1)


@torch.no_grad()
def summed_logits(net: nn.Module, frames: Iterable[Tensor]) -> Tensor:
    """The readout: the sum over t of the step's logits, [B,classes] (SNN731 no frame at all)."""
    if isinstance(net, SequenceNetwork):
        sequence = list(frames)
        if not sequence:
            raise no_steps()
        logits: Tensor = net(torch.stack(sequence))
        return logits.sum(0)
    total: Tensor | None = None
    for t, frame in enumerate(frames):
        logits = advance(net, frame, t == 0)
        total = logits if total is None else total + logits
    if total is None:
        raise no_steps()
    return total


def no_steps() -> CompileError:
    """The error of a sample without time steps (SNN731)."""
    return fail("SNN731", "a sample without time steps has no decision", help="give at least one frame")

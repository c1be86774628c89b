"""Networks that take a whole sequence at once and train through time: the loop over T, and layers that see time as batch."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from snncompile.errors import fail


class SequenceNetwork(nn.Module):
    """A network that takes all steps of a sample in one call and returns the logits of all steps.

    Calling  ``net(x)``, x [T,B,C,H,W]; y [T,B,num_classes]; the decision is the argmax of the mean over t; nothing is kept between calls
    """


class LoopedNeuron(nn.Module):
    """A neuron whose forward runs over the time axis; its states live in that call alone, and stay in the graph.

    Shapes   I, s [T,B,C,H,W]
    """

    def forward(self, currents: Tensor) -> Tensor:
        """Return the spikes of all steps."""
        state: tuple[Tensor, ...] = ()
        spikes = []
        for t, current in enumerate(currents.unbind(0)):
            s, state = self.step(current, state, t)
            spikes.append(s)
        return torch.stack(spikes)

    @abstractmethod
    def step(self, current: Tensor, state: tuple[Tensor, ...], t: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One step from ``state``, which is empty at t = 0: the spikes and the next state."""


class OverTime(nn.Module):
    """Apply a layer to all steps at once: the time axis joins the batch axis, so a batch norm's statistics run over time too.

    Shapes   x [T,B,...] to [T,B,...]
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers[0] if len(layers) == 1 else nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output for all steps."""
        y = self.layers(x.flatten(0, 1))
        result: Tensor = y.unflatten(0, x.shape[:2])
        return result


def tet_loss(logits: Tensor, labels: Tensor, *, lamb: float = 0.05, target: float = 1.0) -> Tensor:
    """L = (1 - lamb) mean_t CE(y[t], label) + lamb mean_t MSE(y[t], target): every step must be right, not only their mean.

    The target of the squared error is the same constant for every class: it regularises, it does not teach.
    Source   TET: Deng et al., "Temporal Efficient Training of Spiking Neural Network via Gradient Re-weighting" (ICLR 2022)
    Shapes   logits [T,B,classes], labels [B]; a scalar
    Ranges   0 <= lamb <= 1
    """
    steps = len(logits)
    entropy = functional.cross_entropy(logits.flatten(0, 1), labels.repeat(steps))
    return (1 - lamb) * entropy + lamb * functional.mse_loss(logits, torch.full_like(logits, target))


def through_time(
    net: nn.Module,
    frames: Tensor,
    labels: Tensor,
    optimiser: torch.optim.Optimizer,
    *,
    lamb: float = 0.05,
    shortcut: float = 1.0,
    each_step: bool = True,
) -> tuple[Tensor, float]:
    """One batch of back-propagation through time: mean logits [B,classes] and the loss; memory grows with T.

        loss = L(y) + shortcut * sum over the auxiliary heads k of L(y_k)

    ``each_step`` L is TET's loss of every step (``tet_loss``); else STBP's CE(mean_t y[t], label), ``lamb`` unused
    ``shortcut``  Shortcut's balance coefficient, if the network has such heads; it is to fall over the epochs

    Source   STBP: Wu et al. (Frontiers in Neuroscience 2018); TET as ``tet_loss``; Shortcut: Guo et al., "Take A Shortcut Back: Mitigating
             the Gradient Vanishing for Training Spiking Neural Networks" (NeurIPS 2024, arXiv 2401.04486)
    Shapes   frames [T,B,C,H,W]; net(frames) is [T,B,classes]
    Ranges   0 <= lamb <= 1; shortcut >= 0
    Errors   SNN731 no frame at all
    """
    if len(frames) == 0:
        raise fail("SNN731", "a sample without time steps has no decision", help="give at least one frame")
    optimiser.zero_grad(set_to_none=True)
    logits = net(frames)
    loss = torch.zeros((), device=logits.device)
    for weight, y in [(1.0, logits), *((shortcut, auxiliary) for auxiliary in getattr(net, "auxiliary", []))]:
        loss = loss + weight * (tet_loss(y, labels, lamb=lamb) if each_step else functional.cross_entropy(y.mean(0), labels))
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return logits.detach().mean(0), float(loss.detach())

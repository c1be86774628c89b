"""LTL's teacher: an ordinary network of the student's layers, trained by back-propagation before the student looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional

from snncompile.errors import fail
from snncompile.online.ltl import LTLStudent, LTLTeacher

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""One epoch: images [B,C,H,W] and labels [B]."""


def train_teacher(student: torch.nn.Module, epoch: Batches, epochs: int, lr: float) -> tuple[LTLTeacher, float]:
    """A trained teacher of ``student``, in eval mode, and its accuracy on the batches of its last epoch, while it learned.

    Source   Yang et al., "Training Spiking Neural Networks with Local Tandem Learning" (NeurIPS 2022)
    Errors   SNN730 the student is no network for LTL
    """
    if not isinstance(student, LTLStudent):
        raise fail(
            "SNN730", f"LTL trains the layers of an LTLStudent, not of a {type(student).__name__}", help="choose the network ltl_vgg"
        )
    teacher = LTLTeacher(student).to(student.classifier.weight.device)
    optimiser = torch.optim.Adam(teacher.parameters(), lr=lr)
    right = count = 0
    for _ in range(epochs):
        right = count = 0
        teacher.train()
        for x, y in epoch():
            optimiser.zero_grad(set_to_none=True)
            logits = teacher(x)[1]
            functional.cross_entropy(logits, y).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            right, count = right + int((logits.argmax(1) == y).sum()), count + len(y)
    return teacher.eval(), right / max(count, 1)

"""Training memory of a checkpoint's method and network at several T, and of back-propagation through time on the same network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from snncompile.online import Checkpoint, build_network
from snncompile.online.memory import training_bytes
from snncompile.online.multistep import SequenceNetwork
from snncompile.online.rule import RULES, advance, step_loss
from snncompile.online.teacher import train_teacher
from snncompile.online.trainer import TrainConfig, Trainer, make_optimiser

BATCH = 4
SHORT, LONG = 4, 64


def training_memory(checkpoint: Checkpoint) -> dict[str, Any]:
    """Bytes at T = 4 and T = 64, for a batch of 4 random images: tensors saved by autograd at their peak, and carried state."""
    found: dict[str, Any] = {"batch": BATCH}
    for steps in (SHORT, LONG):
        found[f"T{steps}"] = by_method(checkpoint, steps)
        found[f"through_time_T{steps}"] = through_time(checkpoint, steps)
    found["ratio"] = found[f"T{LONG}"] / found[f"T{SHORT}"]
    return found


def fresh(checkpoint: Checkpoint, steps: int) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    arguments = checkpoint.arch_args | ({"steps": steps} if "steps" in checkpoint.arch_args else {})
    net = build_network(checkpoint.arch, **arguments).train()
    x = torch.randint(0, checkpoint.input["high"] + 1, (BATCH, *checkpoint.input["shape"])).float()
    return net, x, torch.arange(BATCH) % checkpoint.classes


def by_method(checkpoint: Checkpoint, steps: int) -> int:
    net, x, y = fresh(checkpoint, steps)
    config = TrainConfig(method=checkpoint.method, steps=steps, batch_size=BATCH)
    trainer = Trainer(arch=checkpoint.arch, arch_args=checkpoint.arch_args, config=config, out=Path("unused"))
    if RULES[checkpoint.method].kind == "tandem":
        trainer.teacher, _ = train_teacher(net, lambda: [(x, y)], 1, 1e-3)
    optimiser, order = make_optimiser(net, config), torch.Generator().manual_seed(0)
    return training_bytes(net, lambda: trainer.learn(net, x, y, optimiser, order))


def through_time(checkpoint: Checkpoint, steps: int) -> int:
    """The graphs of all steps are kept until one backward pass.

    Online networks cut their states from the graph, which real back-propagation through time would not: a lower bound for them.
    """
    net, x, y = fresh(checkpoint, steps)

    def train() -> None:
        if isinstance(net, SequenceNetwork):
            losses = [step_loss(logits, y, steps) for logits in net(x.expand(steps, *x.shape))]
        else:
            losses = [step_loss(advance(net, x, t == 0), y, steps) for t in range(steps)]
        torch.stack(losses).sum().backward()

    return training_bytes(net, train)

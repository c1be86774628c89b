"""Train the network before it goes to the chip:  python train.py --data FOLDER --task digits -o digits.pt.

FOLDER holds mnist/, fashion-mnist/ and fsdd/. OTTT_A, Adam, cross-entropy over all ten outputs; the result is a state dict.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from net import make
from tasks import SPEAKERS, TASKS, find_task

from snncompile.online.data import random_shift
from snncompile.online.rule import direct_coding, summed_logits, train_batch


def frames(x: np.ndarray, steps: int, shift: int) -> Iterable[torch.Tensor]:
    """T tensors [B,C,H,W]: an image again and again, or a sequence."""
    values = torch.from_numpy(x)
    if values.dim() == 5:
        return values.float().unbind(1)
    return direct_coding(random_shift(values, shift).float(), steps)


def accuracy(net: torch.nn.Module, x: np.ndarray, y: np.ndarray, steps: int) -> float:
    net.eval()
    cuts = range(0, len(x), 500)
    right = sum(int((summed_logits(net, frames(x[k : k + 500], steps, 0)).argmax(1).numpy() == y[k : k + 500]).sum()) for k in cuts)
    return right / len(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--task", choices=TASKS, default="digits", help="rotated, noisy and fashion start from the same network")
    parser.add_argument("--speaker", type=int, choices=range(SPEAKERS), default=SPEAKERS - 1, help="speaker: who is left out")
    parser.add_argument("--samples", type=int, help="train on the first so many only")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lr", type=float, default=0.002)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    task = find_task(args.task, args.data, speaker=args.speaker)
    x, y = (a[: args.samples] for a in task.before)
    name, (test_x, test_y) = list(task.tests.items())[-1]
    net = make(**task.shape)
    optimiser = torch.optim.Adam(net.parameters(), lr=args.lr)
    started = time.monotonic()
    for epoch in range(args.epochs):
        net.train()
        order = torch.randperm(len(x)).numpy()
        for k in range(0, len(order), 64):
            batch = order[k : k + 64]
            labels = torch.from_numpy(y[batch]).long()
            train_batch(net, frames(x[batch], task.steps, 1), labels, optimiser, steps=task.steps, mse=0.0)
        share = accuracy(net, test_x, test_y, task.steps)
        print(f"epoch {epoch + 1}: {name} {100 * share:.2f} % of {len(test_y)}, {time.monotonic() - started:.0f} s", flush=True)
    torch.save(net.state_dict(), args.output)


if __name__ == "__main__":
    main()

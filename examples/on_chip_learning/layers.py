"""Prepare the digits for a network whose dense layer learns as well as its readout.

    python layers.py --data FOLDER --model digits.pt --limit 0.1 --samples 500 --out layers

writes stream.npz (digits 5 to 9 of the training images, others among them if asked for), test.npz and old.npz (all test images of 5 to 9,
and of 0 to 4) and
model.pt: the network with the weights of its dense layer limited to +-0.1, so that one LSB of the chip's weights is small enough for a
hidden layer's updates. README.md has the commands that follow.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from net import make
from tasks import find_task
from train import accuracy


def main() -> None:
    """Write the four files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--limit", type=float, default=0.1)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--old-share", type=float, default=0.0, help="samples of the classes 0 to 4 in the stream, per new one")
    parser.add_argument("--seed", type=int, default=0, help="of the stream's order")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    task = find_task("digits", args.data, old_share=args.old_share)
    args.out.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(args.seed).permutation(len(task.stream[0]))[: args.samples]
    np.savez(args.out / "stream.npz", x=task.stream[0][order], y=task.stream[1][order])
    for file, digits in (("test.npz", "digits 5 to 9"), ("old.npz", "digits 0 to 4")):
        x, y = task.tests[digits]
        np.savez(args.out / file, x=x, y=y)
    state = torch.load(args.model, weights_only=True)
    net = make()
    for limit in (float("inf"), args.limit):
        net.load_state_dict({**state, "dense.weight": state["dense.weight"].clamp(-limit, limit)})
        share = accuracy(net, *task.tests["digits 0 to 4"], task.steps)
        print(f"dense weights within +-{limit:g}: {100 * share:.2f} % of the old classes")
    torch.save(net.state_dict(), args.out / "model.pt")


if __name__ == "__main__":
    main()

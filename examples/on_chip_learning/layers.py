"""Prepare the digits for a network whose dense layer learns as well as its readout.

    python layers.py --data FOLDER --samples 500 --out layers

writes stream.npz (digits 5 to 9 of the training images, others among them if asked for), test.npz and old.npz (all test images of 5 to 9,
and of 0 to 4). README.md has the commands that follow.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from tasks import find_task


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--old-share", type=float, default=0.0, help="samples of the classes 0 to 4 in the stream, per new one")
    parser.add_argument("--seed", type=int, default=0, help="of the stream's order")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    task = find_task("digits", args.data, old_share=args.old_share)
    args.out.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(args.seed).permutation(len(task.stream[0]))[: args.samples]
    np.savez(args.out / "stream.npz", x=task.stream[0][order], y=task.stream[1][order])
    for file, digits in (("test.npz", "digits 5 to 9"), ("old.npz", "digits 0 to 4")):
        x, y = task.tests[digits]
        np.savez(args.out / file, x=x, y=y)


if __name__ == "__main__":
    main()

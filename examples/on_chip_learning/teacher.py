"""Train a teacher on all ten digits and write down, for every sample of a stream, how active its dense layer is.

    python layers.py --data FOLDER --samples 2000 --out layers
    python teacher.py --data FOLDER --out layers

adds ``teacher.dense`` to layers/stream.npz: what the dense layer on the chip is to imitate by LTL's local errors. The teacher is an
ordinary network of the same layers, with batch normalisation and activations clipped to 0..2, trained by back-propagation. README.md has
the commands that follow.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from tasks import images

from snncompile.online.ltl import ltl_vgg, normalised
from snncompile.online.teacher import train_teacher

BATCH, LR = 64, 2e-3


def main() -> None:
    """Train, test, and add the activities to the stream."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of stream.npz")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    x, y = (torch.from_numpy(a) for a in images(args.data / "mnist", "train"))

    def epoch() -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
        return ((x[k].float(), y[k].long()) for k in torch.randperm(len(x)).split(BATCH))

    like_net = ltl_vgg(config=[[8, 2], [16, 2]], hidden=[128], in_channels=1, input_size=[28, 28], mean=[0.1307], std=[0.3081])
    teacher, _ = train_teacher(like_net, epoch, args.epochs, LR)
    test_x, test_y = images(args.data / "mnist", "test")
    with np.load(args.out / "stream.npz") as stream:
        arrays = dict(stream)
    with torch.no_grad():
        found = torch.cat([teacher(part.float())[1].argmax(1) for part in torch.from_numpy(test_x).split(500)]).numpy()
        activity = torch.cat([teacher(part.float())[0][-1] for part in torch.from_numpy(arrays["x"]).split(500)])
    target = normalised(activity).numpy()
    np.savez(args.out / "stream.npz", **{**arrays, "teacher.dense": target})
    print(f"the teacher knows {100 * np.mean(found == test_y):.2f} % of {len(test_y)} test images; mean activity {target.mean():.3f}")


if __name__ == "__main__":
    main()

"""Train a small residual network of gated neurons (GLIF) on MNIST:  python train.py --data FOLDER [--epochs N] [--device cuda].

Trained through time; leak, input and reset of every channel are learned mixtures.
"""

from __future__ import annotations

from pathlib import Path

from snncompile.online.recipe import Recipe

ARCH_ARGS = {
    "widths": [8, 16, 32],
    "depths": [1, 1, 1],
    "hidden": 0,
    "in_channels": 1,
    "num_classes": 10,
    "steps": 4,
    "mean": [0.1307],
    "std": [0.3081],
}

main = Recipe(
    dataset="MNIST", arch="glif_resnet", arch_args=ARCH_ARGS, methods=("STBP", "TET"), epochs=1, lr=0.01, mse=0.0
).command(Path(__file__).parent)  # fmt: skip

if __name__ == "__main__":
    main()

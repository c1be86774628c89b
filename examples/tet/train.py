"""Train a small spiking network on MNIST with TET:  python train.py --data FOLDER [--epochs N] [--device cuda].

The baseline trained through time: hard resets, and a loss at every time step.
"""

from __future__ import annotations

from pathlib import Path

from snncompile.online.recipe import Recipe

ARCH_ARGS = {
    "config": [16, "A", 32, "A", 32],
    "in_channels": 1,
    "num_classes": 10,
    "input_size": [28, 28],
    "classifier": "flatten",
    "mean": [0.1307],
    "std": [0.3081],
}

main = Recipe(
    dataset="MNIST", arch="tet_vgg", arch_args=ARCH_ARGS, methods=("TET", "STBP"), epochs=1
).command(Path(__file__).parent)  # fmt: skip

if __name__ == "__main__":
    main()

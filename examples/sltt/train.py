"""Train a small convolutional spiking network on MNIST with SLTT:  python train.py --data FOLDER [--epochs N] [--device cuda].

With ``--method SLTT_K`` one random time step of each batch learns and the others only run.
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

main = Recipe(dataset="MNIST", arch="sltt_vgg", arch_args=ARCH_ARGS, methods=("SLTT", "SLTT_K")).command(Path(__file__).parent)

if __name__ == "__main__":
    main()

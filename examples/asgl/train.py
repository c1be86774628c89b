"""Train a small spiking network on MNIST with ASGL:  python train.py --data FOLDER [--epochs N] [--device cuda].

Trained through time; in training some spikes are smooth, by a width that is learned. Nothing of that is left in eval mode.
"""

from __future__ import annotations

from pathlib import Path

from snncompile.online.recipe import Recipe

ARCH_ARGS = {
    "config": [8, "A", 16, "A", 32],
    "in_channels": 1,
    "num_classes": 10,
    "input_size": [28, 28],
    "classifier": "flatten",
    "neuron": "asgl",
    "mean": [0.1307],
    "std": [0.3081],
}

main = Recipe(
    dataset="MNIST", arch="tet_vgg", arch_args=ARCH_ARGS, methods=("STBP", "TET"), epochs=1
).command(Path(__file__).parent)  # fmt: skip

if __name__ == "__main__":
    main()

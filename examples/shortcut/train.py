"""Train a small network on MNIST with Dspike and Shortcut:  python train.py --data FOLDER [--device cuda].

Trained through time, with Dspike's surrogate and auxiliary heads; in eval mode the heads do not run, and the surrogate leaves no mark.
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
    "neuron": "dspike",
    "shortcuts": [1, 3],
    "mean": [0.1307],
    "std": [0.3081],
}

main = Recipe(
    dataset="MNIST", arch="tet_vgg", arch_args=ARCH_ARGS, methods=("TET", "STBP"), epochs=1
).command(Path(__file__).parent)  # fmt: skip

if __name__ == "__main__":
    main()

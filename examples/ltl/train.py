"""Train a small spiking network on MNIST with local tandem learning (LTL):  python train.py --data FOLDER [--epochs N] [--device cuda].

A teacher of the same layers learns first, by back-propagation; then every layer of the student learns its rates, by itself.
"""

from __future__ import annotations

from pathlib import Path

from snncompile.online.recipe import Recipe

ARCH_ARGS = {
    "config": [[16, 2], [32, 2], [32, 2]],
    "hidden": [64],
    "in_channels": 1,
    "num_classes": 10,
    "input_size": [28, 28],
    "mean": [0.1307],
    "std": [0.3081],
}

main = Recipe(
    dataset="MNIST", arch="ltl_vgg", arch_args=ARCH_ARGS, methods=("LTL",), epochs=1, steps=16, lr=2e-3
).command(Path(__file__).parent)  # fmt: skip

if __name__ == "__main__":
    main()

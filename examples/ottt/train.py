"""Train a small convolutional spiking network on Fashion-MNIST with OTTT:  python train.py --data FOLDER [--epochs N] [--device cuda].

The network of ``../mnist_ottt`` with wider last maps; FOLDER holds the four gzipped idx files of Fashion-MNIST.
"""

from __future__ import annotations

from pathlib import Path

from snncompile.online.recipe import Recipe

ARCH_ARGS = {
    "config": [16, "A", 32, "A", 64],
    "in_channels": 1,
    "num_classes": 10,
    "input_size": [28, 28],
    "classifier": "flatten",
    "mean": [0.2860],
    "std": [0.3530],
}

main = Recipe(
    dataset="Fashion-MNIST", arch="ottt_vgg", arch_args=ARCH_ARGS, methods=("OTTT_A", "OTTT_O"), epochs=4, shift=0
).command(Path(__file__).parent)  # fmt: skip

if __name__ == "__main__":
    main()

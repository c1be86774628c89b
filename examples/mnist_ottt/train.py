"""Train a small convolutional spiking network on MNIST with OTTT:  python train.py --data FOLDER [--epochs N] [--device cuda].

FOLDER holds the four gzipped idx files of MNIST. The result is a checkpoint that ``snncompile`` reads as it is.
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

main = Recipe(dataset="MNIST", arch="ottt_vgg", arch_args=ARCH_ARGS, methods=("OTTT_A", "OTTT_O"), steps=6).command(Path(__file__).parent)

if __name__ == "__main__":
    main()

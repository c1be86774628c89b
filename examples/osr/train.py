"""Train a small convolutional spiking network on MNIST with OSR and OTS:  python train.py --data FOLDER [--epochs N] [--device cuda].

Before each test, the thresholds that follow the batch in training are fixed per layer and time step, from training images.
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
    "steps": 4,
    "mean": [0.1307],
    "std": [0.3081],
}

main = Recipe(dataset="MNIST", arch="osr_vgg", arch_args=ARCH_ARGS, methods=("OSR_A", "OSR_O")).command(Path(__file__).parent)

if __name__ == "__main__":
    main()

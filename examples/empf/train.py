"""Train a small network of binary weights and 4-bit spikes on Fashion-MNIST with EM-PF:  python train.py --data FOLDER [--device cuda].

The method is random back-propagation: one random time step of each batch learns, and nothing runs after it.
"""

from __future__ import annotations

from pathlib import Path

from snncompile.online.recipe import Recipe

ARCH_ARGS = {
    "config": [32, "A", 32, "A", 64],
    "in_channels": 1,
    "num_classes": 10,
    "input_size": [28, 28],
    "classifier": "flatten",
    "float_first": True,
    "steps": 4,
    "weights": "binary",
    "mem_bn": True,
    "parallel": True,
    "four_bit": True,
    "mean": [0.2860],
    "std": [0.3530],
}

main = Recipe(
    dataset="Fashion-MNIST", arch="empf_vgg", arch_args=ARCH_ARGS, methods=("EMPF_R", "EMPF"), epochs=8, mse=0.0
).command(Path(__file__).parent)  # fmt: skip

if __name__ == "__main__":
    main()

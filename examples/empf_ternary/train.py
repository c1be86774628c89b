"""Train a small network of ternary weights and 4-bit spikes on MNIST with EM-PF:  python train.py --data FOLDER [--device cuda].

Leaks and thresholds per step, no Mem-BN, half of the neuron layers stateless.
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
    "float_first": True,
    "steps": 4,
    "weights": "ternary",
    "mem_bn": False,
    "parallel": True,
    "four_bit": True,
    "mean": [0.1307],
    "std": [0.3081],
}

main = Recipe(
    dataset="MNIST", arch="empf_vgg", arch_args=ARCH_ARGS, methods=("EMPF_R", "EMPF"), epochs=1, mse=0.0
).command(Path(__file__).parent)  # fmt: skip

if __name__ == "__main__":
    main()

"""Train a small EM-PF residual network with channel attention (SECA-I) on MNIST:  python train.py --data FOLDER [--device cuda].

Binary weights, 4-bit spikes, a real-valued residual stream; for the last 30 % of the training the gates are fixed per channel and time
step at their mean, and the network goes on learning with them.
"""

from __future__ import annotations

from pathlib import Path

from snncompile.online.recipe import Recipe

ARCH_ARGS = {
    "widths": [12, 24],
    "depths": [1, 1],
    "in_channels": 1,
    "num_classes": 10,
    "stem": "3x3-pool",
    "steps": 4,
    "weights": "binary",
    "mem_bn": False,
    "parallel": True,
    "four_bit": True,
    "seca": 1,
    "gates": "fixed",
    "mean": [0.1307],
    "std": [0.3081],
}

main = Recipe(
    dataset="MNIST", arch="empf_resnet", arch_args=ARCH_ARGS, methods=("EMPF_R", "EMPF"), epochs=1, mse=0.0, settled=0.3
).command(Path(__file__).parent)  # fmt: skip

if __name__ == "__main__":
    main()

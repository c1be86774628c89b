"""Train a small spiking network on spoken digits with OTTT:  python train.py --data FOLDER [--epochs N] [--device cuda].

FOLDER holds fsdd_8khz_int16.npz. The spikes are a thermometer code of the mel spectrogram: ``snncompile.online.speech``.
"""

from __future__ import annotations

from pathlib import Path

from snncompile.online.recipe import Recipe

ARCH_ARGS = {
    "config": [24, "A", 48],
    "in_channels": 3,
    "num_classes": 10,
    "input_size": [32, 2],
    "classifier": "flatten",
}

main = Recipe(
    dataset="FSDD", arch="ottt_vgg", arch_args=ARCH_ARGS, methods=("OTTT_A", "OTTT_O"), epochs=8, steps=16, batch_size=32, shift=0
).command(Path(__file__).parent)  # fmt: skip

if __name__ == "__main__":
    main()

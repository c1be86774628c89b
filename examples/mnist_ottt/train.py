"""Train a small convolutional spiking network on MNIST with OTTT:  python train.py --data FOLDER [--epochs N] [--device cuda].

FOLDER holds the four gzipped idx files of MNIST. The result is a checkpoint that ``snncompile`` reads as it is.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch

from snncompile.errors import CompileError
from snncompile.online.console import log
from snncompile.online.data import load_mnist
from snncompile.online.trainer import TrainConfig, Trainer

HERE = Path(__file__).parent
ARCH_ARGS = {
    "config": [16, "A", 32, "A", 32],
    "in_channels": 1,
    "num_classes": 10,
    "input_size": [28, 28],
    "classifier": "flatten",
    "mean": [0.1307],
    "std": [0.3081],
}


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="folder with MNIST's four idx .gz files")
@click.option("--epochs", default=4, show_default=True)
@click.option("--steps", default=6, show_default=True, help="T, time steps per image")
@click.option("--batch-size", default=64, show_default=True)
@click.option("--lr", default=4e-3, show_default=True, help="of Adam at the start; falls to 0 as a cosine")
@click.option("--shift", default=1, show_default=True, help="augmentation: random shift by up to this many pixels")
@click.option("--method", type=click.Choice(["OTTT_A", "OTTT_O"]), default="OTTT_A", show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda")
@click.option("--threads", default=1, show_default=True, help="CPU threads; more help only where nothing else runs")
@click.option("--out", type=click.Path(path_type=Path), default=HERE / "model.pt", show_default="model.pt beside this script")
@click.option(
    "--images-out", type=click.Path(path_type=Path), help="write the first 256 test images here (.npz: x uint8, y int64) and stop"
)
def main(
    *, data: Path, epochs: int, steps: int, batch_size: int, lr: float, shift: int, method: str, seed: int, device: str, threads: int,
    out: Path, images_out: Path | None,
) -> None:  # fmt: skip
    """Train on the 60,000 images, test on the 10,000 after every epoch; best and last checkpoint are kept."""
    torch.set_num_threads(threads)
    try:
        test = load_mnist(data, "test")
        if images_out is not None:
            np.savez_compressed(images_out, x=test[0][:256].numpy(), y=test[1][:256].numpy())
            return
        config = TrainConfig(method=method, steps=steps, epochs=epochs, batch_size=batch_size, lr=lr, shift=shift, seed=seed, device=device)
        command = (
            f"python train.py --data FOLDER --epochs {epochs} --steps {steps} --batch-size {batch_size} --lr {lr:g} --shift {shift} "
            f"--method {method} --seed {seed} --device {device} --threads {threads}"
        )
        facts = {"dataset": "MNIST", "command": command}
        checkpoint = Trainer(arch="ottt_vgg", arch_args=ARCH_ARGS, config=config, out=out, facts=facts).fit(load_mnist(data, "train"), test)
    except CompileError as error:
        raise click.ClickException(str(error)) from error
    log(f"last epoch: {100 * checkpoint.training['test_accuracy']:.2f} % of {len(test[0])} test images")


if __name__ == "__main__":
    main()

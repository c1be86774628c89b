"""The command line that all examples share: data files to a checkpoint that says how it was made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from snncompile.errors import CompileError
from snncompile.online.console import log
from snncompile.online.data import load_mnist
from snncompile.online.speech import load_fsdd
from snncompile.online.trainer import Images, TrainConfig, Trainer


@dataclass(frozen=True, slots=True)
class DataSet:
    """How to read a data set: ``load(folder, split)``, the largest value of a sample, and what the folder holds."""

    load: Callable[[Path, str], Images]
    high: int
    holds: str


DATASETS = {
    "MNIST": DataSet(load_mnist, 255, "MNIST's four idx .gz files"),
    "Fashion-MNIST": DataSet(load_mnist, 255, "Fashion-MNIST's four idx .gz files"),
    "FSDD": DataSet(load_fsdd, 1, "fsdd_8khz_int16.npz"),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What one example trains, and the defaults of its options; units as in ``TrainConfig``.

    dataset    one of ``DATASETS``, which also says what FOLDER holds
    arch       registered network; where ``arch_args`` has "steps" it follows the option --steps
    methods    training methods to choose from, the default first
    """

    dataset: str
    arch: str
    arch_args: dict[str, Any] = field(repr=False)
    methods: tuple[str, ...]
    epochs: int = 4
    steps: int = 4
    batch_size: int = 64
    lr: float = 4e-3
    shift: int = 1
    mse: float = 0.05
    settled: float = 0.0

    def command(self, folder: Path) -> click.Command:
        """The command; checkpoints go to ``folder`` by default."""

        def main(
            *, data: Path, epochs: int, steps: int, batch_size: int, lr: float, shift: int, method: str, seed: int, device: str,
            threads: int, samples: int | None, out: Path, images_out: Path | None,
        ) -> None:  # fmt: skip
            torch.set_num_threads(threads)
            try:
                source = DATASETS[self.dataset]
                test = source.load(data, "test")
                if images_out is not None:
                    np.savez_compressed(images_out, x=test[0][:256].numpy(), y=test[1][:256].numpy())
                    return
                config = TrainConfig(
                    method=method,
                    steps=steps,
                    epochs=epochs,
                    batch_size=batch_size,
                    lr=lr,
                    shift=shift,
                    mse=self.mse,
                    settled=self.settled,
                    seed=seed,
                    device=device,
                )
                command = (
                    f"python train.py --data FOLDER --epochs {epochs} --steps {steps} --batch-size {batch_size} --lr {lr:g} "
                    f"--shift {shift} --method {method} --seed {seed} --device {device} --threads {threads}"
                )
                command += "" if samples is None else f" --samples {samples}"
                arch_args = self.arch_args | ({"steps": steps} if "steps" in self.arch_args else {})
                facts = {"dataset": self.dataset, "command": command}
                trainer = Trainer(arch=self.arch, arch_args=arch_args, config=config, out=out, facts=facts, high=source.high)
                x, y = source.load(data, "train")
                checkpoint = trainer.fit((x[:samples], y[:samples]), test)
            except CompileError as error:
                raise click.ClickException(str(error)) from error
            log(f"last epoch: {100 * checkpoint.training['test_accuracy']:.2f} % of {len(test[0])} test samples")

        path = click.Path(path_type=Path)
        options = [
            click.Option(["--data"], type=path, required=True, help=f"folder with {DATASETS[self.dataset].holds}"),
            click.Option(["--epochs"], default=self.epochs, show_default=True),
            click.Option(["--steps"], default=self.steps, show_default=True, help="T, time steps per image"),
            click.Option(["--batch-size"], default=self.batch_size, show_default=True),
            click.Option(["--lr"], default=self.lr, show_default=True, help="of Adam at the start; falls to 0 as a cosine"),
            click.Option(
                ["--shift"], default=self.shift, show_default=True, help="augmentation: random shift by up to this many pixels"
            ),
            click.Option(["--method"], type=click.Choice(self.methods), default=self.methods[0], show_default=True),
            click.Option(["--seed"], default=0, show_default=True),
            click.Option(["--device"], default="cpu", show_default=True, help="cpu or cuda"),
            click.Option(["--threads"], default=1, show_default=True, help="CPU threads; more help only where nothing else runs"),
            click.Option(["--samples"], type=click.IntRange(min=1), help="train on the first so many samples  [default: all]"),
            click.Option(["--out"], type=path, default=folder / "model.pt", show_default="model.pt beside this script"),
            click.Option(
                ["--images-out"], type=path, help="write the first 256 test images here (.npz: x uint8, y int64) and stop"
            ),
        ]  # fmt: skip
        text = "Train on the training samples, test on all test samples after every epoch; best and last checkpoint are kept."
        return click.Command("train", callback=main, params=list(options), help=text)

"""A folder with a user's network, its weights and some data, and the command line as a function."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from click.testing import CliRunner

from snncompile.capture.factory import build
from snncompile.cli.app import cli

HERE = Path(__file__).parent
FOREIGN = ("--arch", "net.py:Tiny", "--input-shape", "1,4,4", "--steps", "4")


@dataclass
class Answer:
    """What a command said."""

    status: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


def snn(*arguments: object) -> Answer:
    """Run the command line in this process."""
    result = CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="snncompile")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)


def user_folder(folder: Path) -> Path:
    """net.py, weights.pt and data.npz."""
    shutil.copyfile(HERE / "tiny_net.py", folder / "net.py")
    torch.manual_seed(1)
    model = build(f"{folder / 'net.py'}:Tiny")
    torch.save({"net": {f"module.{k}": v for k, v in model.state_dict().items()}, "epoch": 3}, folder / "weights.pt")
    generator = np.random.default_rng(0)
    np.savez(folder / "data.npz", x=generator.random((8, 1, 4, 4)), y=np.arange(8) % 3)
    return folder

"""The tasks of the on-chip learning examples: what was trained before, what comes as a stream, what is tested."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from snncompile.online.data import load_mnist
from snncompile.online.speech import FILE, STEPS, TEST_INDEX, encode_speech

SPEAKERS = 6
TASKS = ("digits", "rotated", "noisy", "fashion", "speaker")


@dataclass(frozen=True)
class Task:
    """What is learned on the chip (``stream``), what was trained ``before``, and test sets by name; x [N,(T,)C,H,W], y [N]."""

    stream: tuple[np.ndarray, np.ndarray]
    before: tuple[np.ndarray, np.ndarray]
    tests: dict[str, tuple[np.ndarray, np.ndarray]]
    steps: int
    shape: dict[str, float]
    top: float


def images(folder: Path, split: str, keep=lambda y: y >= 0) -> tuple[np.ndarray, np.ndarray]:
    x, y = (a.numpy() for a in load_mnist(folder, split))
    return x[keep(y)], y[keep(y)]


def turned(x: np.ndarray, degrees: float) -> np.ndarray:
    """Every image turned about its middle, bilinear."""
    angle = torch.tensor(np.deg2rad(degrees), dtype=torch.float32)
    matrix = torch.tensor([[torch.cos(angle), -torch.sin(angle), 0], [torch.sin(angle), torch.cos(angle), 0]]).expand(len(x), 2, 3)
    grid = torch.nn.functional.affine_grid(matrix, list(x.shape), align_corners=False)
    return torch.nn.functional.grid_sample(torch.from_numpy(x).float(), grid, align_corners=False).round().to(torch.uint8).numpy()


def peppered(x: np.ndarray, share: float, seed: int) -> np.ndarray:
    g = np.random.default_rng(seed)
    return np.where(g.random(x.shape) < share, g.choice(np.array([0, 255], dtype=np.uint8), x.shape), x)


def spoken(file: Path) -> tuple[np.ndarray, ...]:
    """Recordings as spikes [N,T,C,H,W], digit, speaker and running number of each."""
    with np.load(file) as f:
        audio, offset = f["audio"], f["offset"]
        cuts = [audio[a:b] for a, b in pairwise(offset)]
        return np.stack([encode_speech(c) for c in cuts]), f["digit"], f["speaker"], f["index"]


def find_task(name: str, data: Path, *, speaker: int = SPEAKERS - 1, old_share: float = 0.0) -> Task:
    """``data`` holds mnist/, fashion-mnist/ and fsdd/.

    speaker  who was left out, 0..5, of the spoken digits       old_share  samples of the classes 0 to 4 in the stream, per new one
    """
    mnist = data / "mnist"
    if name == "digits":
        tests = {"digits 5 to 9": images(mnist, "test", lambda y: y >= 5), "digits 0 to 4": images(mnist, "test", lambda y: y < 5)}
        new, old = images(mnist, "train", lambda y: y >= 5), images(mnist, "train", lambda y: y < 5)
        extra = np.random.default_rng(0).permutation(len(old[0]))[: round(old_share * len(new[0]))]
        stream = (np.concatenate([new[0], old[0][extra]]), np.concatenate([new[1], old[1][extra]]))
        return Task(stream, old, tests, 6, {}, 255)
    if name == "speaker":
        x, y, speakers, index = spoken(data / "fsdd" / FILE)
        new, test = speakers == speaker, index < TEST_INDEX
        shape = {"channels": x.shape[2], "height": x.shape[3], "width": x.shape[4], "scale": 1.0, "quiet": 0.0}
        tests = {"new speaker": (x[new & test], y[new & test]), "old speakers": (x[~new & test], y[~new & test])}
        return Task((x[new & ~test], y[new & ~test]), (x[~new & ~test], y[~new & ~test]), tests, STEPS, shape, 1)
    change = {"rotated": lambda x, _: turned(x, 30), "noisy": lambda x, seed: peppered(x, 0.2, seed), "fashion": lambda x, _: x}[name]
    folder = data / "fashion-mnist" if name == "fashion" else mnist
    (x, y), (xt, yt) = images(folder, "train"), images(folder, "test")
    tests = {name: (change(xt, 1), yt), "digits as trained": images(mnist, "test")}
    return Task((change(x[:20000], 0), y[:20000]), images(mnist, "train"), tests, 6, {}, 255)

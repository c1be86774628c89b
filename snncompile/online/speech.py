"""Spoken digits as spikes: the Free Spoken Digit Dataset through a thermometer code of its mel spectrogram."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snncompile.errors import fail

FILE = "fsdd_8khz_int16.npz"
RATE, WINDOW, HOP = 8000, 256, 64
"""Samples per second; samples per window (32 ms) and from one window to the next (8 ms)."""
BANDS, LOWEST = 32, 80.0
"""Mel bands, from so many Hz to half the rate."""
LEVELS = (-10.0, -20.0, -30.0)
"""dB below the loudest band and time of the recording."""
STEPS, WIDTH = 16, 2
"""T, time steps of a sample, and the columns of the spectrogram that enter at each."""
TEST_INDEX = 5

Floats = NDArray[np.float64]


def mel_filters() -> Floats:
    """Triangular filters [BANDS, WINDOW/2+1], equally spaced in mel = 2595 log10(1 + f / 700 Hz), each of peak 1."""
    mel = np.linspace(2595 * np.log10(1 + LOWEST / 700), 2595 * np.log10(1 + RATE / 2 / 700), BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    f = np.fft.rfftfreq(WINDOW, 1 / RATE)
    rise = (f - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - f) / (edges[2:] - edges[1:-1])[:, None]
    result: Floats = np.clip(np.minimum(rise, fall), 0, None)
    return result


def encode_speech(audio: NDArray[np.int16]) -> NDArray[np.uint8]:
    """One recording as binary spikes.

        P[k,b]   power of window k (Hann) in mel band b;  L = 10 log10(P / max P), in dB
        L'       L at STEPS * WIDTH times spread evenly over the recording, interpolated linearly: its duration is not encoded
        s[t,c,b,j] = 1 if L'[t * WIDTH + j, b] > LEVELS[c] else 0          a thermometer code: louder is more channels

    Shapes   audio [n] at 8 kHz; s [STEPS, len(LEVELS), BANDS, WIDTH], 0 or 1
    """
    x = np.pad(np.asarray(audio, dtype=np.float64), (0, max(0, WINDOW + HOP - len(audio))))
    windows = np.lib.stride_tricks.sliding_window_view(x, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(windows)) ** 2 @ mel_filters().T
    level = 10 * np.log10(np.maximum(power, 1e-12) / max(float(power.max()), 1e-12))
    at = np.linspace(0, len(level) - 1, STEPS * WIDTH)
    before = np.minimum(at.astype(int), len(level) - 2)
    share = (at - before)[:, None]
    stretched = (1 - share) * level[before] + share * level[before + 1]
    spikes = stretched[:, None, :] > np.asarray(LEVELS)[:, None]
    result: NDArray[np.uint8] = spikes.reshape(STEPS, WIDTH, len(LEVELS), BANDS).transpose(0, 2, 3, 1).astype(np.uint8)
    return result


def load_fsdd(folder: str | os.PathLike[str], split: str) -> tuple[Tensor, Tensor]:
    """The spikes and digits of the split "train" or "test" (recordings 0 to 4 of each speaker and digit).

    Source   Jackson et al., Free Spoken Digit Dataset, CC BY-SA 4.0; FOLDER holds fsdd_8khz_int16.npz: ``audio`` (all recordings one after
             another), ``offset`` (n+1), ``digit``, ``index``
    Shapes   spikes [N, STEPS, len(LEVELS), BANDS, WIDTH] uint8, digits [N] int64
    Errors   SNN720 no such file; SNN721 it is damaged or lacks an array
    """
    path = Path(folder) / FILE
    try:
        with np.load(path) as file:
            audio, offset, digit, index = (file[name] for name in ("audio", "offset", "digit", "index"))
    except FileNotFoundError:
        raise fail("SNN720", f"no file {path}", help=f"the folder must hold {FILE}") from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise fail("SNN721", f"{path} does not hold the arrays audio, offset, digit and index", notes=[str(error)]) from error
    chosen = np.flatnonzero((index < TEST_INDEX) == (split == "test"))
    spikes = np.stack([encode_speech(audio[offset[k] : offset[k + 1]]) for k in chosen])
    return torch.from_numpy(spikes), torch.from_numpy(digit[chosen].astype(np.int64))

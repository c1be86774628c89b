"""Reading MNIST-like data sets: four gzipped idx files in one folder."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path

import torch
from torch import Tensor

from snncompile.errors import fail

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


def read_idx(path: Path) -> Tensor:
    """One gzipped idx file of unsigned bytes.

        bytes 0-1 zero, byte 2 type (8 = unsigned byte), byte 3 number of axes n, then n sizes (4 bytes, big-endian), then the data

    Source   LeCun, Cortes, Burges, "The MNIST database", file formats
    Shapes   as the header says: images [N,28,28], labels [N], uint8
    Errors   SNN720 no such file; SNN721 not an idx file of bytes, or cut short
    """
    try:
        raw = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        way_out = f"the folder must hold {', '.join(name for pair in FILES.values() for name in pair)}"
        raise fail("SNN720", f"no file {path}", help=way_out) from None
    except (OSError, EOFError, zlib.error) as error:
        raise fail("SNN721", f"cannot decompress {path}", notes=[str(error)]) from error
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise fail("SNN721", f"{path} is no idx file of unsigned bytes")
    axes = raw[3]
    start = 4 + 4 * axes
    sizes = [int.from_bytes(raw[i : i + 4], "big") for i in range(4, start, 4)]
    if len(raw) != start + math.prod(sizes):
        raise fail("SNN721", f"{path} announces {sizes} bytes of data and holds {len(raw) - start}")
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8)[start:].reshape(sizes)


def load_mnist(folder: str | os.PathLike[str], split: str) -> tuple[Tensor, Tensor]:
    """Images and labels of the split "train" or "test" of an MNIST-like folder.

    Shapes   images [N,1,H,W] uint8, labels [N] int64
    Errors   SNN720 a file is missing; SNN721 a file is damaged, or images and labels do not belong together
    """
    images_file, labels_file = FILES[split]
    images, labels = read_idx(Path(folder) / images_file), read_idx(Path(folder) / labels_file)
    if images.dim() != 3 or labels.dim() != 1 or len(images) != len(labels):
        raise fail("SNN721", f"{folder}: images {list(images.shape)} and labels {list(labels.shape)} do not belong together")
    return images.unsqueeze(1), labels.long()


def random_shift(images: Tensor, pixels: int, generator: torch.Generator | None = None) -> Tensor:
    """Shift every image by its own whole number of pixels, -pixels..pixels on both axes, filling with zeros.

    Shapes   images [B,C,H,W], result the same
    """
    if pixels == 0:
        return images
    batch, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (pixels,) * 4)
    offset = torch.randint(0, 2 * pixels + 1, (2, batch, 1), generator=generator).to(images.device)
    rows = (offset[0] + torch.arange(height, device=images.device))[:, :, None]
    columns = (offset[1] + torch.arange(width, device=images.device))[:, None, :]
    batch_index = torch.arange(batch, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[batch_index, rows, columns].permute(0, 3, 1, 2).contiguous()

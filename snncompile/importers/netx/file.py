"""A ``.net`` file as plain arrays. Every access names the dataset that is missing or wrong.

    layer/0/type, layer/0/shape, ...      one group a layer, numbered from the input
    layer/0/neuron/type, ...              the compartment of a layer
    simulation/tSample                    steps of a sample (optional)

Nothing outside the file is ever opened: links to other files, external storage and virtual datasets are refused.
Source  lava-dl 0.6, slayer/block/base.py (``export_hdf5``), netx/hdf5.py, netx/README.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from snncompile.errors import CompileError, fail
from snncompile.ir.graph import Array

MAGIC = b"\x89HDF\r\n\x1a\n"
LARGEST = 2**28
"""Elements of the largest dataset that is read: a small file can claim any size."""
DEEPEST = 4


@dataclass(frozen=True)
class Section:
    """One group: its datasets as arrays or texts, and the groups in it, by name. ``where`` is its path in the file."""

    where: str
    values: Mapping[str, Array | str] = field(default_factory=dict)
    groups: Mapping[str, Section] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        return key in self.values or key in self.groups

    def path(self, key: str) -> str:
        """The dataset's path in the file."""
        return f"{self.where}/{key}" if self.where else key

    def wrong(self, key: str, what: str, *, help: str | None = None) -> CompileError:  # noqa: A002 - the word users see
        """SNN150 at a dataset."""
        return fail("SNN150", f"dataset '{self.path(key)}' {what}", help=help)

    def text(self, key: str) -> str:
        """A text that must be there."""
        value = self._value(key)
        if not isinstance(value, str):
            raise self.wrong(key, f"holds {_what(value)}, expected a text")
        return value

    def whole(self, key: str, default: int | None = None) -> int:
        """One whole number; ``default`` where the file has none."""
        if key not in self and default is not None:
            return default
        values = self.wholes(key)
        if values.size != 1:
            raise self.wrong(key, f"has shape {list(values.shape)}, expected one number")
        return int(values.reshape(-1)[0])

    def wholes(self, key: str) -> Array:
        """Whole numbers as int64, in the dataset's shape; fractions are refused, never rounded (SNN152)."""
        value = self._value(key)
        if isinstance(value, str) or value.dtype.kind not in "biuf":
            raise self.wrong(key, f"holds {_what(value)}, expected numbers")
        if not np.all(np.isfinite(value)):
            raise self.wrong(key, "holds NaN or infinity")
        rounded = np.rint(value.astype(np.float64))
        if np.any(rounded != value):
            worst = float(np.asarray(value).reshape(-1)[np.abs(rounded - value).argmax()])
            raise fail(
                "SNN152", f"dataset '{self.path(key)}' holds {worst:g}, which is no whole number",
                notes=["lava-dl's netx would cut off the fraction without a word"], help="export the network with quantised weights",
            )  # fmt: skip
        if np.any(np.abs(rounded) >= 2**31):
            raise self.wrong(key, f"reaches {np.abs(rounded).max():g}, beyond 32 bits")
        return np.asarray(rounded, dtype=np.int64)

    def pair(self, key: str, default: int | None = None) -> tuple[int, int]:
        """Height and width; one number stands for both."""
        if key not in self and default is not None:
            return (default, default)
        values = self.wholes(key).reshape(-1)
        if values.size not in (1, 2):
            raise self.wrong(key, f"has {values.size} numbers, expected height and width")
        return (int(values[0]), int(values[-1]))

    def group(self, key: str) -> Section:
        """A group that must be there."""
        if key not in self.groups:
            raise fail(
                "SNN150", f"the file has no group '{self.path(key)}'", notes=[f"it has {', '.join(self.names()) or 'nothing'} there"]
            )
        return self.groups[key]

    def names(self) -> Iterator[str]:
        """Everything in the group."""
        yield from self.values
        yield from self.groups

    def _value(self, key: str) -> Array | str:
        if key not in self.values:
            what = "is a group, expected a dataset" if key in self.groups else "is missing"
            raise self.wrong(key, what)
        return self.values[key]


def is_net(path: Path) -> bool:
    """Whether a file is HDF5 with lava-dl's group ``layer`` (NIR's has ``node``), or claims to be one by its suffix ``.net``."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return path.suffix == ".net" and path.is_file()
        with h5py.File(path, "r") as handle:
            return "layer" in handle or path.suffix == ".net"
    except (OSError, RuntimeError, ValueError, KeyError):  # damaged
        return path.suffix == ".net"


def read_file(path: Path) -> Section:
    """The whole file (SNN150)."""
    try:
        with path.open("rb") as raw:
            if raw.read(len(MAGIC)) != MAGIC:
                pointer = path.stat().st_size < 1024 and b"git-lfs" in path.read_bytes()
                way_out = "it is a pointer to a file in Git LFS: git lfs pull" if pointer else "copy or export it again"
                raise fail("SNN150", f"{path} is not an HDF5 file", help=way_out)
        with h5py.File(path, "r") as handle:
            return _section(handle, "")
    except OSError as e:
        raise fail("SNN150", f"{path} is a damaged HDF5 file", notes=[str(e).splitlines()[0]], help="copy or export it again") from e
    except (RuntimeError, ValueError, KeyError, TypeError) as e:
        raise fail("SNN150", f"{path} cannot be read as HDF5", notes=[str(e).splitlines()[0] if str(e) else type(e).__name__]) from e


def _section(group: Any, where: str) -> Section:
    values: dict[str, Array | str] = {}
    groups: dict[str, Section] = {}
    for key in group:
        inside = f"{where}/{key}" if where else str(key)
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise fail("SNN150", f"'{inside}' is a link, which is not followed", help="write a file that holds its own data")
        item = group[key]
        if isinstance(item, h5py.Group):
            if inside.count("/") < DEEPEST:
                groups[key] = _section(item, inside)
        elif isinstance(item, h5py.Dataset):
            values[key] = _dataset(item, inside)
    return Section(where, values, groups)


def _dataset(item: Any, where: str) -> Array | str:
    if item.external or item.is_virtual:
        raise fail("SNN150", f"dataset '{where}' lies in another file, which is not opened", help="write a file that holds its own data")
    if item.shape is None:
        raise fail("SNN150", f"dataset '{where}' is empty")
    if item.size > LARGEST:
        raise fail("SNN150", f"dataset '{where}' claims {item.size:,} elements, at most {LARGEST:,} are read")
    value = item[()]
    if isinstance(value, np.ndarray) and value.dtype.kind in "SO" and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode("ascii", errors="replace")
    return value if isinstance(value, str) else np.asarray(value)


def _what(value: Array | str) -> str:
    return f"the text '{value}'" if isinstance(value, str) else f"{value.dtype} of shape {list(value.shape)}"


__all__ = ["Section", "is_net", "read_file"]

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

import numpy as np

from snncompile import hdf5
from snncompile.errors import CompileError, fail
from snncompile.files import read
from snncompile.ir.graph import Array

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
    """Whether a file claims to be one by its suffix ``.net``, or is HDF5 with lava-dl's group ``layer`` under a name that says nothing."""
    if path.suffix in (".net", ".nir"):
        return path.suffix == ".net" and path.is_file()
    try:
        return hdf5.is_hdf5(path) and "layer" in hdf5.read(path)
    except (OSError, CompileError, hdf5.Unreadable):  # damaged
        return False


def read_file(path: Path) -> Section:
    """The whole file (SNN150)."""
    raw = read(path)
    if not raw.startswith(hdf5.MAGIC):
        pointer = len(raw) < 1024 and b"git-lfs" in raw
        way_out = "it is a pointer to a file in Git LFS: git lfs pull" if pointer else "copy or export it again"
        raise fail("SNN150", f"{path} is not an HDF5 file", help=way_out)
    try:
        return _section(hdf5.read(path), "")
    except hdf5.Unreadable as e:
        raise fail("SNN150", f"{path} is a damaged HDF5 file", notes=[str(e)], help="copy or export it again") from e


def _section(tree: hdf5.Tree, where: str) -> Section:
    values: dict[str, Array | str] = {}
    groups: dict[str, Section] = {}
    for key, item in tree.items():
        inside = f"{where}/{key}" if where else key
        if isinstance(item, hdf5.Refused):
            raise _refused(inside, item)
        if isinstance(item, Mapping):
            if inside.count("/") < DEEPEST:
                groups[key] = _section(item, inside)
        else:
            values[key] = _value(item)
    return Section(where, values, groups)


def _refused(where: str, item: hdf5.Refused) -> CompileError:
    own = "write a file that holds its own data"
    match item.why:
        case "link":
            return fail("SNN150", f"'{where}' is a link, which is not followed", help=own)
        case "elsewhere":
            return fail("SNN150", f"dataset '{where}' lies in another file, which is not opened", help=own)
        case "large":
            return fail("SNN150", f"dataset '{where}' claims {item.detail:,} elements, more than the file can hold")
        case "unreadable":
            return fail("SNN150", f"'{where}' cannot be read: {item.detail}", help="copy or export it again")
        case "deep":
            return fail("SNN150", f"'{where}' is nested {item.detail} groups deep")
    return fail("SNN150", f"dataset '{where}' " + ("is empty" if item.detail == "nothing" else f"holds {item.detail}"))


def _value(item: Any) -> Array | str:
    if isinstance(item, np.ndarray) and item.dtype == object and item.size == 1:
        item = item.reshape(-1)[0]
    return item if isinstance(item, str) else np.asarray(item)


def _what(value: Array | str) -> str:
    return f"the text '{value}'" if isinstance(value, str) else f"{value.dtype} of shape {list(value.shape)}"


__all__ = ["Section", "is_net", "read_file"]

"""Tensors as ``.npy`` files in the fewest bytes that lose nothing.

Whole numbers take the smallest integer type that holds them, floats take float32 where that is the same number. Three kinds of arrays are
packed where that takes fewer bytes. A packed file is a plain ``.npy`` too, one record.

*Levels*: at least 64 whole numbers with at most 2, 4 or 16 equidistant levels, in 1, 2 or 4 bits a value. The record

    bits (u1)   shape (<i4 each)   offset, step (<i8)   codes (u1 each)

means ``offset + step * code``; codes are little-endian in their bytes: the first value is in the lowest bits of the first byte.

*Places*: an array [..., H, W] with at most 256 different columns over its places, such as a bias that differs only along the borders.
The record

    columns (a number each, [..., K])   index (u1 each, [H, W])

means ``columns[..., index]``; columns are in the order in which they first occur.

*Runs*: an array [..., n * r] along whose last axis every value stands r times, such as a linear layer behind a global average. The record

    values (a number each, [..., n])   run (<i4)

means ``numpy.repeat(values, run, axis=-1)``.

Tensors of at most 4 KiB share one archive, ``small.npz``, not compressed: ``small.npz#fc1.bias`` is its entry ``fc1.bias``.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from snncompile.files import BAD_ZIP
from snncompile.ir.graph import Array
from snncompile.numerics import few_levels

INTEGERS = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)
SMALLEST_PACKED = 64
LARGEST = 1 << 33
ARCHIVE, SMALL, HEADER = "small.npz", 4096, 1024
PLACES, RUNS = ("columns", "index"), ("values", "run")


def shrink(array: Array) -> Array:
    """The same values in the smallest type."""
    if array.dtype.kind == "f":
        single = array.astype(np.float32)
        return single if np.array_equal(single.astype(array.dtype), array, equal_nan=True) else array
    if array.dtype.kind not in "iu" or not array.size:
        return array
    low, high = int(array.min()), int(array.max())
    kind = next(k for k in INTEGERS if np.iinfo(k).min <= low and high <= np.iinfo(k).max)
    return array.astype(kind)


def pack(array: Array) -> Array | None:
    """One record that holds the array in 1, 2 or 4 bits a value, or None if the values do not fit."""
    if array.dtype.kind not in "iub" or array.size < SMALLEST_PACKED:
        return None
    found = few_levels(array)
    if found is None:
        return None
    bits, low, step = found
    codes = ((array.astype(np.int64) - low) // step).astype(np.uint8).reshape(-1, 1) >> np.arange(bits, dtype=np.uint8) & 1
    packed = np.packbits(codes.reshape(-1), bitorder="little")
    fields: list[Any] = [("bits", "u1"), ("shape", "<i4", (array.ndim,)), ("offset", "<i8"), ("step", "<i8"), ("codes", "u1", packed.shape)]
    record = np.zeros((), dtype=fields)
    record["bits"], record["shape"], record["offset"], record["step"], record["codes"] = bits, array.shape, low, step, packed
    return record


def unpack(record: Array) -> Array:
    """The array in a packed record; raises ValueError if it contradicts itself."""
    if record.dtype.names != ("bits", "shape", "offset", "step", "codes") or record.shape != ():
        raise ValueError("it holds records of an unknown kind")
    bits, shape = int(record["bits"]), tuple(int(n) for n in np.atleast_1d(record["shape"]))
    size, codes = math.prod(shape), np.ascontiguousarray(record["codes"])
    if bits not in (1, 2, 4) or min(shape, default=0) < 0 or size > LARGEST or codes.size != -(-size * bits // 8):
        raise ValueError(f"{codes.size} bytes cannot hold {shape} values of {bits} bits")
    digits = np.unpackbits(codes, count=size * bits, bitorder="little").reshape(-1, bits)
    values = (digits << np.arange(bits, dtype=np.uint8)).sum(axis=1, dtype=np.int64)
    return np.asarray(int(record["offset"]) + int(record["step"]) * values).reshape(shape)


def pack_places(array: Array) -> Array | None:
    """One record with every different column over the last two axes once, or None if that takes no fewer bytes."""
    if array.ndim < 2 or array.dtype.kind not in "iuf" or not array.size:
        return None
    small = np.ascontiguousarray(shrink(array))
    places = math.prod(array.shape[-2:])
    columns = small.reshape(-1, places)
    first, index = _different(columns)
    if len(first) > 256 or len(first) * len(columns) * small.itemsize + places >= small.nbytes:
        return None
    kept = columns[:, first]
    if kept[:, index].tobytes() != small.tobytes():  # two columns had the same mark
        return None
    lead = array.shape[:-2]
    fields: list[Any] = [("columns", small.dtype.str, (*lead, len(first))), ("index", "u1", array.shape[-2:])]
    record = np.zeros((), dtype=fields)
    record["columns"], record["index"] = kept.reshape(*lead, -1), index.reshape(array.shape[-2:])
    return record


def _different(columns: Array) -> tuple[Array, Array]:
    """Where each different column first occurs, in that order, and for every column which of them it is."""
    bits = columns.view(f"u{columns.itemsize}")
    odd = np.random.default_rng(0).integers(0, 2**63, len(columns), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    marks = np.zeros(columns.shape[1], np.uint64)
    for row, factor in zip(bits, odd, strict=True):
        marks += row.astype(np.uint64) * factor
    _, first, index = np.unique(marks, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return first[order], np.argsort(order)[index]


def unpack_places(record: Array) -> Array:
    """The array in a record of columns; raises ValueError if it contradicts itself."""
    columns, index = np.asarray(record["columns"]), np.asarray(record["index"])
    if record.shape != () or columns.ndim < 1 or index.ndim != 2 or columns.dtype.kind not in "iuf" or index.dtype != np.uint8:
        raise ValueError("its columns or its index are of an unknown kind")
    if math.prod(columns.shape[:-1]) * index.size > LARGEST:
        raise ValueError(f"it claims {columns.shape[:-1]} x {index.shape} values")
    if int(index.max(initial=0)) >= columns.shape[-1]:
        raise ValueError(f"its index names column {int(index.max(initial=0))} of {columns.shape[-1]}")
    array: Array = columns[..., index]
    return array


def pack_runs(array: Array) -> Array | None:
    """One record with every value of the last axis once instead of as often as it stands side by side, or None if that is once."""
    if array.ndim < 1 or array.dtype.kind not in "iuf" or not array.size:
        return None
    small = np.ascontiguousarray(shrink(array)).reshape(array.shape)
    bits = small.view(f"u{small.itemsize}").reshape(-1, array.shape[-1])
    changes = np.flatnonzero((bits[:, 1:] != bits[:, :-1]).any(axis=0)) + 1
    run = math.gcd(array.shape[-1], *(int(k) for k in changes))
    if run == 1:
        return None
    values = small[..., ::run]
    record = np.zeros((), dtype=[("values", small.dtype.str, values.shape), ("run", "<i4")])
    record["values"], record["run"] = values, run
    return record if record.nbytes < small.nbytes else None


def unpack_runs(record: Array) -> Array:
    """The array in a record of runs; raises ValueError if it contradicts itself."""
    values, run = np.asarray(record["values"]), np.asarray(record["run"])
    if record.shape != () or values.ndim < 1 or values.dtype.kind not in "iuf" or run.dtype != np.int32 or run.shape != ():
        raise ValueError("its values or its run are of an unknown kind")
    if int(run) < 1 or values.size * int(run) > LARGEST:
        raise ValueError(f"it claims {values.shape} values, {int(run)} times each")
    return np.repeat(values, int(run), axis=-1)


def stored(array: Array) -> tuple[Array, str]:
    """What is written for an array, and how: ``packed 2 bit``, ``9 columns of int32``, ``runs of 16 int8``, ``int8``."""
    whole, how = np.ascontiguousarray(shrink(array)).reshape(array.shape), str(shrink(array).dtype)
    packed = pack(array)
    if packed is not None:
        whole, how = packed, f"packed {int(packed['bits'])} bit"
    places = pack_places(array)
    if places is not None and places.nbytes < whole.nbytes:
        whole, how = places, f"{places['columns'].shape[-1]} columns of {places['columns'].dtype}"
    runs = pack_runs(array)
    if runs is not None and runs.nbytes < whole.nbytes:
        whole, how = runs, f"runs of {int(runs['run'])} {runs['values'].dtype}"
    return whole, how


def restored(whole: Array) -> Array:
    """The array of ``stored``; raises ValueError if it contradicts itself."""
    if whole.dtype.names is None:
        return whole
    if whole.dtype.names == PLACES:
        return unpack_places(whole)
    return unpack_runs(whole) if whole.dtype.names == RUNS else unpack(whole)


def load(folder: Path, file: str) -> Array:
    """Read a tensor of a folder, ``NAME.npy`` or ``small.npz#NAME``; raises ValueError. Nothing is unpickled."""
    name, _, entry = file.partition("#")
    try:
        whole: Array = _entry(folder / name, entry) if entry else np.load(folder / name, allow_pickle=False)
        return restored(whole)
    except BAD_ZIP as e:
        raise ValueError(f"'{file}' cannot be read: {e}") from e


def _entry(path: Path, entry: str) -> Array:
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{entry}.npy")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > SMALL + HEADER:
            raise ValueError(f"its entry '{entry}' is compressed or larger than {SMALL} bytes")
        with archive.open(info) as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


class Folder:
    """A folder of tensors in which equal arrays under the same or another key are stored once; ``close`` it at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, dict[str, Any]] = {}
        self._by_value: dict[tuple[Any, ...], str] = {}
        self._taken: set[str] = set()
        self._small: dict[str, Array] = {}

    def keep(self, key: str, array: Array) -> str:
        """Store an array and say where: its file's name, or its entry in ``small.npz``."""
        value = (array.shape, array.dtype.kind == "f", shrink(array).tobytes(), shrink(array).dtype.str)
        if value not in self._by_value:
            name = self._free_name(key)
            whole, how = stored(array)
            if whole.nbytes <= SMALL:
                self._small[name] = whole
                file = f"{ARCHIVE}#{name}"
            else:
                file = f"{name}.npy"
                np.save(self.folder / file, whole, allow_pickle=False)
            self._by_value[value] = file
            self.rows[file] = {"shape": list(array.shape), "stored": how}
        return self._by_value[value]

    def keep_all(self, tensors: Mapping[str, Array]) -> dict[str, dict[str, Any]]:
        """Store the tensors of a graph; the manifest's table: file, dtype and shape by key."""
        rows = {}
        for key, array in tensors.items():
            name = self.keep(key, array)
            rows[key] = {"file": name, "dtype": array.dtype.name, "shape": list(array.shape), "stored": self.rows[name]["stored"]}
        return rows

    def close(self) -> None:
        """Write the archive of small tensors, the same bytes for the same tensors."""
        if not self._small:
            return
        with zipfile.ZipFile(self.folder / ARCHIVE, "w") as archive:
            for name, whole in sorted(self._small.items()):
                info = zipfile.ZipInfo(f"{name}.npy")
                info.create_system = 3  # the same bytes on every system
                with archive.open(info, "w") as file:
                    np.lib.format.write_array(file, whole, allow_pickle=False)

    def _free_name(self, key: str) -> str:
        stem = re.sub(r"[^A-Za-z0-9_.\-]", "_", key).lstrip(".")[:100] or "tensor"
        name = next(n for n in chain([stem], (f"{stem}~{k}" for k in count(2))) if n.lower() not in self._taken)
        self._taken.add(name.lower())
        return name


__all__ = [
    "ARCHIVE", "SMALL", "Folder", "load", "pack", "pack_places", "pack_runs", "restored", "shrink", "stored", "unpack", "unpack_places",
    "unpack_runs",
]  # fmt: skip

"""Tensors as ``.npy`` files in the fewest bytes that lose nothing.

Whole numbers take the smallest integer type that holds them, floats take float32 where that is the same number. Arrays of at least
64 whole numbers with at most 2, 4 or 16 equidistant levels are packed into 1, 2 or 4 bits a value. A packed file is a plain ``.npy``
too, one record of the fields

    bits (u1)   shape (<i4 each)   offset, step (<i8)   codes (u1 each)

and means ``offset + step * code``; codes are little-endian in their bytes: the first value is in the lowest bits of the first byte.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from snncompile.ir.graph import Array
from snncompile.numerics import few_levels

INTEGERS = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)
SMALLEST_PACKED = 64
LARGEST = 1 << 33


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


def save(path: Path, array: Array) -> str:
    """Write an array and say how: ``packed 2 bit``, ``int8``."""
    packed = pack(array)
    stored = np.ascontiguousarray(shrink(array)).reshape(array.shape) if packed is None else packed
    np.save(path, stored, allow_pickle=False)
    return str(stored.dtype) if packed is None else f"packed {int(packed['bits'])} bit"


def load(path: Path) -> Array:
    """Read an array of ``save``; raises OSError or ValueError. Nothing is unpickled."""
    array: Array = np.load(path, allow_pickle=False)
    return unpack(array) if array.dtype.names else array


class Folder:
    """A folder of tensors in which equal arrays under the same or another key are stored once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, dict[str, Any]] = {}
        self._by_value: dict[tuple[Any, ...], str] = {}
        self._taken: set[str] = set()

    def keep(self, key: str, array: Array) -> str:
        """Store an array and return its file's name."""
        value = (array.shape, array.dtype.kind == "f", shrink(array).tobytes(), shrink(array).dtype.str)
        if value not in self._by_value:
            name = self._free_name(key)
            stored = save(self.folder / name, array)
            self._by_value[value] = name
            self.rows[name] = {"shape": list(array.shape), "stored": stored}
        return self._by_value[value]

    def keep_all(self, tensors: Mapping[str, Array]) -> dict[str, dict[str, Any]]:
        """Store the tensors of a graph; the manifest's table: file, dtype and shape by key."""
        rows = {}
        for key, array in tensors.items():
            name = self.keep(key, array)
            rows[key] = {"file": name, "dtype": array.dtype.name, "shape": list(array.shape), "stored": self.rows[name]["stored"]}
        return rows

    def _free_name(self, key: str) -> str:
        stem = re.sub(r"[^A-Za-z0-9_.\-]", "_", key).lstrip(".")[:100] or "tensor"
        name = next(n for n in chain([stem], (f"{stem}~{k}" for k in count(2))) if n.lower() not in self._taken)
        self._taken.add(name.lower())
        return f"{name}.npy"


__all__ = ["Folder", "load", "pack", "save", "shrink", "unpack"]

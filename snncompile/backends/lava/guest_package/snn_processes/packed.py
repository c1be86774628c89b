"""Arrays packed into one record of a ``.npy`` file.

levels   (bits, shape, offset, step, codes): offset + step * code, codes of 1, 2 or 4 bits, lowest bits first
places   (columns, index): columns[..., index], every different column over the places [H, W] once
runs     (values, run): every value of the last axis, run times each

Small arrays are entries of one ``.npz``.
"""

from __future__ import annotations

import math
import struct
import zipfile
from pathlib import Path

import numpy as np

LARGEST = 1 << 33
SMALL = 4096 + 1024


def small(path: Path, entry: str) -> np.ndarray:
    """One entry of an archive of small arrays; ValueError if it is not there."""
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{entry}.npy")
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > SMALL:
                raise ValueError(f"'{entry}' is compressed or larger than {SMALL} bytes")
            with archive.open(info) as file:
                array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
                return array
    except (zipfile.BadZipFile, KeyError, RuntimeError, OverflowError, MemoryError, struct.error) as error:
        raise ValueError(f"its entry '{entry}' cannot be read: {error}") from error


def unpack(record: np.ndarray) -> np.ndarray:
    """The array; ValueError, completing a sentence that starts with the file's name, if the record contradicts itself."""
    names = record.dtype.names
    if record.shape == () and names == ("columns", "index"):
        return _places(np.asarray(record["columns"]), np.asarray(record["index"]))
    if record.shape == () and names == ("bits", "shape", "offset", "step", "codes"):
        return _levels(record)
    if record.shape == () and names == ("values", "run"):
        return _runs(np.asarray(record["values"]), np.asarray(record["run"]))
    raise ValueError("holds unknown records")


def _levels(record: np.ndarray) -> np.ndarray:
    bits, shape = int(record["bits"]), tuple(int(n) for n in np.atleast_1d(record["shape"]))
    count, codes = math.prod(shape), np.ascontiguousarray(record["codes"])
    if bits not in (1, 2, 4) or min(shape, default=0) < 0 or count > LARGEST or codes.size != -(-count * bits // 8):
        raise ValueError(f"cannot hold {count} values of {bits} bits")
    digits = np.unpackbits(codes, count=count * bits, bitorder="little").reshape(-1, bits)
    values = (digits << np.arange(bits, dtype=np.uint8)).sum(axis=1, dtype=np.int64)
    unpacked: np.ndarray = (int(record["offset"]) + int(record["step"]) * values).reshape(shape)
    return unpacked


def _places(columns: np.ndarray, index: np.ndarray) -> np.ndarray:
    if columns.ndim < 1 or columns.dtype.kind not in "iu" or index.ndim != 2 or index.dtype != np.uint8:
        raise ValueError("holds columns or an index of an unknown kind")
    if math.prod(columns.shape[:-1]) * index.size > LARGEST:
        raise ValueError(f"cannot hold {columns.shape[:-1]} x {index.shape} values")
    if int(index.max(initial=0)) >= columns.shape[-1]:
        raise ValueError(f"names column {int(index.max(initial=0))} of {columns.shape[-1]}")
    unpacked: np.ndarray = columns[..., index]
    return unpacked


def _runs(values: np.ndarray, run: np.ndarray) -> np.ndarray:
    if values.ndim < 1 or values.dtype.kind not in "iu" or run.dtype != np.int32 or run.shape != ():
        raise ValueError("holds values or a run of an unknown kind")
    if int(run) < 1 or values.size * int(run) > LARGEST:
        raise ValueError(f"cannot hold {values.shape} values, {int(run)} times each")
    return np.repeat(values, int(run), axis=-1)

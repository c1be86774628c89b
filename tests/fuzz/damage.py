"""Damages of a file, by seed: of its bytes, and of what it says."""

from __future__ import annotations

import re

import h5py
import numpy as np


def damaged(raw: bytes, seed: int) -> bytes:
    """The bytes with one to three random damages: flipped bytes, a cut, zeros, a copied or foreign block, extreme numbers."""
    rng = np.random.default_rng(seed)
    data = bytearray(raw)
    for _ in range(int(rng.integers(1, 4))):
        if len(data) < 2:
            break
        at = int(rng.integers(0, len(data)))
        if rng.integers(2):
            at = min(at, int(rng.integers(0, 2048)))  # where most of a file's structure lies
        size = int(2 ** rng.uniform(0, min(12, np.log2(len(data)))))
        end = min(at + size, len(data))
        kind = rng.integers(7)
        if kind <= 1:
            for k in rng.integers(0, len(data), int(rng.integers(1, 12))):
                data[min(int(k), at) if kind else int(k)] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del data[max(at, len(data) // 3) :]
        elif kind == 3:
            data[at:end] = bytes(end - at)
        elif kind == 4:
            source = int(rng.integers(0, len(data)))
            data[at:end] = data[source : source + end - at]
        elif kind == 5:
            data[at:end] = rng.bytes(end - at)
        else:
            data[at : at + 8] = [b"\xff" * 8, b"\x7f" * 8, b"\0" * 8, (2**40).to_bytes(8, "little")][rng.integers(4)]
    return bytes(data)


def edited(file: h5py.File, seed: int) -> str:
    """One random change of an HDF5 file's structure; what was done, in words."""
    rng = np.random.default_rng(seed)
    places: list[str] = []
    file.visit(places.append)
    place = places[rng.integers(len(places))]
    item = file[place]
    values = {
        "nothing": h5py.Empty("f"), "a text": "text", "a number": 3.5, "a negative number": -7, "a huge number": 2**40, "NaN": np.nan,
        "no numbers": np.zeros(0), "texts": np.array(["a", "b"], dtype=h5py.string_dtype()), "a table": np.zeros(3, dtype=[("a", "f4")]),
        "complex numbers": np.ones(2, complex), "many axes": np.ones((1,) * 12), "one number": np.ones(1), "truth values": np.ones(3, bool),
        "bytes": np.void(b"abc"), "other shape": np.ones((3, 7)), "small numbers": np.full(3, 5e-324), "references": None,
        "huge shape": None, "unsigned": np.full((2, 2), 2**64 - 1, dtype=np.uint64), "half": np.ones(3, np.float16),
    }  # fmt: skip
    kind = rng.integers(8)
    if kind == 0 or "/" not in place:
        del file[place]
        return f"{place} deleted"
    if kind == 1:
        file.move(place, f"{place}_renamed")
        return f"{place} renamed"
    if kind == 2:
        file[f"{place}_again"] = item
        return f"{place} twice"
    if kind == 3 and isinstance(item, h5py.Group):
        item["loop"] = file["/"] if rng.integers(2) else h5py.SoftLink("/nowhere")
        return f"{place} holds a loop"
    if kind == 4 and isinstance(item, h5py.Dataset) and item.dtype.kind == "O":
        return f"{place}: {_other_text(file, place, rng)}"
    name = list(values)[rng.integers(len(values))]
    if isinstance(item, h5py.Group) and name != "huge shape" and rng.integers(2):
        file[f"{place}/extra"] = 1.0
        return f"{place} holds more"
    del file[place]
    if name == "huge shape":
        file.create_dataset(place, (2**40,), "f4", chunks=(1024,))
    elif name == "references":
        file.create_dataset(place, (2,), h5py.ref_dtype)
    else:
        file[place] = values[name]
    return f"{place} is {name}"


def _other_text(file: h5py.File, place: str, rng: np.random.Generator) -> str:
    """Change a text: another type, another name in an edge, another value in JSON."""
    old = file[place][()]
    if isinstance(old, np.ndarray):
        names = [*{n.decode() for n in old.ravel()}, "nobody", ""]
        new = old.copy()
        new.ravel()[rng.integers(new.size)] = names[rng.integers(len(names))]
        if rng.integers(3) == 0:
            new = np.concatenate([new, new[::-1, ::-1] if new.ndim == 2 else new])
    else:
        text = old.decode()
        marks = list(re.finditer(r"\d+\.?\d*|true|false|null|\"[^\"]*\"|\[[^\[\]]*\]", text))
        others = ['"x"', "null", "-1", "1e999", "NaN", "[]", "{}", "1152921504606846976", "true", "0", '"input"', "[1, 2, 3]", "[-1]"]
        new = others[rng.integers(len(others))]
        if marks:
            m = marks[rng.integers(len(marks))]
            new = text[: m.start()] + new + text[m.end() :]
    del file[place]
    file.create_dataset(place, data=new, dtype=h5py.string_dtype())
    return f"now {new!r:.80}"

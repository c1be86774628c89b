"""Samples from ``data.npz``: ``x`` of shape (N, shape) or (N, T, shape), labels ``y`` of shape (N,) if there are any."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snncompile import files
from snncompile.errors import CompileError, fail

Array = npt.NDArray[Any]
TEACHER = "teacher."
"""What the names of a teacher's activities begin with; the layer's name follows."""
RECIPE = "write it with numpy.savez('data.npz', x=images, y=labels)"


@dataclass(frozen=True, eq=False)
class Data:
    """``x`` (N, T | 1, *shape), floating; ``y`` (N,) or None; ``source`` in words, ``grid`` (low, high, step) if the type tells;
    ``extra`` the other arrays of the file that have a number per sample, and a teacher's as they are, by name; ``by_name`` the samples of
    every input where there are several, of which ``x`` is then the first."""

    x: Array
    y: Array | None
    source: str
    sha256: str | None = None
    grid: tuple[float, float, float] | None = None
    extra: Mapping[str, Array] | None = None
    by_name: Mapping[str, Array] = field(default_factory=dict)

    @property
    def samples(self) -> Array | Mapping[str, Array]:
        """The samples, by input where there are several."""
        return self.by_name or self.x

    def __len__(self) -> int:
        return len(self.x)

    def first(self, count: int) -> Data:
        """The first samples."""
        return self._cut(slice(count))

    def since(self, start: int) -> Data:
        """The samples from ``start`` on."""
        return self._cut(slice(start, None))

    def part(self, start: int, stop: int) -> Data:
        """The samples from ``start`` to before ``stop``."""
        return self._cut(slice(start, stop))

    def _cut(self, part: slice) -> Data:
        extra = None if self.extra is None else {k: v[part] if _beside(v, len(self)) else v for k, v in self.extra.items()}
        by_name = {k: v[part] for k, v in self.by_name.items()}
        return replace(self, x=self.x[part], y=None if self.y is None else self.y[part], extra=extra, by_name=by_name)


def load_data(path: Path, shape: tuple[int, ...] | Mapping[str, tuple[int, ...]], steps: int) -> Data:
    """Read and check a file; ``shape`` by input where there are several, whose arrays the file holds under their names.

    Errors  SNN001 to SNN003 no such file; SNN020 not an .npz; SNN021 no x; SNN022 shape; SNN023 not numbers; SNN024 NaN or infinity;
            SNN025 empty; SNN026 labels
    """
    files.check_file(path)
    raw = files.read(path)
    shapes = dict(shape) if isinstance(shape, Mapping) else {"x": shape}
    names = ", ".join(f"{name}=..." for name in shapes)
    recipe = RECIPE if list(shapes) == ["x"] else f"write it with numpy.savez('data.npz', {names}, y=labels)"
    arrays = _arrays(path, raw)
    found = {name: _samples(path, name, arrays, size, steps, recipe) for name, size in shapes.items()}
    counts = {name: len(values) for name, (values, _) in found.items()}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{k} of {name!r}" for name, k in counts.items())
        raise fail("SNN022", f"{path} holds different numbers of samples: {shown}", help="give every input as many samples")
    x, grid = next(iter(found.values()))
    grid = grid if all(g == grid for _, g in found.values()) else None
    y = _labels(path, arrays["y"], len(x)) if "y" in arrays else None
    extra = {k: v for k, v in arrays.items() if k not in (*shapes, "y") and (k.startswith(TEACHER) or _beside(v, len(x)))}
    by_name = {name: values for name, (values, _) in found.items()} if isinstance(shape, Mapping) else {}
    return Data(x, y, str(path), hashlib.sha256(raw).hexdigest(), grid, extra, by_name)


def _beside(array: Array, count: int) -> bool:
    return bool(array.ndim) and len(array) == count and array.dtype.kind in "biuf"


def _samples(
    path: Path, name: str, arrays: Mapping[str, Array], shape: tuple[int, ...], steps: int, recipe: str
) -> tuple[Array, tuple[float, float, float] | None]:  # fmt: skip
    """The samples of one input, and the grid on which their type lies."""
    if name not in arrays:
        names = ", ".join(f"{k} {list(v.shape)}" for k, v in arrays.items()) or "nothing"
        raise fail("SNN021", f"{path} has no array '{name}'", notes=[f"it holds {names}"], help=recipe)
    x = _numbers(path, name, arrays[name])
    grid = {"b": (0.0, 1.0, 1.0), "u": (0.0, 255.0, 1.0)}.get(x.dtype.kind) if x.dtype.itemsize == 1 else None
    if x.size == 0:
        raise fail("SNN025", f"{path} holds no samples: {name} has shape {list(x.shape)}", help=recipe)
    x = _with_time(path, x, shape, steps, name)
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        k = int(np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1))[0])
        raise fail("SNN024", f"{name} in {path} holds NaN or infinity, first in sample {k}", help="clean the data; nothing is guessed here")
    return x.astype(np.float64 if x.dtype.itemsize > 4 else np.float32), grid


def _arrays(path: Path, raw: bytes) -> dict[str, Array]:
    if raw.startswith(b"\x93NUMPY"):
        raise fail("SNN020", f"{path} is a single array (.npy), expected an .npz with x and optional y", help=RECIPE)
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
            wanted = [n for n in archive.files if n in ("x", "y") or n.startswith(TEACHER)]
            return {name: archive[name] for name in (wanted if "x" in wanted else archive.files)}
    except ValueError as e:
        if "Object arrays" in str(e):
            raise fail("SNN023", f"{path} holds pickled objects, which could run code when loaded", help="save arrays of numbers") from e
        raise fail("SNN020", f"{path} is not an .npz file", help=RECIPE) from e
    except (*files.BAD_ZIP, AttributeError, TypeError, SyntaxError, IndexError) as e:
        damaged = raw.startswith(b"PK")
        raise fail("SNN020", f"{path} is {'a truncated or damaged' if damaged else 'not an'} .npz file", help=RECIPE) from e


def _numbers(path: Path, name: str, array: Array) -> Array:
    if array.dtype.kind not in "biuf":
        raise fail("SNN023", f"{name} in {path} holds {array.dtype}, not real numbers", help="save arrays of numbers")
    return array


def _with_time(path: Path, x: Array, shape: tuple[int, ...], steps: int, name: str) -> Array:
    if x.shape[1:] == shape:
        return x[:, None]
    if x.shape[2:] == shape and x.ndim > 1 and x.shape[1] in (1, steps):
        return x
    sizes = ", ".join(map(str, shape))
    raise fail(
        "SNN022",
        f"{name} in {path} has shape {list(x.shape)}, this network wants [N, {sizes}] or [N, {steps}, {sizes}]",
        notes=["[N, ...] shows each sample at every step, [N, T, ...] gives each step its own input"],
        help=_way_out(x.shape, shape, steps),
    )


def _way_out(found: tuple[int, ...], shape: tuple[int, ...], steps: int) -> str:
    """The NumPy expression that would mend a common mistake."""
    if found == shape:
        return "a single sample needs a leading axis: x[None]"
    if len(shape) == 3:
        c, h, w = shape
        if found[1:] == (h, w) and c == 1:
            return "add the channel axis: x[:, None]"
        if found[1:] == (h, w, c):
            return "channels come first: x.transpose(0, 3, 1, 2)"
        if found[2:] == (h, w) and c == 1 and found[1] == steps:
            return "add the channel axis: x[:, :, None]"
    if len(found) == 2 and found[1] == int(np.prod(shape)):
        return f"x.reshape(len(x), {', '.join(map(str, shape))})"
    if len(shape) == 1 and int(np.prod(found[1:])) == shape[0]:
        return "flatten the samples: x.reshape(len(x), -1)"
    if found[2:] == shape and found[0] == steps:
        return "samples come first, then time: x.swapaxes(0, 1)"
    if found[2:] == shape:
        return f"the file has {found[1]} steps, the network runs {steps}; pick {steps} of them or compile with --steps {found[1]}"
    return "give samples of the shape that the network was compiled for"


def _labels(path: Path, y: Array, count: int) -> Array:
    def wrong(what: str, way_out: str | None = None) -> CompileError:
        return fail("SNN026", f"labels y in {path} {what}", help=way_out)

    y = _numbers(path, "y", y)
    if y.ndim == 2 and y.shape[0] == count and y.shape[1] > 1:
        raise wrong(f"have shape {list(y.shape)}, expected [{count}] class numbers", "one-hot labels: y.argmax(axis=1)")
    if y.size != count or y.ndim > 2:
        raise wrong(f"have shape {list(y.shape)}, x has {count} samples", "give one class number per sample")
    whole = y.reshape(count)
    if not np.all(np.isfinite(whole)) or np.any(whole != np.rint(whole)) or whole.min() < -1 or whole.max() >= 2**31:
        raise wrong("are not all class numbers 0, 1, 2..., or -1 for none", "give a whole number per sample; classes count from 0")
    return whole.astype(np.int64)


def check_labels(data: Data, classes: int) -> None:
    """Raise SNN026 for a label that the network has no output for."""
    if data.y is not None and data.y.size and int(data.y.max()) >= classes:
        message = f"labels y in {data.source} reach {int(data.y.max())}, the network has {classes} outputs"
        raise fail("SNN026", message, help="classes count from 0")


def check_range(data: Data, known: tuple[float, float, float]) -> None:
    """Raise SNN027 for samples outside of the range that the network was trained on."""
    low, high, _ = known
    for name, x in (data.by_name or {"x": data.x}).items():
        least, most = float(x.min()), float(x.max())
        if low <= least and most <= high:
            continue
        message = f"{name} in {data.source} holds {least:g}..{most:g}, the network's input lies in {low:g}..{high:g}"
        raise fail("SNN027", message, help="give the values that the network was trained on, before any normalisation of its own")


__all__ = ["Data", "check_labels", "check_range", "load_data"]

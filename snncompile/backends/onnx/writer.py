"""A growing ONNX graph: nodes in order, constants stored once, every value with a name of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from snncompile.ir.graph import Array

SMALL = 64
"""Constants with fewer values are stored as int64, larger ones in the smallest type with a cast behind."""


class Writer:
    """Collects nodes and initializers. ``prefix`` and ``doc`` name the population or synapse that is being written."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.prefix = ""
        self.doc = ""
        self._taken: set[str] = set()
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def reserve(self, *names: str) -> None:
        """Keep names for the model's inputs and outputs."""
        self._taken.update(names)

    def op(self, kind: str, *inputs: str, label: str | None = None, into: str | None = None, **attributes: Any) -> str:
        """Append a node; the name of its value: ``into``, or ``prefix/label`` made unique."""
        name = into or self._fresh(f"{self.prefix}/{label or kind.lower()}")
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"{name}:{kind}", doc_string=self.doc or None, **attributes))
        return name

    def whole(self, values: Array, label: str = "constant") -> str:
        """An int64 constant; large ones are stored in the smallest type that holds them."""
        array = np.asarray(values, dtype=np.int64)
        small = smallest(array)
        if array.size < SMALL or small.dtype == np.int64:
            return self._store(array, label)
        return self.op("Cast", self._store(small, label), label=f"{label}/int64", to=TensorProto.INT64)

    def real(self, values: Array, kind: int, label: str) -> str:
        """Whole numbers as a constant of a floating type (``TensorProto.FLOAT`` or ``DOUBLE``), stored as integers."""
        return self.op("Cast", self._store(smallest(np.asarray(values, dtype=np.int64)), label), label=f"{label}/real", to=kind)

    def number(self, value: int) -> str:
        """An int64 scalar."""
        return self.whole(np.asarray(value), "number")

    def vector(self, *values: int) -> str:
        """An int64 vector: shapes, axes, pads."""
        return self.whole(np.asarray(values), "vector")

    def _store(self, array: Array, label: str) -> str:
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = self._fresh(f"{self.prefix}/{label}" if array.ndim else f"{label}/{array}")
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
            self._constants[key] = name
        return self._constants[key]

    def _fresh(self, wish: str) -> str:
        wish = wish.lstrip("/")
        name, k = wish, 1
        while name in self._taken:
            k += 1
            name = f"{wish}~{k}"
        self._taken.add(name)
        return name


def smallest(array: Array) -> Array:
    """The same integers in the smallest signed type that holds them."""
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    kind = next(k for k in (np.int8, np.int16, np.int32, np.int64) if np.iinfo(k).min <= low and high <= np.iinfo(k).max)
    return array.astype(kind)


__all__ = ["Writer", "smallest"]

"""One ONNX node with plain Python attributes, and the table of the operators that are understood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import onnx
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper

Run = Callable[..., Any]
Refuse = Callable[["Node"], str | None]

DTYPES: dict[int, torch.dtype] = {  # half precision is read as float32, which holds it exactly; arithmetic is in float32
    TensorProto.FLOAT: torch.float32, TensorProto.DOUBLE: torch.float64, TensorProto.FLOAT16: torch.float32,
    TensorProto.BFLOAT16: torch.float32, TensorProto.BOOL: torch.bool, TensorProto.UINT8: torch.uint8, TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16, TensorProto.INT32: torch.int32, TensorProto.INT64: torch.int64,
}  # fmt: skip


@dataclass(frozen=True)
class Node:
    """A node: its operator with the opset's version, the names of its values ("" for an input left out), its attributes.

    ``number`` counts from 1 in the file's order; ``scope`` is the path of the PyTorch module it came from, if the file tells;
    ``file``, ``line`` and ``function`` say where the user wrote it: in the file that was exported, else as number in the ONNX file.
    """

    op: str
    name: str
    number: int
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    scope: str = ""
    file: str = ""
    line: int = 0
    function: str = ""

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        return self.attributes.get(name, default)


@dataclass(frozen=True)
class Operator:
    """How PyTorch runs an operator: ``run(node, *inputs)`` gives its output, or a tuple of them. ``refuse(node)`` says what is not taken.

    ``static`` numbers the inputs that must not depend on the network's input: shapes, axes, indices.
    """

    run: Run
    refuse: Refuse | None = None
    static: tuple[int, ...] = ()


OPERATORS: dict[str, Operator] = {}


def operator(*names: str, refuse: Refuse | None = None, static: tuple[int, ...] = ()) -> Callable[[Run], Run]:
    """Register how operators run."""

    def register(run: Run) -> Run:
        OPERATORS.update({name: Operator(run, refuse, static) for name in names})
        return run

    return register


def attributes(proto: NodeProto) -> dict[str, Any]:
    """Attributes as Python values: texts decoded, tensors as PyTorch's."""
    return {a.name: _plain(helper.get_attribute_value(a)) for a in proto.attribute if not a.ref_attr_name}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, onnx.TensorProto):
        return tensor(value)
    if isinstance(value, (onnx.GraphProto, onnx.SparseTensorProto, onnx.TypeProto)):
        return None
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def tensor(proto: onnx.TensorProto) -> torch.Tensor:
    """A stored tensor; raises ValueError for types that PyTorch lacks."""
    if proto.data_type not in DTYPES:
        raise ValueError(f"tensor '{proto.name}' holds {TensorProto.DataType.Name(proto.data_type)}")
    array = numpy_helper.to_array(proto)
    kind = DTYPES[proto.data_type]
    return torch.from_numpy(array.astype("float32") if kind == torch.float32 else array.copy())


def numbers(value: torch.Tensor | None) -> list[int]:
    """Whole numbers of a static input, as a list."""
    return [] if value is None else [int(v) for v in value.reshape(-1).tolist()]


__all__ = ["DTYPES", "OPERATORS", "Node", "Operator", "attributes", "numbers", "operator", "tensor"]

"""Read an ONNX file: checked, functions inlined, every operator known, every shape known but for the batch.

SNN170 not an ONNX file, or a damaged one        SNN171 shapes that the file leaves open
SNN172 operators that are not understood         SNN177 a program that snncompile wrote itself
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.inliner
import torch
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from snncompile.capture.onnx.node import DTYPES, Node, attributes, tensor
from snncompile.errors import fail
from snncompile.files import check_file

OLDEST_OPSET = 7
FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')


@dataclass(frozen=True)
class Value:
    """An input or output: name, sizes with the batch first (None where the file leaves one open), type."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: torch.dtype

    def __str__(self) -> str:
        sizes = "?" if self.shape is None else ", ".join("?" if n is None else str(n) for n in self.shape)
        return f"'{self.name}' [{sizes}]"


@dataclass(frozen=True)
class OnnxFile:
    """What is in the file; ``stored`` are its tensors."""

    path: Path
    opset: int
    producer: str
    metadata: dict[str, str]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    stored: dict[str, torch.Tensor]


def read_onnx(path: Path) -> OnnxFile:
    """Read a file (SNN170, SNN177)."""
    check_file(path)
    model = _load(path)
    metadata = {p.key: p.value for p in model.metadata_props}
    if model.producer_name == "snncompile" and "snncompile.states" in metadata:
        raise fail(
            "SNN177", f"{path} is a step model that snncompile wrote: its integers are the chip's already",
            help="compile the network it was made from, or run the bundle: snncompile run BUNDLE --backend onnx",
        )  # fmt: skip
    opsets = {o.domain or "ai.onnx": o.version for o in model.opset_import}
    opset = opsets.get("ai.onnx", 0)
    if opset < OLDEST_OPSET:
        raise fail("SNN170", f"{path} uses version {opset} of ONNX's operators", help=f"export it again with opset {OLDEST_OPSET} or newer")
    graph = model.graph
    try:
        stored = {t.name: tensor(t) for t in graph.initializer}
        nodes = tuple(_node(proto, k, opset, path) for k, proto in enumerate(graph.node, start=1))
    except ValueError as e:
        raise fail("SNN170", f"{path} cannot be read: {e}") from e
    if graph.sparse_initializer:
        raise fail("SNN170", f"{path} stores sparse tensors", help="store them dense")
    inputs = tuple(_value(path, v) for v in graph.input if v.name not in stored)
    return OnnxFile(
        path, opset, f"{model.producer_name} {model.producer_version}".strip(), metadata, inputs,
        tuple(_value(path, v) for v in graph.output), nodes, stored,
    )  # fmt: skip


def _load(path: Path) -> ModelProto:
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
        return onnx.inliner.inline_local_functions(model) if model.functions else model
    except MemoryError:
        raise
    except Exception as e:  # protobuf, the checker and the loader of weights raise a dozen kinds
        reason = " ".join(str(e).split())[:200] or type(e).__name__
        if "stored in" in reason or "external data" in reason.lower() or isinstance(e, FileNotFoundError):
            way_out = "PyTorch writes large weights into a file of their own, NAME.onnx.data: put it beside the model"
            raise fail("SNN170", f"{path} has its weights in another file, which cannot be read", notes=[reason], help=way_out) from e
        what = "is not an ONNX file, or a damaged one" if "pars" in reason.lower() or "decod" in reason.lower() else "is no valid ONNX file"
        raise fail("SNN170", f"{path} {what}", notes=[reason], help="export or copy it again") from e


def _node(proto: NodeProto, number: int, opset: int, path: Path) -> Node:
    told = {p.key: p.value for p in proto.metadata_props}
    frames = [f for f in FRAME.findall(told.get("pkg.torch.onnx.stack_trace", "")) if "site-packages" not in f[0] and "/torch/" not in f[0]]
    file, line, function = frames[-1] if frames else (path.name, number, re.sub(r"\s+", "_", proto.name) or proto.op_type)
    op = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
    return Node(
        op=op, name=proto.name or f"{proto.op_type} writing '{proto.output[0]}'", number=number, opset=opset,
        inputs=tuple(proto.input), outputs=tuple(proto.output), attributes=attributes(proto), scope=_scope(proto.name, told),
        file=file, line=int(line), function=function,
    )  # fmt: skip


def _scope(name: str, told: dict[str, str]) -> str:
    """The module that a node came from: PyTorch's newer exporter writes it into the metadata, the older one into the name."""
    try:
        scopes = ast.literal_eval(told.get("pkg.torch.onnx.name_scopes", "[]"))
    except (ValueError, SyntaxError):
        scopes = []
    if len(scopes) > 2:
        return str(scopes[-2])
    parts = [part for part in name.split("/") if part]
    return ".".join(parts[:-1]) if name.startswith("/") else ""


def _value(path: Path, proto: ValueInfoProto) -> Value:
    kind = proto.type.tensor_type
    if not proto.type.HasField("tensor_type") or kind.elem_type not in DTYPES:
        held = TensorProto.DataType.Name(kind.elem_type) if proto.type.HasField("tensor_type") else "no tensor"
        raise fail("SNN170", f"{path}: '{proto.name}' holds {held}", help="inputs and outputs are tensors of numbers")
    shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim) if kind.HasField("shape") else None
    return Value(proto.name, shape, DTYPES[kind.elem_type])


__all__ = ["OnnxFile", "Value", "read_onnx"]

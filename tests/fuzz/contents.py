"""Files that are whole, but hold something else than they should, by seed: ONNX graphs, PyTorch files, data."""

from __future__ import annotations

import argparse
from collections import OrderedDict

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper


def other_onnx(model: onnx.ModelProto, seed: int) -> str:
    """One random change of an ONNX model; what was done, in words."""
    rng = np.random.default_rng(seed)
    graph = model.graph
    node = graph.node[rng.integers(len(graph.node))]
    names = [*(n for k in graph.node for n in (*k.input, *k.output)), "nobody", ""]
    tensor = graph.initializer[rng.integers(len(graph.initializer))] if graph.initializer else onnx.TensorProto()
    value = [*graph.input, *graph.output][rng.integers(len(graph.input) + len(graph.output))]
    kind = int(rng.integers(16))
    if kind == 0:
        graph.node.remove(node)
    elif kind == 1 and node.input:
        node.input[rng.integers(len(node.input))] = names[rng.integers(len(names))]
    elif kind == 2:
        node.output[rng.integers(len(node.output))] = names[rng.integers(len(names))]
    elif kind == 3:
        node.op_type = ["Conv", "Add", "Softmax", "Loop", "Gather", "Reshape", "", "NoSuchOp", "Gemm", "Where", "Cast", "Split"][
            rng.integers(12)
        ]
    elif kind == 4:
        node.domain = ["com.microsoft", "ai.onnx.ml", "x"][rng.integers(3)]
    elif kind == 5 and node.attribute:
        del node.attribute[rng.integers(len(node.attribute))]
    elif kind == 6:
        name = node.attribute[0].name if node.attribute else "axis"
        others = [-9, 2**40, 0.5, "text", [1, 2, 3, 4, 5, 6, 7], [-1], [], helper.make_tensor("t", 1, [2], [1.0, 2.0])]
        value_ = others[rng.integers(len(others))]
        del node.attribute[:]
        if value_ != []:
            node.attribute.append(helper.make_attribute(name, value_))
    elif kind == 7:
        graph.initializer.remove(tensor) if graph.initializer else None
    elif kind == 8:
        tensor.dims[:] = [[2**40], [-1], [0], [], [3, 3], [2**31, 2**31]][rng.integers(6)]
    elif kind == 9:
        tensor.data_type = int(rng.integers(0, 24))
    elif kind == 10:
        odd = [np.nan, np.inf, 1e300, 0.0][rng.integers(4)]
        array = numpy_helper.to_array(tensor).copy() if tensor.raw_data or tensor.float_data else np.zeros(2, np.float32)
        with np.errstate(over="ignore"):
            tensor.CopyFrom(numpy_helper.from_array(np.full_like(array, odd, dtype=np.float32), tensor.name))
    elif kind == 11:
        value.type.tensor_type.elem_type = int(rng.integers(0, 24))
    elif kind == 12:
        value.type.tensor_type.shape.CopyFrom(onnx.TensorShapeProto())
        for size in [[1, 0], [2, 8], [1, 8, 8], [2**40], []][rng.integers(5)]:
            value.type.tensor_type.shape.dim.add().dim_value = size
    elif kind == 13:
        value.name = names[rng.integers(len(names))]
    elif kind == 14:
        graph.node.append(node)
    else:
        model.opset_import[0].version = int([0, 1, 6, 999, -3][rng.integers(5)])
    return f"change {kind} at {node.op_type}"


class Stranger:
    """An object that only a pickle can hold."""


def other_weights(state: dict[str, torch.Tensor], seed: int) -> object:
    """Something that torch.save writes and is not quite the network's weights."""
    rng = np.random.default_rng(seed)
    found: dict[object, object] = OrderedDict((k, v.clone()) for k, v in state.items())
    key = list(found)[rng.integers(len(found))]
    tensor = state[str(key)]
    values: list[object] = [
        tensor.double(), tensor.half(), tensor.int(), tensor.bool(), tensor.to(torch.complex64), tensor.to_sparse(), tensor[..., :1],
        tensor[None],
        torch.zeros(0), torch.tensor(1.0), torch.full_like(tensor, torch.nan), torch.full_like(tensor, torch.inf), None, 3, "text", [1, 2],
        tensor.numpy(), torch.nn.Parameter(tensor), {"weight": tensor}, torch.empty_like(tensor, device="meta"), tensor.T.contiguous().T,
        torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), tensor.to(torch.bfloat16), tensor.to(torch.float8_e4m3fn),
    ]  # fmt: skip
    kind = int(rng.integers(5))
    if kind == 0:
        del found[key]
    elif kind == 1:
        found[["extra", 7, None, "module.x", ("a",)][rng.integers(5)]] = tensor
    elif kind == 2:
        found = OrderedDict((f"module.{k}" if rng.integers(2) else k, v) for k, v in found.items())
    else:
        found[key] = values[rng.integers(len(values))]
    whole: list[object] = [
        found, {"state_dict": found}, {"net": {"model": found}}, {"a": found, "b": found}, [found],
        {"model": found, "args": argparse.Namespace(a=1)},
        {"model": found, "optimizer": Stranger()}, tensor, {"format": "snncompile-checkpoint", "state_dict": found}, None, {}, {"net": {}},
        {"state_dict": 3}, "text",
    ]  # fmt: skip
    return whole[rng.integers(len(whole)) if rng.integers(2) else 0]


def other_data(x: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Arrays for an .npz that are not quite samples."""
    rng = np.random.default_rng(seed)
    values = [
        x[:0], x[0], x[:, 0], x[..., :-1], x.astype(complex), x.astype(str), x.astype(object), x.astype("datetime64[s]"), np.float64(3.0),
        np.full(x.shape, np.nan), np.where(x, np.inf, 0.0), x * 1e300, x * -1.0, np.zeros((3,) * 9), x.astype([("a", "f4")]), x[:, :3],
        np.zeros(x.shape, np.float16), np.full(x.shape, 2**63, np.uint64), x.transpose(), np.asfortranarray(x), x.astype(">f8"),
        np.void(b"abc"),
        np.full(x.shape, 5e-324), np.full(x.shape, 2**62, np.int64), x.astype(np.longdouble),
    ]  # fmt: skip
    labels = [
        None, np.arange(len(x)), np.arange(len(x)) - 3, np.full(len(x), 2**62), np.full(len(x), 0.5), np.array(["a"] * len(x)),
        np.zeros((len(x), 5)),
        np.arange(3), np.zeros(0), np.full(len(x), np.nan), np.array(3), np.array([None] * len(x)), np.zeros((len(x), 1), bool),
    ]  # fmt: skip
    found = {["x", "X", "data", "arr_0"][rng.integers(4)] if rng.integers(6) == 0 else "x": np.asarray(values[rng.integers(len(values))])}
    y = labels[rng.integers(len(labels))]
    return found if y is None else found | {"y": np.asarray(y)}

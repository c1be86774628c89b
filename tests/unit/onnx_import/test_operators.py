# ruff: noqa: E501 - several cases a line
"""Every operator that is understood, run by the imported module and by ONNX Runtime on the same values."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from snncompile.capture.onnx.file import read_onnx
from snncompile.capture.onnx.fixed import check_operators, find_fixed
from snncompile.capture.onnx.module import OnnxNetwork
from snncompile.capture.onnx.node import OPERATORS
from snncompile.capture.onnx.states import Roles

RNG = np.random.default_rng(0)
F, I = np.float32, np.int64  # noqa: E741


def real(*shape, low=-2.0, high=2.0):
    return RNG.uniform(low, high, shape).astype(F)


def whole(*values):
    return np.array(values, dtype=I)


def bits(*shape):
    return RNG.random(shape) > 0.5


def case(op, *given, opset=17, outputs=1, constant=None, **attributes):
    """``given``: the inputs; those after the first are stored in the file, unless ``constant`` names the first stored one."""
    return pytest.param(op, given, constant, opset, outputs, attributes, id=f"{op}-{opset}-{'-'.join(attributes)}")


X = real(2, 3)
IMAGE = real(1, 4, 7, 6)
CASES = [
    *(case(op, real(2, 3)) for op in ("Neg", "Abs", "Exp", "Floor", "Ceil", "Sign", "Sigmoid", "Tanh", "Sin", "Cos", "Erf", "Softplus", "Relu", "Identity", "IsNaN")),
    *(case(op, real(2, 3, low=0.1)) for op in ("Log", "Sqrt", "Reciprocal")),
    case("Round", np.array([[0.5, 1.5, 2.5, -0.5, -1.5]], F)),
    *(case(op, real(2, 3), real(3), constant=9) for op in ("Add", "Sub", "Mul", "Div", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")),
    *(case(op, np.round(real(2, 3)), np.round(real(2, 1))) for op in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")),
    *(case(op, bits(2, 3), bits(3), constant=9) for op in ("And", "Or", "Xor")), case("Not", bits(2, 3)),
    case("Pow", real(2, 3, low=0.1), np.array(3, F)), case("Pow", real(2, 3), np.array(2, I)),
    case("Div", whole(7, -7, 8), whole(2, 2, -3)), case("Mod", whole(7, -7, 8), whole(3, 3, -3)),
    case("Mod", np.array([7.5, -7.5], F), np.array([2, 2], F), fmod=1),
    case("Sum", X, X + 1, X * 2), case("Mean", X, X + 1, X * 2), case("Min", X, -X, np.zeros_like(X)), case("Max", X, -X),
    case("Clip", X, np.array(-1, F), np.array(0.5, F)), case("Clip", X, np.array(0, F)), case("Clip", X, opset=9, min=-0.5, max=0.5),
    case("LeakyRelu", X, alpha=0.3), case("ThresholdedRelu", X, alpha=0.5), case("HardSigmoid", X, alpha=0.3), case("PRelu", X, real(3)),
    case("Where", bits(2, 3), X, real(3), constant=9), case("Cast", X, to=onnx.TensorProto.INT64), case("Cast", bits(2, 3), to=onnx.TensorProto.FLOAT),
    case("Cast", np.array([0.0, 0.5, -2], F), to=onnx.TensorProto.BOOL), case("CastLike", bits(2, 3), X), case("Dropout", X),
    case("Conv", IMAGE, real(6, 4, 3, 3), real(6)), case("Conv", IMAGE, real(4, 1, 3, 2), group=4, strides=[2, 1], pads=[1, 0, 2, 1]),
    case("Conv", IMAGE, real(2, 4, 3, 3), dilations=[2, 1], pads=[1, 1, 1, 1]), case("Conv", IMAGE, real(2, 4, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    case("Conv", IMAGE, real(2, 4, 2, 2), auto_pad="SAME_LOWER"), case("Conv", IMAGE, real(2, 4, 2, 2), auto_pad="VALID"),
    case("Conv", real(1, 3, 9), real(2, 3, 4), real(2), strides=[2], pads=[1, 2]),
    case("Gemm", X, real(4, 3), real(4), transB=1), case("Gemm", X, real(3, 4)), case("Gemm", X, real(3, 4), real(2, 4), alpha=0.5, beta=2.0),
    case("Gemm", real(3, 2), real(3, 4), np.array(1.5, F), transA=1), case("Gemm", X, real(3, 4), real(4), beta=0.0), case("Gemm", X, real(3, 4), real(1)),
    case("MatMul", X, real(3, 4)), case("MatMul", real(2, 5, 3), real(3, 4)), case("MatMul", real(3), real(3, 4)),
    case("BatchNormalization", IMAGE, real(4), real(4), real(4), real(4, low=0.1), epsilon=0.01),
    case("AveragePool", IMAGE, kernel_shape=[2, 3], strides=[2, 1]), case("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1), case("AveragePool", IMAGE, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[0, 1, 2, 1], strides=[2, 2]), case("AveragePool", IMAGE, kernel_shape=[2, 2], auto_pad="SAME_UPPER"),
    case("AveragePool", real(1, 3, 9), kernel_shape=[3], strides=[2]),
    case("MaxPool", IMAGE, kernel_shape=[2, 2], strides=[2, 2]), case("MaxPool", IMAGE, kernel_shape=[3, 3], pads=[0, 1, 2, 1], dilations=[1, 1]),
    case("GlobalAveragePool", IMAGE), case("GlobalMaxPool", IMAGE),
    case("ReduceMean", IMAGE, axes=[2, 3], keepdims=0), case("ReduceMean", IMAGE, whole(1), opset=18), case("ReduceSum", IMAGE, whole(-1), keepdims=0),
    case("ReduceMax", IMAGE, axes=[1]), case("ReduceMin", IMAGE), case("ReduceSum", X, noop_with_empty_axes=1), case("ReduceSum", X),
    case("Reshape", IMAGE, whole(0, -1)), case("Reshape", IMAGE, whole(2, 84)), case("Flatten", IMAGE), case("Flatten", IMAGE, axis=-2), case("Flatten", IMAGE, axis=0),
    case("Transpose", IMAGE, perm=[0, 2, 3, 1]), case("Transpose", X), case("Squeeze", real(1, 3, 1)), case("Squeeze", real(1, 3, 1), whole(-1)),
    case("Squeeze", real(1, 3, 1), opset=11, axes=[0]), case("Unsqueeze", X, whole(0, -1)), case("Unsqueeze", X, opset=11, axes=[1]),
    case("Concat", X, X + 1, axis=-1, constant=9), case("Split", real(4, 6), outputs=2, axis=1), case("Split", real(4, 6), whole(1, 5), outputs=2, axis=1),
    case("Split", real(4, 7), outputs=3, axis=1, opset=18, num_outputs=3), case("Split", real(4, 6), outputs=2, opset=11, split=[1, 3]),
    case("Slice", IMAGE, whole(1, -3), whole(3, 10**9), whole(1, 3)), case("Slice", X, whole(-1), whole(-(10**9)), whole(1), whole(-1)),
    case("Slice", IMAGE, whole(6), whole(0), whole(2), whole(-2)), case("Slice", IMAGE, opset=9, starts=[1], ends=[3], axes=[2]), case("Slice", real(9), whole(1), whole(8), whole(0), whole(3)),
    case("Gather", IMAGE, np.array(-1, I), axis=1), case("Gather", IMAGE, whole(2, 0, 2), axis=2), case("Gather", X, np.array([[0, 1], [1, -1]], I)),
    case("Expand", real(3, 1), whole(2, 1, 4)), case("Tile", X, whole(2, 3)), case("Pad", X, whole(0, 1, 2, 0)), case("Pad", IMAGE, whole(0, 0, -1, 1, 0, 0, 2, -1), np.array(1.5, F)),
    case("Pad", IMAGE, whole(1, 2), np.array(0, F), whole(2), opset=18), case("Pad", X, opset=9, pads=[0, 0, 1, 1], value=0.5),
    case("DepthToSpace", IMAGE, blocksize=2, mode="CRD"), case("Resize", IMAGE, np.array([], F), np.array([1, 1, 2, 3], F), coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    case("Shape", IMAGE), case("Shape", IMAGE, start=1, end=3), case("Size", IMAGE),
]  # fmt: skip


def model_of(op, given, constant, opset, outputs, attributes):
    first = 1 if constant is None else constant
    names = [f"i{k}" for k in range(len(given))]
    kinds = [helper.np_dtype_to_tensor_dtype(v.dtype) for v in given]
    node = helper.make_node(op, names, [f"o{k}" for k in range(outputs)], **attributes)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info(n, k, v.shape) for n, k, v in list(zip(names, kinds, given, strict=True))[:first]],
        [helper.make_empty_tensor_value_info(o) for o in node.output],
        [numpy_helper.from_array(v, n) for n, v in list(zip(names, given, strict=True))[first:]],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def module_of(file):
    roles = Roles(file.inputs, file.outputs, {}, {})
    fixed = find_fixed(file, roles)
    check_operators(file, fixed)
    return OnnxNetwork(file, roles, fixed, {}, "step")


@pytest.mark.parametrize(("op", "given", "constant", "opset", "outputs", "attributes"), CASES)
def test_an_operator_computes_what_onnx_runtime_computes(op, given, constant, opset, outputs, attributes, tmp_path):
    model = model_of(op, given, constant, opset, outputs, attributes)
    onnx.save(model, tmp_path / "m.onnx")
    file = read_onnx(tmp_path / "m.onnx")
    module = module_of(file)
    mine = module.step(*(torch.from_numpy(v.copy()) for v in given[: len(file.inputs)]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    theirs = session.run(None, {v.name: x for v, x in zip(file.inputs, given, strict=False)})
    for a, b in zip(mine, theirs, strict=True):
        assert a.shape == b.shape
        assert a.numpy().dtype == b.dtype
        assert np.allclose(a.numpy(), b, rtol=1e-5, atol=1e-5)


def test_every_operator_has_a_case():
    indirect = {"Constant", "ConstantOfShape", "Range"}  # without inputs of their own: the next test
    assert {p.values[0] for p in CASES} | indirect == OPERATORS.keys()


def test_shapes_are_computed_without_leaving_a_trace_in_the_network(tmp_path):
    """Constant, Shape, Gather, Concat, ConstantOfShape and Range around a reshape, as exporters write it."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]), helper.make_node("Constant", [], ["zero"], value_int=0),
        helper.make_node("Gather", ["shape", "zero"], ["n"]), helper.make_node("Constant", [], ["axis"], value_ints=[0]),
        helper.make_node("Unsqueeze", ["n", "axis"], ["n1"]), helper.make_node("Constant", [], ["rest"], value_ints=[-1]),
        helper.make_node("Concat", ["n1", "rest"], ["target"], axis=0), helper.make_node("Reshape", ["x", "target"], ["flat"]),
        helper.make_node("ConstantOfShape", ["target1"], ["ones"], value=numpy_helper.from_array(np.ones(1, F))),
        helper.make_node("Range", ["zero", "three", "one"], ["count"]), helper.make_node("Cast", ["count"], ["real"], to=1),
        helper.make_node("Mul", ["flat", "real"], ["scaled"]), helper.make_node("Add", ["scaled", "ones"], ["y"]),
    ]  # fmt: skip
    stored = [numpy_helper.from_array(v, n) for n, v in (("three", np.array(3, I)), ("one", np.array(1, I)), ("target1", whole(1, 3)))]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, ["N", 3, 1])], [helper.make_tensor_value_info("y", 1, ["N", 3])], stored
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    file = read_onnx(tmp_path / "m.onnx")
    module = module_of(file)
    x = real(5, 3, 1)
    theirs = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    assert np.allclose(module(torch.from_numpy(x)).numpy(), theirs)

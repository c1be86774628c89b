# ruff: noqa: E501 - messages as they are printed
"""One wrong input per code of ONNX files and ONNX Runtime, with the exact message."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from user_project import snn

import snncompile
from snncompile.backends.onnx.runtime import import_runtime
from snncompile.errors import CompileError

CASES = {}
ROOMS = ("capture/onnx", "backends/onnx")


def case(label: str, message: str):
    """Register a wrong input: a function that prepares files in the working folder and returns the command line's end."""

    def register(prepare):
        CASES[label] = (prepare, message.strip("\n"))
        return prepare

    return register


def value(name, *shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def save(nodes, inputs, outputs, opset=17, path="net.onnx", **model):
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("my.ops", 1)], ir_version=8, **model)
    onnx.save(made, path)
    return (path, "--steps", "3")


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), name=f"/net/{op}", **attributes)


@case(
    "SNN170 text",
    """
error[SNN170]: net.onnx is not an ONNX file, or a damaged one
  note: Error parsing message with type 'onnx.ModelProto': Wire format was corrupt
  help: export or copy it again
""",
)
def _():
    Path("net.onnx").write_text("hello")
    return ("net.onnx",)


@case(
    "SNN170 invalid",
    """
error[SNN170]: net.onnx is no valid ONNX file
  note: Nodes in a graph must be topologically sorted, however input 'nowhere' of node: name: /net/Add OpType: Add is not output of any previous nodes.
  help: export or copy it again
""",
)
def _():
    return save([node("Add", "x nowhere", "y")], [value("x", 1, 4)], [value("y", 1, 4)])


@case(
    "SNN170 opset",
    """
error[SNN170]: net.onnx uses version 6 of ONNX's operators
  help: export it again with opset 7 or newer
""",
)
def _():
    return save([node("Relu", "x", "y")], [value("x", 1, 4)], [value("y", 1, 4)], opset=6)


@case(
    "SNN170 texts",
    """
error[SNN170]: net.onnx: 'x' holds STRING
  help: inputs and outputs are tensors of numbers
""",
)
def _():
    return save([node("Identity", "x", "y")], [value("x", 1, 4, kind=TensorProto.STRING)], [value("y", 1, 4, kind=TensorProto.STRING)])


@case(
    "SNN171 open",
    """
error[SNN171]: net.onnx leaves the shape of 'x' [?, 4, ?] open
  help: give the shape of one sample at one step with --input-shape
""",
)
def _():
    return save([node("Relu", "x", "y")], [value("x", "N", 4, "width")], [value("y", "N", 4, "width")])


@case(
    "SNN171 batch",
    """
error[SNN171]: net.onnx: the input 'x' [8, 4] holds a batch of 8
  help: export it for a batch of 1, or a dynamic one
""",
)
def _():
    return save([node("Relu", "x", "y")], [value("x", 8, 4)], [value("y", 8, 4)])


@case(
    "SNN171 given",
    """
error[SNN171]: --input-shape is [5], net.onnx takes 'x' [1, 4]
  help: leave --input-shape out, or correct it
""",
)
def _():
    return (*save([node("Relu", "x", "y")], [value("x", 1, 4)], [value("y", 1, 4)]), "--input-shape", "5")


@case(
    "SNN171 state",
    """
error[SNN171]: net.onnx leaves the shape of 'v_in' [1, ?] open
  help: give it a fixed shape when you export; only the batch may be dynamic
""",
)
def _():
    return save([node("Add", "x v_in", "v_out")], [value("x", 1, 4), value("v_in", 1, "k")], [value("v_out", 1, "k")])


@case(
    "SNN172",
    """
error[SNN172]: net.onnx: node '/net/Pad' (Pad) pads with mode 'reflect'
  --> net.onnx:2 in /net/Pad

error[SNN172]: net.onnx: node '/net/Reshape' (Reshape) takes a shape, axis, index or bound from 'i', which depends on the network's input
  --> net.onnx:4 in /net/Reshape

error[SNN172]: net.onnx: the operator Softmax is not understood; nodes: '/net/Softmax', '/net/Softmax'
  --> net.onnx:1 in /net/Softmax
  help: leave this part to the host, or write it with operators that are (docs/onnx.md lists them)

error[SNN172]: net.onnx: the operator my.ops.Fancy is not understood; nodes: '/net/Fancy'
  --> net.onnx:6 in /net/Fancy
  help: leave this part to the host, or write it with operators that are (docs/onnx.md lists them)
""",
)
def _():
    pads = helper.make_tensor("pads", TensorProto.INT64, [4], [0, 1, 0, 1])
    nodes = [
        node("Softmax", "x", "a"), node("Pad", "a pads", "b", mode="reflect"), node("Cast", "x", "i", to=TensorProto.INT64),
        node("Reshape", "b i", "c"), node("Softmax", "c", "d"), node("Fancy", "d", "y", domain="my.ops"),
    ]  # fmt: skip
    graph = helper.make_graph(nodes, "g", [value("x", 1, 4)], [value("y", 1, 4)], [pads])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("my.ops", 1)], ir_version=8)
    onnx.save(made, "net.onnx")
    return ("net.onnx", "--steps", "3")


@case(
    "SNN173 unclear",
    """
error[SNN173]: net.onnx: the input 'v' [1, 4] may be a state: which output is its next value?
  note: candidates: 's' [1, 4], 'w' [1, 4]
  help: say it with --state IN=OUT; in the order of the file: --state v=w
""",
)
def _():
    return two_outputs()


def two_outputs():
    kernel = helper.make_tensor("k", TensorProto.FLOAT, [3, 4], np.ones(12))
    nodes = [node("MatMul", "x k", "i"), node("Add", "i v", "w"), node("Relu", "w", "s")]
    graph = helper.make_graph(nodes, "g", [value("x", 1, 3), value("v", 1, 4)], [value("s", 1, 4), value("w", 1, 4)], [kernel])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "net.onnx")
    return ("net.onnx", "--steps", "3")


@case(
    "SNN173 no input",
    """
error[SNN173]: net.onnx: every input is a state: x_in -> x_out
  note: they were matched by their names
  help: rename the network's input, or give every state yourself with --state IN=OUT
""",
)
def _():
    return save([node("Relu", "x_in", "x_out")], [value("x_in", 1, 4)], [value("x_out", 1, 4)])


@case(
    "SNN173 no output",
    """
error[SNN173]: net.onnx: every output is a state (v_in -> v_out, w_in -> w_out), none is the network's answer
  help: add the answer as an output of its own when you export, even if it equals a state
""",
)
def _():
    nodes = [node("Add", "x v_in", "v_out"), node("Sub", "x w_in", "w_out")]
    return save(nodes, [value(n, 1, 4) for n in ("x", "v_in", "w_in")], [value(n, 1, 4) for n in ("v_out", "w_out")])


@case(
    "SNN173 several inputs",
    """
error[SNN173]: net.onnx has 2 inputs that are no states: 'x' [1, 3], 'z' [1, 4]
  help: concatenate them when you export
""",
)
def _():
    kernel = helper.make_tensor("k", TensorProto.FLOAT, [7, 2], np.ones(14))
    nodes = [node("Concat", "x z", "c", axis=1), node("MatMul", "c k", "y")]
    graph = helper.make_graph(nodes, "g", [value("x", 1, 3), value("z", 1, 4)], [value("y", 1, 2)], [kernel])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "net.onnx")
    return ("net.onnx", "--steps", "3")


@case(
    "SNN174 unknown",
    """
error[SNN174]: --state vv=w: net.onnx has no input 'vv'
  note: its inputs: 'x' [1, 3], 'v' [1, 4]
  help: did you mean 'v'?
""",
)
def _():
    return (*two_outputs(), "--state", "vv=w")


@case(
    "SNN174 shape",
    """
error[SNN174]: --state x=w: 'x' [1, 3] and 'w' [1, 4] differ in shape or type
  help: a state comes back as it went in
""",
)
def _():
    return (*two_outputs(), "--state", "x=w")


@case(
    "SNN174 malformed",
    """
error[SNN174]: --state is 'v'
  help: write the name of the input and of the output: --state mem_in=mem_out
""",
)
def _():
    return (*two_outputs(), "--state", "v")


@case(
    "SNN174 twice",
    """
error[SNN174]: --state names the input 'v' twice
""",
)
def _():
    return (*two_outputs(), "--state", "v=w", "--state", "v=s")


@case(
    "SNN175",
    """
error[SNN175]: net.onnx holds the whole network: --arch, --arch-args and --trust-pickle mean nothing for it
  help: leave them out
""",
)
def _():
    return (*two_outputs(), "--arch", "net:make")


@case(
    "SNN175 state",
    """
error[SNN175]: --state is for ONNX files, not for net:make
  help: leave it out
""",
)
def _():
    return ("--arch", "net:make", "--state", "a=b")


@case(
    "SNN177",
    """
error[SNN177]: net.onnx is a step model that snncompile wrote: its integers are the chip's already
  help: compile the network it was made from, or run the bundle: snncompile run BUNDLE --backend onnx
""",
)
def _():
    made = save([node("Relu", "x", "y")], [value("x", 1, 4)], [value("y", 1, 4)], producer_name="snncompile")
    model = onnx.load("net.onnx")
    helper.set_model_props(model, {"snncompile.states": "{}"})
    onnx.save(model, "net.onnx")
    return made


@pytest.mark.parametrize("label", CASES)
def test_a_wrong_file_is_told_with_its_way_out(label, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare, message = CASES[label]
    answer = snn("-q", "export", *prepare(), "--no-lava")
    assert answer.err.rstrip("\n") == message
    assert answer.status == 1
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") in ([], ["net.onnx"])


def test_a_missing_runtime_is_told_with_its_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(CompileError) as caught:
        import_runtime()
    assert str(caught.value) == (
        "error[SNN520]: ONNX Runtime is not installed\n"
        "  help: install it beside snncompile: uv pip install onnxruntime, or snncompile[onnxruntime]"
    )


def test_every_code_of_these_rooms_has_a_case():
    root = Path(snncompile.__file__).parent
    used = {code for room in ROOMS for p in (root / room).rglob("*.py") for code in re.findall(r'"(SNN\d{3})"', p.read_text())}
    assert used - {label.split()[0] for label in CASES} == {"SNN520"}

"""Which outputs are states: by name, by metadata, by option; and what is said where it cannot be told."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from snncompile.capture.onnx import load_onnx
from snncompile.capture.onnx.file import OnnxFile, Value
from snncompile.capture.onnx.states import find_roles
from snncompile.errors import CompileError


def file(inputs, outputs, metadata=None, **shapes):
    """A file's signature; values have shape (1, 4) unless said otherwise."""

    def values(names):
        return tuple(Value(n, shapes.get(n, (1, 4)), torch.float32) for n in names.split())

    return OnnxFile(__import__("pathlib").Path("net.onnx"), 17, "", metadata or {}, values(inputs), values(outputs), (), {})


@pytest.mark.parametrize(("before", "after"), [
    ("mem_in", "mem_out"), ("mem", "mem_out"), ("mem_in", "mem"), ("mem", "mem_next"), ("prev_mem", "new_mem"), ("mem_prev", "mem"),
    ("mem", "next_mem"),
    ("lif1.v_in", "lif1.v_out"), ("old/mem", "mem"), ("Mem_In", "mem_OUT"), ("mem_before", "mem_after"),
])  # fmt: skip
def test_states_are_told_by_their_names(before, after):
    roles = find_roles(file(f"x {before}", f"spk {after}"), {})
    assert roles.states == {before: after}
    assert [v.name for v in (*roles.inputs, *roles.outputs)] == ["x", "spk"]


@pytest.mark.parametrize(
    ("before", "after"), [("mem", "spk"), ("mem_out", "mem_in"), ("mem1", "mem2_next"), ("mem", "memory"), ("mem", "mem.1")]
)
def test_other_names_tell_nothing(before, after):
    with pytest.raises(CompileError) as caught:
        find_roles(file(f"x {before}", f"out {after}"), {})
    assert caught.value.code == "SNN173"
    assert f"--state {before}={after}" in caught.value.diagnostics[0].help


def test_a_shape_that_differs_is_no_state():
    roles = find_roles(file("x mem_in", "spk mem_out", mem_in=(1, 9), x=(1, 3)), {})
    assert (roles.states, len(roles.inputs)) == ({}, 2)


def test_the_metadata_name_states_and_the_user_has_the_last_word():
    told = {"snncompile.states": json.dumps({"a": "p"})}
    assert find_roles(file("x a", "p q", told), {}).states == {"a": "p"}
    roles = find_roles(file("x a", "p q", told), {"a": "q"})
    assert (roles.states, roles.reasons) == ({"a": "q"}, {"a": "--state"})


@pytest.mark.parametrize("text", ["{", "[]", '{"a": "nothing"}', '{"a": 3}'])
def test_metadata_that_make_no_sense_are_an_error(text):
    with pytest.raises(CompileError, match=r"metadata 'snncompile.states' is of no use"):
        find_roles(file("x a", "p q", {"snncompile.states": text}), {})


def test_a_network_whose_only_output_is_its_state_reads_that_out():
    roles = find_roles(file("x mem_in", "mem_out"), {})
    assert (roles.states, [v.name for v in roles.outputs]) == ({"mem_in": "mem_out"}, ["mem_out"])


def test_a_dynamic_batch_fits_a_fixed_one():
    assert find_roles(file("x v_in", "s v_out", v_in=(None, 4)), {}).states == {"v_in": "v_out"}


def readout(tmp_path, **shapes):
    """v_out = 0.5 v + x, with shapes to choose."""

    def value(name):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes.get(name, [1, 4]))

    nodes = [helper.make_node("Constant", [], ["half"], value_float=0.5), helper.make_node("Mul", ["v_in", "half"], ["d"]),
             helper.make_node("Add", ["d", "x"], ["v_out"])]  # fmt: skip
    graph = helper.make_graph(nodes, "g", [value("x"), value("v_in")], [value("v_out")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.mark.parametrize("state", [[1, 4], ["N", 4], ["N", None]])
def test_states_start_at_zero_and_samples_do_not_meet(tmp_path, state):
    loaded = load_onnx(readout(tmp_path, v_in=state))
    x = torch.rand(3, 4)
    one = loaded.model(x)
    two = loaded.model(x)
    assert np.allclose(one, x)
    assert np.allclose(two, 1.5 * x)


def test_a_shape_that_the_file_leaves_open_is_taken_from_the_user(tmp_path):
    path = readout(tmp_path, x=["N", "features"])
    assert load_onnx(path, input_shape=(4,)).input_shape == (4,)
    with pytest.raises(CompileError, match="SNN171"):
        load_onnx(path)


def test_weights_in_a_file_of_their_own_are_read_or_missed(tmp_path):
    path = readout(tmp_path)
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.full((1, 4), 2.0, np.float32), "half"))
    del model.graph.node[0]
    onnx.save(model, path, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    assert np.allclose(load_onnx(path).model(torch.ones(1, 4)), 1.0)
    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(CompileError, match="has its weights in another file"):
        load_onnx(path)

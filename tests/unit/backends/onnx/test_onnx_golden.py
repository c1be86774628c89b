"""The step models of a few programs as text. ``UPDATE_GOLDEN=1 pytest`` rewrites them; review the change."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from integer_programs import neuron, program, source, whole
from onnx import ModelProto, TensorProto, helper, numpy_helper

from snncompile.backends.onnx.model import step_model
from snncompile.errors import Location
from snncompile.ir.linear_ops import Conv2d, Delay, Gather, Linear
from snncompile.ir.neuron import Reset

FOLDER = Path(__file__).parents[3] / "golden" / "onnx"


def as_text(model: ModelProto) -> str:
    """Inputs, nodes and outputs one a line; constants where they are short, else their type and shape."""

    def shape(value):
        dims = [d.dim_param or str(d.dim_value) for d in value.type.tensor_type.shape.dim]
        return f"{TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()}[{', '.join(dims)}]"

    def constant(tensor):
        array = numpy_helper.to_array(tensor)
        return f"{array.dtype.name}{array.tolist() if array.size <= 6 else list(array.shape)}".replace(" ", "")

    constants = {t.name: constant(t) for t in model.graph.initializer}
    lines = [f"# {p.key} = {p.value}" for p in model.metadata_props]
    lines += [f"input {i.name}: {shape(i)}" for i in model.graph.input]
    for n in model.graph.node:
        given = "".join(f" {a.name}={helper.get_attribute_value(a)}" for a in n.attribute)
        where = f"  # {n.doc_string}" if n.doc_string else ""
        lines.append(f"{n.output[0]} = {n.op_type}({', '.join(constants.get(i, i) for i in n.input)}){given}{where}")
    return "\n".join([*lines, *(f"output {o.name}: {shape(o)}" for o in model.graph.output), ""])


def convolution():
    at = Location("net.py", 7, "forward")
    conv = Conv2d(name="conv", inputs=("x",), weight=np.full((1, 2, 2, 2), 3), padding=(1, 0, -1, 0), loc=at)
    lif = neuron("lif", ("conv",), exponents=(2,), leak=whole(2048), bias=np.arange(3).reshape(3, 1, 1, 1), loc=at)
    wire = Gather(name="wire", inputs=("lif",), index=np.array([0, -1, 2]))
    dense = Linear(name="dense", inputs=("wire",), weight=np.array([[1, -2, 3]]))
    out = neuron("readout", ("dense",), fire="none", reset=Reset.KEEP, v_init=whole(5))
    return program(source(2, 3, 3, low=0, high=255), conv, lif, wire, dense, out, steps=3, outputs={"y": "readout.v"})


def every_field():
    back = Delay(name="back", inputs=("n",), size=(2,), initial=whole(1, 0))
    ring = Linear(name="ring", inputs=("back",), weight=np.eye(2, dtype=np.int64))
    n = neuron(
        "n", ("ring",),
        reset=Reset.SET, reset_keep=whole(1024), reset_value=whole(-1), v_min=whole(-9), alpha=whole(2048),
        late_current=True, gain=whole(3), gain_shift=whole(1), max_spikes=3, spike_step=whole(4), adapt_decay=whole(2048),
        adapt_jump=whole(2),
    )  # fmt: skip
    return program(source(2), Linear(name="w", inputs=("x",), weight=np.eye(2, dtype=np.int64)), back, ring, n)


def digits():
    wide = Conv2d(name="conv", inputs=("x",), weight=np.full((1, 1, 1, 1), 127))
    graded = neuron("graded", ("conv",), fire="relu", reset=Reset.CLAMP, multiplier=whole(5), shift=whole(3), payload_max=15)
    return program(source(1, 2, 2, low=-(2**23), high=2**23), wide, graded)


@pytest.mark.parametrize("made", [convolution, every_field, digits], ids=lambda f: f.__name__)
def test_a_program_becomes_these_nodes(made):
    path, found = FOLDER / f"{made.__name__}.txt", as_text(step_model(made()))
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(found)
    assert found == path.read_text()

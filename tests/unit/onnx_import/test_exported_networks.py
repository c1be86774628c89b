"""Step functions written by both of PyTorch's exporters: the captured graph computes what the PyTorch module computes."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
import snntorch
import torch
from onnx import helper
from step_nets import Convolution, Counted, Dense, Recurrent, WholeLoop, export
from torch import nn

import snncompile
from snncompile.capture.capture import capture
from snncompile.capture.check import check_capture
from snncompile.capture.load import load_model
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Input
from snncompile.ir.neuron import Neuron
from snncompile.pipeline import original
from snncompile.verify import Program, verify

STEPS = 6
NEW = pytest.param("new", marks=pytest.mark.slow)  # PyTorch's newer exporter takes seconds for each file
WRITTEN_BY_THE_NEW_EXPORTER = Path(__file__).parents[2] / "golden" / "onnx" / "exported_by_torch_2_14.onnx"


def frames(*shape, count=3, steps=STEPS, scale=3.0):
    return np.random.default_rng(0).uniform(0, scale, (count, steps, *shape))


@torch.no_grad()
def own_run(net, x, state_shapes):
    """The PyTorch module's own loop: every output but the states, and every state."""
    states = [torch.zeros((len(x), *shape[1:])) for shape in state_shapes]
    rows = []
    for t in range(x.shape[1]):
        head, *states = net(torch.tensor(x[:, t], dtype=torch.float32), *states)
        rows.append(head)
    return torch.stack(rows, dim=1).numpy()


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """The dense network and its files: by the older exporter, and one that the newer exporter of PyTorch 2.14 wrote with these weights."""
    net = Dense().eval()
    stored = onnx.load(WRITTEN_BY_THE_NEW_EXPORTER).graph.initializer
    net.load_state_dict({t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in stored if t.name in net.state_dict()})
    old = export(net, tmp_path_factory.mktemp("dense") / "old.onnx", "old")
    return net, {"new": WRITTEN_BY_THE_NEW_EXPORTER, "old": old}


@pytest.mark.parametrize("exporter", ["new", "old"])
def test_both_exporters_give_the_same_network(dense, exporter):
    net, paths = dense
    computes_the_same(net, paths[exporter])


@pytest.mark.parametrize("exporter", [NEW, "old"])
@pytest.mark.parametrize("network", [Dense, Convolution, Recurrent], ids=lambda n: n.__name__)
def test_an_exported_step_function_computes_what_the_module_computes(network, exporter, tmp_path):
    torch.manual_seed(0)
    net = network().eval()
    computes_the_same(net, export(net, tmp_path / "net.onnx", exporter))


def computes_the_same(net, path):
    loaded = load_model(path, steps=STEPS)
    first, *states = net.inputs.values()
    assert (loaded.input_shape, loaded.layout, loaded.facts["kind"]) == (first[1:], "step", "ONNX step function")
    captured = capture(loaded.model, input_shape=loaded.input_shape, steps=STEPS)
    x = frames(*first[1:])
    record = check_capture(captured, loaded.model, x)
    assert (record.differing_spikes, record.ties) == (0, 0)
    (source,) = captured.graph.of(Input)
    mine = interpret(captured.graph, {source.name: x})["out"]
    theirs = own_run(net, x, states)
    assert theirs.any()
    assert np.allclose(mine, theirs, rtol=1e-5, atol=1e-5)
    assert {n.fire.value for n in captured.graph.of(Neuron)} <= {"step_ge", "step_gt", "none"}


def test_the_new_exporter_tells_the_users_own_lines_and_the_old_one_the_number_of_the_node(dense):
    lines = {}
    for exporter, path in dense[1].items():
        loaded = load_model(path, steps=3)
        graph = capture(loaded.model, input_shape=(12,), steps=3).graph
        lines[exporter] = [n.loc for n in graph.of(Neuron)]
        assert {"fc1", "fc2"} <= graph.by_name.keys()
    assert all(loc.file.endswith("step_nets.py") for loc in lines["new"])
    nodes = onnx.load(dense[1]["old"]).graph.node
    assert [(loc.file, nodes[loc.line - 1].op_type) for loc in lines["old"]] == [("old.onnx", "Greater"), ("old.onnx", "GreaterOrEqual")]


class Leaky(nn.Module):
    """snnTorch's own neuron, its state passed by hand."""

    inputs: ClassVar = {"x": (1, 6), "mem": (1, 4)}
    outputs = ("spk", "mem_next")

    def __init__(self):
        super().__init__()
        self.fc, self.lif = nn.Linear(6, 4), snntorch.Leaky(beta=0.9)

    def forward(self, x, mem):
        return self.lif(self.fc(x), mem)


@pytest.mark.parametrize("exporter", [NEW, "old"])
def test_an_snntorch_neuron_keeps_its_delayed_reset(exporter, tmp_path):
    torch.manual_seed(0)
    net = Leaky()
    loaded = load_model(export(net, tmp_path / "net.onnx", exporter), steps=STEPS)
    captured = capture(loaded.model, input_shape=(6,), steps=STEPS)
    x = frames(6)
    (neuron,) = captured.graph.of(Neuron)
    assert (neuron.fire.value, neuron.reset.value) == ("step_gt", "subtract")
    assert neuron.reset_amount.item() == pytest.approx(1 / 0.9)
    assert np.array_equal(interpret(captured.graph, {"x": x})["out"], own_run(net, x, [(1, 4)]))


@pytest.mark.parametrize("exporter", [NEW, "old"])
def test_a_dynamic_batch_changes_nothing(exporter, tmp_path):
    torch.manual_seed(0)
    net = Dense()
    axes = {name: {0: "batch"} for name in (*net.inputs, *net.outputs)}
    shapes = None if exporter == "old" else tuple({0: torch.export.Dim("batch")} for _ in net.inputs)
    options = {"dynamic_axes": axes} if exporter == "old" else {"dynamic_shapes": shapes}
    args = tuple(torch.rand(2, *shape[1:]) for shape in net.inputs.values())
    path = export(net, tmp_path / "net.onnx", exporter, args=args, **options)
    loaded = load_model(path, steps=STEPS)
    x = frames(12)
    captured = capture(loaded.model, input_shape=(12,), steps=STEPS)
    assert np.allclose(interpret(captured.graph, {"x": x})["out"], own_run(net, x, list(net.inputs.values())[1:]))


@pytest.mark.parametrize("exporter", [NEW, "old"])
def test_a_graph_that_holds_the_whole_loop_is_taken_with_its_number_of_steps(exporter, tmp_path):
    torch.manual_seed(0)
    net = WholeLoop()
    path = export(net, tmp_path / "net.onnx", exporter, inputs={"x": (STEPS, 1, 6)}, outputs=("out",))
    loaded = load_model(path, layout="TB")
    assert (loaded.steps, loaded.input_shape) == (STEPS, (6,))
    captured = capture(loaded.model, input_shape=(6,), steps=STEPS, layout="TB")
    x = frames(6)
    with torch.no_grad():
        theirs = net(torch.tensor(x, dtype=torch.float32).transpose(0, 1)).transpose(0, 1).numpy()
    assert theirs.any()
    assert np.array_equal(interpret(captured.graph, {"x": x})["out"], theirs)


@pytest.mark.parametrize("exporter", [NEW, "old"])
def test_constants_per_step_are_read_at_a_counter_that_is_a_state(exporter, tmp_path):
    torch.manual_seed(0)
    net = Counted().eval()
    args = (torch.rand(1, 6), torch.zeros(1, 4), torch.tensor(0))
    path = export(net, tmp_path / "net.onnx", exporter, args=args)
    loaded = load_model(path, steps=STEPS)
    captured = capture(loaded.model, input_shape=(6,), steps=STEPS)
    x = frames(6)
    (neuron,) = captured.graph.of(Neuron)
    assert np.allclose(neuron.theta.reshape(-1)[:: neuron.theta.size // STEPS], net.theta)
    assert np.allclose(neuron.leak.reshape(-1)[:: neuron.leak.size // STEPS], net.leak)
    assert check_capture(captured, loaded.model, x).differing_spikes == 0
    states = [torch.zeros(3, 4), torch.tensor(0)]
    rows = []
    with torch.no_grad():
        for t in range(STEPS):
            s, *states = net(torch.tensor(x[:, t], dtype=torch.float32), *states)
            rows.append(s)
    assert np.array_equal(interpret(captured.graph, {"x": x})["out"], torch.stack(rows, dim=1).numpy())


def test_an_exported_network_compiles_to_the_same_bits_on_every_executor(tmp_path):
    torch.manual_seed(0)
    loaded = load_model(export(Recurrent(), tmp_path / "net.onnx", "old"), steps=STEPS)
    x = frames(6)
    compiled = snncompile.compile(loaded.model, input_shape=(6,), steps=STEPS, calibration=x)
    assert compiled.schedule.initiation_interval == 1
    program = Program(graph=compiled.result.graph, schedule=compiled.schedule, populations=compiled.result.populations)
    found = verify(program, {"x": x}, original=original(compiled, loaded.model, x), backends=("onnx", "reference"))
    assert found.ok, found.failures
    assert [(b.backend, b.differing_bits) for b in found.backends] == [("onnx", 0), ("reference", 0)]


def test_half_precision_is_read_as_float32(tmp_path):
    torch.manual_seed(0)
    path = export(Dense(), tmp_path / "net.onnx", "old")
    model = onnx.load(path)
    for t in model.graph.initializer:
        values = onnx.numpy_helper.to_array(t)
        if values.dtype == np.float32:
            t.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), t.name))
    for v in (*model.graph.input, *model.graph.output):
        v.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for n in model.graph.node:
        for a in n.attribute:
            if a.name == "to" and a.i == onnx.TensorProto.FLOAT:
                a.i = onnx.TensorProto.FLOAT16
            if a.name == "value" and a.t.data_type == onnx.TensorProto.FLOAT:
                a.t.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(a.t).astype(np.float16)))
    onnx.save(model, path)
    loaded = load_model(path, steps=STEPS)
    captured = capture(loaded.model, input_shape=(12,), steps=STEPS)
    assert check_capture(captured, loaded.model, frames(12)).differing_spikes == 0
    assert (
        captured.graph.by_name["fc1"].weight.astype(np.float16).astype(np.float64).tolist() == captured.graph.by_name["fc1"].weight.tolist()
    )


def test_local_functions_are_inlined(tmp_path):
    """A file whose neuron is an ONNX function of its own."""
    lif = helper.make_function(
        "my", "Lif", ["v", "i"], ["s", "w"],
        [
            helper.make_node("Constant", [], ["half"], value_float=0.5), helper.make_node("Mul", ["v", "half"], ["d"]),
            helper.make_node("Add", ["d", "i"], ["m"]), helper.make_node("Constant", [], ["one"], value_float=1.0),
            helper.make_node("GreaterOrEqual", ["m", "one"], ["b"]), helper.make_node("Cast", ["b"], ["s"], to=1),
            helper.make_node("Sub", ["m", "s"], ["w"]),
        ],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    value = [helper.make_tensor_value_info(name, 1, [1, 3]) for name in ("x", "v_in", "s", "v_out")]
    graph = helper.make_graph([helper.make_node("Lif", ["v_in", "x"], ["s", "v_out"], domain="my")], "g", value[:2], value[2:])
    model = helper.make_model(
        graph, functions=[lif], opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("my", 1)], ir_version=8
    )
    onnx.save(model, tmp_path / "net.onnx")
    loaded = load_model(tmp_path / "net.onnx", steps=STEPS)
    captured = capture(loaded.model, input_shape=(3,), steps=STEPS)
    (neuron,) = captured.graph.of(Neuron)
    assert (neuron.fire.value, neuron.reset.value, neuron.leak.item(), neuron.theta.item()) == ("step_ge", "subtract", 0.5, 1.0)

"""An integer program as an ONNX model of one step, with explicit state.

    inputs    step         int64, scalar: the number t of the model step; at 0 every state starts anew, whatever is passed for it
              NAME         int32 (N, *shape): the payload of an input at this step
              STATE_in     int32 (N, *shape): a state as the step before left it
    outputs   LABEL        int32 (N, *shape): each output of the program
              STATE_out    int32 (N, *shape): to be passed as STATE_in at the next step
              with ``traces`` also POPULATION (its payload), POPULATION.m and POPULATION.v (before and after its reset)
    states    POPULATION.v membrane, .i synaptic current, .w adaptation of the threshold; DELAY the payload on the way

Standard operators only (opset 17, IR version 8, which ONNX Runtime reads since 1.12), one graph, no control flow. All arithmetic is
int64 but for the sums of convolutions and dense synapses (see ``synapses``). N is free. A program that is the same at every step runs
for any number of steps; one with constants per step has T of them, and a step beyond is an error of the runtime.

The metadata say the rest as JSON: ``snncompile.inputs`` (each with its ``name`` here; payload = clip(rint((x - offset) / lsb), low,
high)), ``snncompile.states`` (input name: output name), ``snncompile.outputs`` (label: ``name``, and ``scale``, the real value of one
unit), ``snncompile.steps`` (T, or null where any number will do), ``snncompile.traces`` (value reference: output name).
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from snncompile.backends.onnx.neurons import NeuronWriter, states_of
from snncompile.backends.onnx.programs import ProgramWriter, program_states
from snncompile.backends.onnx.synapses import write_synapse
from snncompile.backends.onnx.writer import Writer
from snncompile.ir.graph import Array, Graph, fresh_name, port_of
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.linear_ops import Delay
from snncompile.ir.population import INTEGER_POPULATIONS
from snncompile.ir.program import IntProgram
from snncompile.ir.reference import limits, references
from snncompile.version import VERSION

OPSET, IR_VERSION = 17, 8
STEP = "step"


def step_model(graph: Graph, *, traces: bool = False) -> ModelProto:
    """The model; the same program gives the same bytes.

    traces  also give payload and membranes of every population at every step
    """
    return _ModelWriter(graph, traces).model()


class _ModelWriter:
    def __init__(self, graph: Graph, traces: bool) -> None:
        self.graph, self.traces = graph, traces
        self.w = Writer()
        self.inputs = [helper.make_tensor_value_info(STEP, TensorProto.INT64, [])]
        self.outputs: list[ValueInfoProto] = []
        self.env: dict[str, str] = {}
        self.before: dict[str, str] = {}
        self.states: dict[str, str] = {}
        self.taken: set[str] = {STEP}

    def model(self) -> ModelProto:
        graph, w = self.graph, self.w
        initial = self._initial_states()
        payloads = {n.name: self._named(n.name) for n in graph.of(IntInput)}
        traced = {ref: self._named(ref) for ref in references(graph)} if self.traces else {}
        self.states = {self._named(f"{name}_in"): self._named(f"{name}_out") for name in initial}
        labels = {label: self._named(label) for label in graph.outputs}
        w.reserve(*self.taken)
        w.prefix = "first"
        first = w.op("Equal", STEP, w.number(0), label="step")
        for name, shown in payloads.items():
            self.env[name] = self._input(shown, graph.shape(name))
        for (name, (value, shape)), given in zip(initial.items(), self.states, strict=True):
            w.prefix = name
            kept = self._input(given, shape)
            self.before[name] = w.op("Where", first, w.whole(value, "initial"), kept, label="before")
        neurons = NeuronWriter(w, STEP)
        after: dict[str, str] = {}
        for n in graph.nodes:
            w.prefix, w.doc = n.name, "" if n.loc is None else str(n.loc)
            if isinstance(n, IntProgram):
                mine = {key: self.before[f"{n.name}.{key}"] for key in program_states(n)}
                stepped = ProgramWriter(neurons, limits(graph)["membrane"]).program(n, [self.env[r] for r in n.inputs], mine)
                self.env |= {n.name: stepped.payload, f"{n.name}.m": stepped.m, f"{n.name}.v": stepped.v}
                after |= {f"{n.name}.{key}": value for key, value in stepped.states.items()}
            elif isinstance(n, IntNeuron):
                mine = {key: self.before[f"{n.name}.{key}"] for key in states_of(n)}
                stepped = neurons.write(n, [self.env[r] for r in n.inputs], mine)
                self.env |= {n.name: stepped.payload, f"{n.name}.m": stepped.m, f"{n.name}.v": stepped.v}
                after |= {f"{n.name}.{key}": value for key, value in stepped.states.items()}
            elif isinstance(n, Delay):
                self.env[n.name] = self.before[n.name]
            elif not isinstance(n, IntInput):
                self.env[n.name] = write_synapse(w, graph, n, [self.env[r] for r in n.inputs])
        w.doc = ""
        after |= {n.name: self.env[n.inputs[0]] for n in graph.of(Delay)}
        for label, shown in labels.items():
            self._output(shown, self.env[graph.outputs[label]], graph.shape(graph.outputs[label]))
        for (name, (_, shape)), shown in zip(initial.items(), self.states.values(), strict=True):
            self._output(shown, after[name], shape)
        for ref, shown in traced.items():
            self._output(shown, self.env[ref], graph.shape(ref))
        return self._assemble(payloads, labels, traced)

    def _initial_states(self) -> dict[str, tuple[Array, tuple[int, ...]]]:
        """Every state with its value before step 0 and its shape, in the order of the graph."""
        found: dict[str, tuple[Array, tuple[int, ...]]] = {}
        for n in self.graph.nodes:
            if isinstance(n, IntProgram):
                found |= {f"{n.name}.{key}": (value, self.graph.shape(n.name)) for key, value in program_states(n).items()}
            elif isinstance(n, IntNeuron):
                found |= {f"{n.name}.{key}": (value, self.graph.shape(n.name)) for key, value in states_of(n).items()}
            elif isinstance(n, Delay):
                found[n.name] = (n.initial.astype(np.int64), n.size)
        return found

    def _named(self, wish: str) -> str:
        """A name for an input or output of the model; a program's label may equal the name of one of its populations."""
        name = wish if wish not in self.taken else fresh_name(self.taken, f"{wish}_output")
        self.taken.add(name)
        return name

    def _input(self, name: str, shape: tuple[int, ...]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.INT32, ["N", *shape]))
        return self.w.op("Cast", name, label=f"{name}/int64", to=TensorProto.INT64)

    def _output(self, name: str, value: str, shape: tuple[int, ...]) -> None:
        self.w.op("Cast", value, into=name, to=TensorProto.INT32)
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.INT32, ["N", *shape]))

    def _assemble(self, payloads: dict[str, str], labels: dict[str, str], traced: dict[str, str]) -> ModelProto:
        graph, w = self.graph, self.w
        body = helper.make_graph(w.nodes, graph.name, self.inputs, self.outputs, w.initializers)
        model = helper.make_model(
            body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="snncompile",
            producer_version=VERSION, doc_string="one step of a spiking network",
        )  # fmt: skip
        facts: dict[str, Any] = {
            "steps": graph.steps if any(n.steps > 1 for n in graph.nodes) else None,
            "states": self.states,
            "inputs": {n.name: {"name": payloads[n.name], **_quantiser(n)} for n in graph.of(IntInput)},
            "outputs": {k: {"name": shown, "scale": _scale(graph, graph.outputs[k])} for k, shown in labels.items()},
            "traces": traced,
        }
        helper.set_model_props(model, {f"snncompile.{key}": json.dumps(value) for key, value in facts.items()})
        return model


def _quantiser(n: IntInput) -> dict[str, Any]:
    return {"lsb": n.lsb.tolist(), "offset": n.offset.tolist(), "low": n.low, "high": n.high}


def _scale(graph: Graph, ref: str) -> Any:
    """The real value of one unit of an output; 1 where it is no population's."""
    n = graph.node(ref)
    return (n.v_scale if port_of(ref) else n.out_scale).tolist() if isinstance(n, INTEGER_POPULATIONS) else 1.0


__all__ = ["IR_VERSION", "OPSET", "STEP", "step_model"]

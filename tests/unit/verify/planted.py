"""A small network of two spiking layers and a readout, and the faults that are planted into it."""

from dataclasses import replace

import numpy as np

from snncompile.errors import Location
from snncompile.ir.graph import Dialect, Graph, validate
from snncompile.ir.linear_ops import Delay, Input, Linear
from snncompile.ir.neuron import Fire, Neuron, Reset, constant
from snncompile.quantize import quantize
from snncompile.target import load_target

STEPS = 6
TARGET = load_target("loihi2-sim")


def neuron(name, source, line, **fields):
    default = {
        "fire": Fire.STEP_GE, "reset": Reset.SUBTRACT, "leak": constant(0.5), "gain": constant(1.0), "bias": constant(0.0),
        "theta": constant(1.0), "reset_amount": constant(1.0), "reset_value": constant(0.0), "v_init": np.zeros(()),
    }  # fmt: skip
    return Neuron(name=name, inputs=(source,), loc=Location("net.py", line, "forward"), **{**default, **fields})


def network(*, grid=None, **hidden):
    """8 inputs (spikes) -> 6 neurons -> 5 neurons -> 3 outputs; ``grid`` puts weights on multiples, ``hidden`` changes the second layer."""
    rng = np.random.default_rng(3)

    def weights(out, size):
        w = rng.normal(0.15, 0.5, (out, size))
        return np.rint(w / grid) * grid if grid else w

    nodes = [
        Input(name="x", size=(8,), low=0.0, high=1.0, grid=1.0),
        Linear(name="w1", inputs=("x",), weight=weights(6, 8)),
        neuron("n1", "w1", 11, bias=constant(0.125)),
        Linear(name="w2", inputs=("n1",), weight=weights(5, 6)),
        neuron("n2", "w2", 12, **{"bias": constant(0.25), **hidden}),
        Linear(name="w3", inputs=("n2",), weight=weights(3, 5)),
        neuron("out", "w3", 13, fire=Fire.NONE, reset=Reset.STATELESS),
    ]
    return graph_of(nodes)


def graph_of(nodes):
    made = Graph(name="net", dialect=Dialect.FLOAT, nodes=tuple(nodes), outputs={"y": "out"}, steps=STEPS).rebuild(nodes)
    validate(made)
    return made


def change(graph, name, **fields):
    """A graph with fields of one node replaced."""
    made = graph.map_nodes(lambda op: replace(op, **fields) if op.name == name else op)
    validate(made)
    return made


def late(graph, source, reader):
    """What ``reader`` reads from ``source`` comes one step late."""
    delay = Delay(name="late", inputs=(source,), size=graph.shape(source), initial=np.zeros((), dtype=np.int64))
    nodes = [replace(op, inputs=("late",)) if op.name == reader else op for op in graph.nodes]
    return graph.rebuild([*nodes, delay])


def spikes(samples=12, seed=0):
    return {"x": (np.random.default_rng(seed).random((samples, STEPS, 8)) < 0.4).astype(np.float64)}


def integers(graph, x=None):
    return quantize(graph, TARGET, calibration=spikes() if x is None else x).graph

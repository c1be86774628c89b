"""Small float networks in population form for the tests of the quantiser, and the comparison that knows ties."""

import numpy as np

from snncompile.errors import Location
from snncompile.ir import reference
from snncompile.ir.graph import Dialect, Graph, validate
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Add, Conv2d, Delay, Gather, Input, Linear
from snncompile.ir.neuron import Fire, Neuron, Reset, constant
from snncompile.quantize import dequantise, quantize
from snncompile.quantize.dequantise import payload_values
from snncompile.target import load_target

TARGET = load_target("loihi2-sim")


def neuron(name, source, **fields):
    default = {
        "fire": Fire.STEP_GT, "reset": Reset.SUBTRACT, "leak": constant(0.5), "gain": constant(1.0), "bias": constant(0.0),
        "theta": constant(1.0), "reset_amount": constant(1.0), "reset_value": constant(0.0), "v_init": np.zeros(()),
    }  # fmt: skip
    return Neuron(name=name, inputs=(source,), loc=Location("net.py", 12, "forward"), **{**default, **fields})


def graph_of(*nodes, steps=5, **outputs):
    g = Graph(name="net", dialect=Dialect.FLOAT, nodes=nodes, outputs=outputs or {"y": nodes[-1].name}, steps=steps).rebuild(nodes)
    validate(g)
    return g


def one_layer(rng, *, inputs=8, outputs=6, steps=5, spikes=True, weight=None, **fields):
    """Spikes (or an image in 0..255) -> dense -> one population."""
    x = Input(name="x", size=(inputs,), low=0.0, high=1.0 if spikes else 255.0, grid=1.0)
    w = rng.normal(0, 1 / inputs**0.5 / (1 if spikes else 99), (outputs, inputs)) if weight is None else weight
    return graph_of(x, Linear(name="w", inputs=("x",), weight=w), neuron("n", "w", **fields), steps=steps)


def image_net(rng, *, steps=5, recurrent=True, **fields):
    """Image -> padded conv -> spikes -> strided conv (+ its own spikes a step ago) -> readout."""
    x = Input(name="x", size=(2, 6, 6), static=True)
    nodes = [
        x,
        Conv2d(name="c1", inputs=("x",), weight=rng.normal(0, 0.3, (4, 2, 3, 3)), padding=(1, 1, 1, 1)),
        neuron("n1", "c1", bias=rng.normal(0, 0.1, (1, 4, 1, 1)), **fields),
        Conv2d(name="c2", inputs=("n1",), weight=rng.normal(0, 0.3, (3, 4, 3, 3)), padding=(1, 0, 0, 1), stride=(2, 2)),
    ]
    if recurrent:
        shape = (3, 3, 3)
        nodes += [
            Delay(name="d", inputs=("n2",), size=shape, initial=np.zeros(())),
            Conv2d(name="c3", inputs=("d",), weight=rng.normal(0, 0.02, (3, 3, 3, 3)), padding=(1, 1, 1, 1)),
            Add(name="sum", inputs=("c2", "c3")),
        ]
    nodes += [
        neuron("n2", "sum" if recurrent else "c2", bias=rng.normal(0, 0.1, (1, 3, 1, 1)), **fields),
        Gather(name="g", inputs=("n2",), index=np.arange(27)),
        Linear(name="f", inputs=("g",), weight=rng.normal(0, 0.3, (5, 27))),
        neuron("out", "f", fire=Fire.NONE, reset=Reset.STATELESS, bias=rng.normal(0, 0.1, (1, 5))),
    ]
    return graph_of(*nodes, steps=steps, logits="out")


def images(rng, samples=6):
    """8-bit images normalised per channel, as float32."""
    k = rng.integers(0, 256, (samples, 1, 2, 6, 6))
    return ((k / 255 - np.array([0.48, 0.31])[:, None, None]) / np.array([0.2, 0.27])[:, None, None]).astype(np.float32)


def differences(graph, result, inputs):
    """Per population: spikes (or payloads) that differ from the dequantised float dynamics on the same inputs, and ties.

    A spiking population resets by the program's spikes, so one tie is one difference and nothing follows from it.
    """
    record = [*reference.references(result.graph), *(n.name for n in result.graph.nodes if n.kind == "int_input")]
    traces = reference.run(result.graph, inputs, record=record)
    values = payload_values(result, traces)
    floats = dequantise(graph, result)
    thresholds = [f"{n.name}.threshold" for n in floats.nodes if isinstance(n, Neuron)]
    seen = interpret(floats, {k: values[k] for k in inputs}, record=[*record, *thresholds], overrides=values)
    found = {}
    for n in floats.nodes:
        if not isinstance(n, Neuron):
            continue
        whole = result.graph.by_name[n.name]
        m = traces[f"{n.name}.m"] * whole.v_scale
        scale = np.maximum(1.0, np.abs(m))
        theta = seen[f"{n.name}.threshold"]
        theta = theta * np.clip(np.rint(m / theta), 1, n.max_spikes) if n.max_spikes > 1 else theta
        off = np.abs(seen[f"{n.name}.m"] - m) > 1e-9 * scale
        if n.spiking:
            off |= seen[n.name] != traces[n.name]
        close = (np.abs(m - theta) < 1e-9 * scale) & (n.spiking or n.reset is Reset.SET)
        tied = close if n.spiking else np.cumsum(close, axis=1) > 0  # a spiking population follows the program's own spikes
        found[n.name] = (int((off & ~tied).sum()), int((off & tied).sum()))
    return found


__all__ = ["TARGET", "differences", "graph_of", "image_net", "images", "neuron", "one_layer", "quantize"]

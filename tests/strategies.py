"""Hypothesis strategies: random float graphs as capture produces them, and inputs for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import hypothesis.strategies as st
import numpy as np

from snncompile.errors import Location
from snncompile.ir.graph import Array, Dialect, Graph, Op, Shape, validate
from snncompile.ir.linear_ops import Add, Affine, AvgPool2d, Conv2d, Delay, Diagonal, Gather, Input, Linear
from snncompile.ir.max_pool import MaxPool2d
from snncompile.ir.neuron import Fire, Neuron, Reset

Rng = np.random.Generator


@dataclass
class Builder:
    """Collects nodes; every value is known with its shape."""

    rng: Rng
    steps: int
    nodes: list[Op] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def add(self, kind: type[Op], shape: Shape | None, /, **fields: object) -> str:
        """Append a node and return its name."""
        name = f"{kind.kind}{len(self.nodes)}"
        op = kind(name=name, loc=Location("net.py", len(self.nodes) + 1, "forward"), **fields)
        self.nodes.append(op)
        self.shapes[name] = op.infer(*(self.shapes[r.partition(".")[0]] for r in op.inputs)) if shape is None else shape
        return name

    def normal(self, *shape: int) -> Array:
        """Random numbers."""
        return self.rng.normal(size=shape)

    def per_step(self, shape: Shape, *, steps: bool = False, positive: bool = False) -> Array:
        """A per-step field: scalar, per channel, or per position; the same at every step or not."""
        kind = self.rng.integers(4)
        rest = ((), (shape[0], *(1,) * (len(shape) - 1)), shape, shape[-1:] if len(shape) == 1 else (shape[0], 1, 1))[kind]
        lead = self.steps if steps and self.rng.integers(3) == 0 else 1
        values = self.normal(lead, *rest)
        return np.abs(values) + 0.2 if positive else values


def conv(b: Builder, ref: str) -> str:
    """A convolution with random geometry that fits."""
    c, h, w = b.shapes[ref]
    groups = c if b.rng.integers(5) == 0 else 1
    out = groups * int(b.rng.integers(1, 3)) if groups > 1 else int(b.rng.integers(1, 4))
    kh, kw = (int(b.rng.integers(1, 1 + min(3, n))) for n in (h, w))
    stride = tuple(int(k) for k in b.rng.integers(1, 3, size=2))
    padding = tuple(int(k) for k in b.rng.integers(0, 2, size=4))
    bias = b.normal(1, out, 1, 1) if b.rng.integers(2) else None
    weight = b.normal(out, c // groups, kh, kw)
    return b.add(Conv2d, None, inputs=(ref,), weight=weight, bias=bias, stride=stride, padding=padding, groups=groups)


def same_conv(b: Builder, ref: str) -> str:
    """A convolution that keeps the shape."""
    c = b.shapes[ref][0]
    return b.add(Conv2d, None, inputs=(ref,), weight=b.normal(c, c, 3, 3) / 3, bias=b.normal(1, c, 1, 1), padding=(1, 1, 1, 1))


def linear(b: Builder, ref: str) -> str:
    """A dense layer, often behind a flattening gather."""
    size = prod(b.shapes[ref])
    if len(b.shapes[ref]) > 1 and b.rng.integers(2):
        ref = b.add(Gather, None, inputs=(ref,), index=np.arange(size))
    out = int(b.rng.integers(1, 5))
    bias = b.normal(1, out) if b.rng.integers(2) else None
    return b.add(Linear, None, inputs=(ref,), weight=b.normal(out, size) / np.sqrt(size), bias=bias)


def affine(b: Builder, ref: str) -> str:
    """Batch norm, gain, or a rescaling per step or position."""
    shape = b.shapes[ref]
    factor = b.per_step(shape, steps=True)
    shift = b.per_step(shape, steps=True) if b.rng.integers(3) else np.array([0.0])
    return b.add(Affine, None, inputs=(ref,), factor=factor, shift=shift)


def diagonal(b: Builder, ref: str) -> str:
    """A diagonal synapse."""
    return b.add(Diagonal, None, inputs=(ref,), weight=np.asarray(b.per_step(b.shapes[ref])[0]))


def pool(b: Builder, ref: str) -> str:
    """Average pooling: plain, overlapping, padded, global."""
    _, h, w = b.shapes[ref]
    if b.rng.integers(4) == 0:
        return b.add(AvgPool2d, None, inputs=(ref,), kernel=(h, w), stride=(h, w))
    k = int(b.rng.integers(1, 1 + min(3, h, w)))
    stride = k if b.rng.integers(2) else int(b.rng.integers(1, 3))
    pad = int(b.rng.integers(0, k // 2 + 1))
    counted = bool(b.rng.integers(2))
    return b.add(AvgPool2d, None, inputs=(ref,), kernel=(k, k), stride=(stride, stride), padding=(pad, pad), count_include_pad=counted)


def max_pool(b: Builder, ref: str) -> str:
    """Maximum pooling: plain, overlapping, padded, dilated."""
    _, h, w = b.shapes[ref]
    k = int(b.rng.integers(1, 1 + min(3, h, w)))
    d = 2 if k == 2 and min(h, w) > 2 and b.rng.integers(3) == 0 else 1
    stride = k if b.rng.integers(2) else int(b.rng.integers(1, 3))
    pad = tuple(int(n) for n in b.rng.integers(0, k // 2 + 1, size=4)) if d == 1 else (0, 0, 0, 0)
    return b.add(MaxPool2d, None, inputs=(ref,), kernel=(k, k), stride=(stride, stride), padding=pad, dilation=(d, d))


def gather(b: Builder, ref: str) -> str:
    """Wiring: flips, channel slices, upsampling, zero borders, permutations."""
    shape = b.shapes[ref]
    whole = np.arange(prod(shape)).reshape(shape)
    if len(shape) == 1:
        index = b.rng.integers(-1, shape[0], size=int(b.rng.integers(1, 6)))
    else:
        index = [
            lambda: whole[:, ::-1],
            lambda: whole[b.rng.integers(0, shape[0], size=int(b.rng.integers(1, 4)))],
            lambda: np.repeat(np.repeat(whole, 2, axis=1), 2, axis=2) if max(shape[1:]) < 5 else whole,
            lambda: np.pad(whole, ((0, 0), (1, 0), (0, 1)), constant_values=-1),
            lambda: np.pad(whole, ((1, 0), (0, 0), (0, 0)), constant_values=-1),
            lambda: b.rng.permutation(whole.reshape(-1)).reshape(shape),
        ][b.rng.integers(6)]()
    return b.add(Gather, None, inputs=(ref,), index=np.ascontiguousarray(index))


def concat(b: Builder, first: str, second: str) -> str:
    """Concatenation along the first axis, as capture writes it: a sum of zero-padded gathers."""
    parts = []
    c1, c2 = b.shapes[first][0], b.shapes[second][0]
    for ref, before, after in ((first, 0, c2), (second, c1, 0)):
        shape = b.shapes[ref]
        pads = [(before, after)] + [(0, 0)] * (len(shape) - 1)
        parts.append(b.add(Gather, None, inputs=(ref,), index=np.pad(np.arange(prod(shape)).reshape(shape), pads, constant_values=-1)))
    return b.add(Add, None, inputs=tuple(parts))


def delay(b: Builder, ref: str) -> str:
    """One step later, from zero or from something else."""
    shape = b.shapes[ref]
    initial = np.zeros((1,) * len(shape)) if b.rng.integers(3) else b.normal(*shape)
    return b.add(Delay, shape, inputs=(ref,), size=shape, initial=initial)


def neuron(b: Builder, ref: str) -> str:
    """Any neuron of the normal form."""
    shape = b.shapes[ref]
    spiking = b.rng.integers(4) > 0
    fire = [Fire.STEP_GE, Fire.STEP_GT][b.rng.integers(2)] if spiking else [Fire.RELU, Fire.NONE][b.rng.integers(2)]
    reset = list(Reset)[b.rng.integers(5)]
    extras: dict[str, object] = {}
    if spiking and b.rng.integers(6) == 0:
        extras["max_spikes"] = int(b.rng.integers(2, 20))
    if reset is Reset.SET and b.rng.integers(3) == 0:
        extras["reset_keep"] = b.per_step(shape) % 1.0
    if b.rng.integers(6) == 0:
        extras["v_min"] = -b.per_step(shape, positive=True)
    if spiking and b.rng.integers(6) == 0:
        extras |= {"adapt_decay": np.array([0.75]), "adapt_jump": b.per_step(shape, positive=True), "adapt_reset": bool(b.rng.integers(2))}
    alpha = np.array([0.6]) if b.rng.integers(5) == 0 else None
    return b.add(
        Neuron, None, inputs=(ref,), fire=fire, reset=reset, leak=np.abs(b.per_step(shape, steps=True)) % 1.0,
        gain=np.array([1.0]) if b.rng.integers(2) else b.per_step(shape, steps=True), bias=b.per_step(shape, steps=True) * 0.3,
        theta=b.per_step(shape, steps=True, positive=True), reset_amount=b.per_step(shape, positive=True) % 1.5,
        reset_value=np.array([0.1]), v_init=np.zeros((1,) * len(shape)) if b.rng.integers(2) else b.normal(*shape),
        alpha=alpha, late_current=bool(b.rng.integers(2)) if alpha is not None else False,
        **extras,
    )  # fmt: skip


MAP_STEPS = (conv, same_conv, affine, diagonal, pool, gather, delay, neuron, linear, neuron, neuron, conv, pool, max_pool)
VECTOR_STEPS = (linear, affine, diagonal, gather, delay, neuron, linear, neuron)


def random_graph(seed: int, length: int) -> Graph:
    """A graph of about ``length`` steps: chains, residual sums, concatenations, feedback, shared values, several outputs."""
    rng = np.random.default_rng(seed)
    b = Builder(rng, steps=int(rng.integers(1, 5)))
    size: Shape = tuple(int(k) for k in (rng.integers(1, 4), *rng.integers(2, 7, size=2)))
    if rng.integers(5) == 0:
        size = (int(rng.integers(1, 6)),)
    ref = b.add(Input, None, size=size)
    values = [ref]
    feedback: list[tuple[str, Shape]] = []
    for _ in range(length):
        shape = b.shapes[ref]
        choice = rng.integers(12)
        if choice == 0 and len(values) > 1:
            ref = values[rng.integers(len(values))]
        same = [v for v in values if b.shapes[v] == shape and v != ref]
        joinable = [v for v in values if len(b.shapes[v]) == len(shape) and b.shapes[v][1:] == shape[1:]]
        if choice in (1, 2) and same:
            ref = b.add(Add, None, inputs=(ref, same[rng.integers(len(same))]))
        elif choice == 3 and joinable:
            ref = concat(b, ref, joinable[rng.integers(len(joinable))])
        elif choice == 4:
            ahead = b.add(Delay, shape, inputs=("?",), size=shape, initial=np.zeros((1,) * len(shape)))
            feedback.append((ahead, shape))
            other = same_conv(b, ahead) if len(shape) == 3 and rng.integers(2) else affine(b, ahead)
            ref = b.add(Add, None, inputs=(ref, other))
        else:
            steps = MAP_STEPS if len(b.shapes[ref]) == 3 else VECTOR_STEPS
            ref = steps[rng.integers(len(steps))](b, ref)
        values.append(ref)
    nodes = {n.name: n for n in b.nodes}
    for name, shape in feedback:
        at = [n.name for n in b.nodes].index(name)
        later = [n.name for n in b.nodes[at:] if b.shapes[n.name] == shape]
        damped = [n for n in later if isinstance(nodes[n], Neuron)]
        source = damped[rng.integers(len(damped))] if damped and rng.integers(3) else later[rng.integers(len(later))]
        nodes[name] = Delay(**{**vars(nodes[name]), "inputs": (source,)})
    outputs = {"out": ref}
    if rng.integers(3) == 0:
        outputs["aux"] = values[rng.integers(len(values))]
    graph = Graph(name=f"random{seed}", dialect=Dialect.FLOAT, nodes=(), outputs=outputs, steps=b.steps).rebuild(list(nodes.values()))
    validate(graph)
    return graph


def random_input(graph: Graph, seed: int, samples: int = 2) -> dict[str, Array]:
    """Values for every input, constant over the steps half of the time."""
    rng = np.random.default_rng(seed)
    steps = 1 if rng.integers(2) else graph.steps
    return {n.name: rng.normal(size=(samples, steps, *n.size)) for n in graph.of(Input)}


def graphs(max_length: int = 14) -> st.SearchStrategy[Graph]:
    """Random captured-style graphs."""
    return st.builds(random_graph, st.integers(0, 2**32 - 1), st.integers(1, max_length))

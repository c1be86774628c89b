"""Random integer programs with every op and every field of the integer dialect, beyond what the quantiser writes today."""

from __future__ import annotations

from math import prod

import numpy as np

from snncompile.ir.graph import Dialect, Graph, Op, validate
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.linear_ops import Add, Conv2d, Delay, Diagonal, Gather, Linear
from snncompile.ir.neuron import Reset

BITS = 12
FACTORS = np.array([0, 1, 1000, 2048, 3686, 4095, 4096, -700, -4096, 5000])


def whole(*values):
    return np.array(values, dtype=np.int64)


def source(*size, low=-50, high=50, name="x"):
    return IntInput(name=name, size=size, lsb=np.ones(()), offset=np.zeros(()), low=low, high=high)


def neuron(name, inputs, **fields):
    default = {
        "fire": "step", "reset": Reset.SUBTRACT, "exponents": (0,) * len(inputs), "decay_bits": BITS, "leak": whole(4096),
        "bias": whole(0), "threshold": whole(10), "reset_amount": whole(10), "reset_value": whole(0), "v_init": np.zeros((), np.int64),
        "v_scale": np.ones(()), "out_scale": np.ones(()),
    }  # fmt: skip
    return IntNeuron(name=name, inputs=inputs, **{**default, **fields})


def program(*nodes: Op, steps=4, outputs=None, **meta) -> Graph:
    named = outputs or {"out": next(n.name for n in reversed(nodes) if isinstance(n, IntNeuron))}
    graph = Graph(name="g", dialect=Dialect.INTEGER, nodes=(), outputs=named, steps=steps, meta=meta).rebuild(list(nodes))
    validate(graph)
    return graph


class Maker:
    """Draws one program."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.steps = int(self.rng.integers(1, 5))
        self.nodes: list[Op] = []
        self.shapes: dict[str, tuple[int, ...]] = {}

    def some(self, chance=0.5) -> bool:
        return bool(self.rng.random() < chance)

    def add(self, op: Op) -> str:
        self.nodes.append(op)
        self.shapes[op.name] = op.infer(*(self.shapes.get(r.partition(".")[0], ()) for r in op.inputs))
        return op.name

    def name(self, kind: str) -> str:
        return f"{kind}{len(self.nodes)}"

    def field(self, shape, low, high, choices=None):
        """A per-step field: scalar, per channel or per neuron, the same at every step or not."""
        rest = [(), (shape[0],) + (1,) * (len(shape) - 1), shape][self.rng.integers(3)]
        size = (self.steps if self.some(0.4) else 1, *rest)
        return self.rng.choice(choices, size) if choices is not None else self.rng.integers(low, high + 1, size)

    def synapse(self, ref: str) -> str:
        shape, rng = self.shapes[ref], self.rng
        if len(shape) == 3 and self.some(0.7):
            groups = shape[0] if self.some(0.3) else 1
            k = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
            weight = rng.integers(-127, 128, (groups * int(rng.integers(1, 3)), shape[0] // groups, *k))
            op = Conv2d(
                name=self.name("conv"), inputs=(ref,), weight=weight, groups=groups, stride=tuple(int(s) for s in rng.integers(1, 3, 2)),
                dilation=tuple(int(d) for d in rng.integers(1, 3, 2)), padding=tuple(int(p) for p in rng.integers(-1, 3, 4)),
            )  # fmt: skip
            try:
                op.infer(shape)
            except ValueError:
                return self.synapse(ref)
            return self.add(op)
        if self.some(0.5):
            return self.add(Diagonal(name=self.name("diag"), inputs=(ref,), weight=self.field(shape, -127, 127)[0]))
        weight = rng.integers(-127, 128, (int(rng.integers(1, 6)), prod(shape)))
        return self.add(Linear(name=self.name("dense"), inputs=(ref,), weight=weight))

    def wired(self, ref: str) -> str:
        shape = self.shapes[ref]
        size = prod(shape)
        index = [
            np.arange(size), self.rng.integers(-1, size, int(self.rng.integers(1, 7))), np.arange(size).reshape(shape)[..., ::-1],
            np.pad(np.arange(size).reshape(shape), 1, constant_values=-1) if len(shape) == 1 else np.arange(size).reshape(1, -1, 1),
        ][self.rng.integers(4)]  # fmt: skip
        return self.add(Gather(name=self.name("wire"), inputs=(ref,), index=np.ascontiguousarray(index)))

    def population(self, refs: list[str]) -> str:
        rng, shape = self.rng, self.shapes[refs[0]]
        fire = ["step", "step", "relu", "none"][rng.integers(4)]
        reset = list(Reset)[rng.integers(5)]
        extras = {}
        if self.some(0.3):
            extras |= {"alpha": self.field(shape, 0, 0, FACTORS[:6]), "late_current": self.some()}
        if self.some(0.3):
            extras |= {"gain": self.field(shape, -60, 60), "gain_shift": self.field(shape, 0, 7)[0]}
        if self.some(0.3):
            extras["reset_keep"] = self.field(shape, 0, 0, FACTORS)
        if self.some(0.3):
            extras["v_min"] = self.field(shape, -90, 20)
        if fire != "none" and self.some(0.4):
            extras |= {"adapt_decay": self.field(shape, 0, 0, FACTORS[:6]), "adapt_jump": self.field(shape, 0, 30)}
            extras["adapt_reset"] = self.some()
        if fire == "step" and self.some():
            extras |= {"max_spikes": int(rng.integers(2, 9)), "spike_step": self.field(shape, 1, 60)}
        if fire == "relu":
            high = int(rng.integers(1, 1000))
            extras |= {"multiplier": self.field(shape, 0, 999)[0], "shift": self.field(shape, 0, 12)[0], "payload_max": high}
            extras["payload_min"] = -high if self.some(0.3) else 0
        return self.add(neuron(
            self.name("lif"), tuple(refs), fire=fire, reset=reset, exponents=tuple(int(e) for e in rng.integers(0, 4, len(refs))),
            leak=self.field(shape, 0, 0, FACTORS), bias=self.field(shape, -200, 200), threshold=self.field(shape, -50, 900),
            reset_amount=self.field(shape, 0, 1 if fire == "none" else 500), reset_value=self.field(shape, -50, 50),
            v_init=self.field(shape, -99, 99)[0], **extras,
        ))  # fmt: skip

    def graph(self) -> Graph:
        rng = self.rng
        size = (int(rng.integers(1, 4)), int(rng.integers(2, 6)), int(rng.integers(2, 6))) if self.some(0.7) else (int(rng.integers(1, 6)),)
        high = int(rng.choice([1, 15, 255, 2**15]))
        ref = self.add(source(*size, low=-high if self.some(0.3) else 0, high=high))
        payloads, ahead = [ref], []
        for _ in range(int(rng.integers(1, 5))):
            ref = payloads[rng.integers(max(0, len(payloads) - 2), len(payloads))]
            if self.some(0.3):
                ref = self.wired(ref)
            if self.some(0.3):
                shape = self.shapes[ref]
                ref = self.add(Delay(name=self.name("delay"), inputs=(ref,), size=shape, initial=self.field(shape, -3, 3)[0]))
            parts = [self.synapse(ref)]
            shape = self.shapes[parts[0]]
            same = [p for p in payloads if self.shapes[p] == shape]
            if same and self.some(0.6):
                parts.append(self.add(Diagonal(name=self.name("skip"), inputs=(same[-1],), weight=self.field(shape, -9, 9)[0])))
            if self.some(0.3):  # a loop: the population's own payload, or a later one of the same shape
                back = self.add(Delay(name=self.name("back"), inputs=("?",), size=shape, initial=np.zeros((1,) * len(shape), np.int64)))
                ahead.append(back)
                parts.append(self.add(Diagonal(name=self.name("loop"), inputs=(back,), weight=self.field(shape, -9, 9)[0])))
            if len(parts) > 1 and self.some(0.2):
                parts = [self.add(Add(name=self.name("sum"), inputs=tuple(parts)))]
            payloads.append(self.population(parts))
        populations = [n.name for n in self.nodes if isinstance(n, IntNeuron)]
        nodes = {n.name: n for n in self.nodes}
        for back in ahead:
            later = [p for p in populations if self.shapes[p] == self.shapes[back] and list(nodes).index(p) > list(nodes).index(back)]
            nodes[back] = Delay(**{**vars(nodes[back]), "inputs": (str(rng.choice(later)),)})
        port = ["", ".m", ".v"][rng.integers(3)]
        return program(*nodes.values(), steps=self.steps, outputs={"out": f"{populations[-1]}{port}", "first": populations[0]})


def payloads(graph: Graph, seed: int, samples: int = 3):
    """Payloads over the whole range of every input."""
    rng = np.random.default_rng(seed)
    steps = 1 if rng.random() < 0.3 else graph.steps
    return {n.name: rng.integers(n.low, n.high + 1, (samples, steps, *n.size)) for n in graph.of(IntInput)}

"""Random neuron programs between random synapses: every operation, several states and currents, delays, values per channel and step."""

from __future__ import annotations

import numpy as np

from snncompile.ir.graph import Dialect, Graph, validate
from snncompile.ir.linear_ops import Conv2d, Delay, Diagonal, Gather, Input, Linear
from snncompile.ir.neuron import Fire, Neuron, Reset, constant
from snncompile.ir.program import NeuronProgram
from snncompile.ir.program_code import ARITHMETIC, FUNCTIONS

SAFE = ("exp", "sigmoid", "tanh", "softplus")


def random_program(rng: np.random.Generator, name: str, inputs: tuple[str, ...], shape: tuple[int, ...], steps: int) -> NeuronProgram:
    """A program of 4 to 12 instructions that ends in a spike or a graded value; its states leak or are limited."""
    states = int(rng.integers(1, 4))
    known = [*(f"i{k}" for k in range(len(inputs))), *(f"z{k}" for k in range(states)), "c0", "c1", "c2"]
    code: list[str] = []
    bits: list[str] = []

    def add(op: str, *args: str) -> str:
        code.append(f"r{len(code)} = {op} {' '.join(args)}")
        return f"r{len(code) - 1}"

    m = add("add", add("mul", "z0", "c0"), "i0")
    known.append(m)
    for _ in range(int(rng.integers(2, 9))):
        op = str(rng.choice([*(o for o in ARITHMETIC if o != "copy"), *SAFE, "sqrt", "reciprocal"]))
        pick = [str(rng.choice(known[-6:] if rng.integers(2) else known)) for _ in range(3)]
        if op in FUNCTIONS:
            limited = add("min", add("max", pick[0], "c3"), "c4")  # exp and products stay within reach
            known.append(add(op, add("add", add("abs", limited), "c1") if op in ("sqrt", "reciprocal") else limited))
        elif op == "select":
            bit = str(rng.choice(bits)) if bits else add("ge", pick[0], "c1")
            known.append(add(op, bit, *pick[1:]))
        else:
            made = add(op, *pick[: ARITHMETIC[op]])
            if op in ("ge", "gt"):
                bits.append(made)
            else:
                known.append(made)
    fired = add(str(rng.choice(["ge", "gt"])), m, "c2")
    last = known[-1]
    following = [add("select", fired, "c1", m)]
    for k in range(1, states):
        following.append(add("min", add("max", add("add", add("mul", f"z{k}", "c0"), last if rng.integers(2) else fired), "c3"), "c4"))
    spiking = bool(rng.integers(4))
    rest = (shape[0],) + (1,) * (len(shape) - 1)
    leak = rng.uniform(0.2, 0.9, size=(steps if rng.integers(4) == 0 else 1, *(rest if rng.integers(2) else (1,) * len(shape))))
    constants = (leak, np.full(1, 0.5), rng.uniform(0.3, 1.2, size=(1, *rest)), np.full(1, -3.0), np.full(1, 3.0))
    one = np.ones(1)
    return NeuronProgram(
        name=name, inputs=inputs, code=tuple(code), payload=fired if spiking else following[0], membrane=m,
        threshold="c2" if spiking else "", following=tuple(following), initial=tuple(np.full(1, v) for v in rng.normal(size=states) * 0.3),
        constants=constants, gain=(one,) * len(inputs), bias=tuple(np.full(1, v) for v in rng.normal(size=len(inputs)) * 0.2),
    )  # fmt: skip


def random_program_graph(seed: int) -> Graph:
    """A convolution or dense layer, a program of one or two currents (one may be its own past), a readout."""
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(2, 7))
    nodes: list[object] = []
    if rng.integers(2):
        size: tuple[int, ...] = (2, 4, 4)
        shape: tuple[int, ...] = (3, 4, 4)
        nodes += [Input(name="x", size=size, low=0, high=1, grid=1 / 15),
                  Conv2d(name="w", inputs=("x",), weight=rng.normal(size=(3, 2, 3, 3)) / 2, padding=(1, 1, 1, 1))]  # fmt: skip
    else:
        size, shape = (6,), (5,)
        nodes += [Input(name="x", size=size, low=-1, high=1, grid=1 / 15), Linear(name="w", inputs=("x",), weight=rng.normal(size=(5, 6)))]
    inputs: tuple[str, ...] = ("w",)
    if rng.integers(2):
        start = np.zeros((1,) * len(shape))
        nodes += [Delay(name="past", inputs=("n",), size=shape, initial=start),
                  Diagonal(name="back", inputs=("past",), weight=rng.normal(size=(shape[0],) + (1,) * (len(shape) - 1)) * 0.5)]  # fmt: skip
        inputs = ("w", "back") if rng.integers(2) else ("back", "w")
    n = random_program(rng, "n", inputs, shape, steps)
    zero = constant(0.0)
    count = int(np.prod(shape))
    nodes += [
        n, Gather(name="flat", inputs=("n",), index=np.arange(count)),
        Linear(name="r", inputs=("flat",), weight=rng.normal(size=(3, count))),
        Neuron(name="out", inputs=("r",), fire=Fire.NONE, reset=Reset.STATELESS, leak=zero, gain=constant(1.0), bias=zero, theta=zero,
               reset_amount=zero, reset_value=zero, v_init=np.zeros(1)),
    ]  # fmt: skip
    graph = Graph(name=f"p{seed}", dialect=Dialect.FLOAT, steps=steps, outputs={"out": "out"}, nodes=()).rebuild(nodes)  # type: ignore[arg-type]
    validate(graph)
    return graph

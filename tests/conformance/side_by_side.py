"""Random integer programs, and several of them as one, so that many run in one process of Lava."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from strategies import random_graph, random_input

from snncompile.errors import CompileError
from snncompile.ir.graph import Graph
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.mapping.schedule import Schedule, schedule
from snncompile.passes import run_passes
from snncompile.quantize import Options, quantize
from snncompile.target import load_target
from snncompile.verify import Program

LARGEST = 48
"""Populations of programs that run together: each is an operating-system process of Lava's simulator."""


@dataclass(frozen=True, eq=False, repr=False)
class Made:
    """A program, its samples, and the seed that it came from."""

    seed: int
    graph: Graph
    schedule: Schedule
    x: dict[str, np.ndarray]

    @property
    def program(self) -> Program:
        """What ``verify`` takes."""
        return Program(graph=self.graph, schedule=self.schedule, populations=())

    @property
    def kind(self) -> tuple[int, int, str]:
        """Programs of one kind may share their hardware time."""
        return self.graph.steps, self.schedule.initiation_interval, repr(sorted(self.graph.meta.items()))


def make(graph: Graph, seed: int = 0) -> Made | None:
    """Compile a float graph; None where the compiler refuses it with an error of its own, or where nothing depends on an input."""
    x = random_input(graph, seed)
    try:
        folded, _ = run_passes(graph, probe=x)
        whole = quantize(folded, load_target("loihi2-sim"), calibration=x, options=Options(weight_bits=(8, 8, 15, 11)[seed % 4])).graph
        made = Made(seed, whole, schedule(whole), x)
    except CompileError:
        return None
    return made if whole.of(IntInput) else None


def programs(seeds: Iterable[int]) -> Iterator[Made]:
    """The programs of the random networks of these seeds."""
    for seed in seeds:
        made = make(random_graph(seed, 10), seed)
        if made is not None:
            yield made


def together(members: Sequence[Made]) -> Made:
    """Programs of one kind, side by side in one graph that shares their hardware time."""
    nodes, outputs, x = [], {}, {}
    for k, m in enumerate(members):
        nodes += [replace(n, name=f"n{k}_{n.name}", inputs=tuple(f"n{k}_{ref}" for ref in n.inputs)) for n in m.graph.nodes]
        outputs |= {f"n{k}_{label}": f"n{k}_{ref}" for label, ref in m.graph.outputs.items()}
        for name, values in m.x.items():
            full = np.broadcast_to(values, (len(values), m.graph.steps, *values.shape[2:]))
            x[f"n{k}_{name}"] = np.asarray(full)
    graph = replace(members[0].graph, nodes=(), outputs=outputs).rebuild(nodes)
    return Made(members[0].seed, graph, schedule(graph), x)


def batches(made: Iterable[Made]) -> Iterator[list[Made]]:
    """Programs of one kind in groups of at most ``LARGEST`` populations."""
    open_: dict[tuple[int, int, str], list[Made]] = {}
    size: dict[tuple[int, int, str], int] = {}
    for m in made:
        more = len(m.graph.of(IntNeuron))
        if size.get(m.kind, 0) + more > LARGEST and open_.get(m.kind):
            yield open_.pop(m.kind)
            size[m.kind] = 0
        open_.setdefault(m.kind, []).append(m)
        size[m.kind] = size.get(m.kind, 0) + more
    yield from open_.values()

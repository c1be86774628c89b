"""A float graph as a NIR graph, and as a file.

Every node's fields say what NIR can say, so that any reader takes the file; beside them, as metadata, stands the exact op, which
``snncompile.import_nir`` reads back. Sums are edges that meet; a sum that is an output or has several readers gets a junction.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np

from snncompile.backends.nir.layers import is_sum_pool, layer_nodes, symmetric
from snncompile.backends.nir.neurons import neuron_node
from snncompile.capture.nir.own import OWN, own_metadata
from snncompile.errors import CompileError, Diagnostic, InternalError, fail
from snncompile.ir.graph import Graph, Op, fresh_name, port_of
from snncompile.ir.linear_ops import Add, AvgPool2d, Conv2d, Delay, Gather, Input, Linear
from snncompile.ir.neuron import Neuron
from snncompile.ir.program import NeuronProgram
from snncompile.version import VERSION

WAY_OUT = "compile the network from its own file; NIR cannot carry all of it"


def to_nir(graph: Graph) -> Any:
    """The ``nir.NIRGraph``; raises CompileError SNN169 with everything that NIR has no node for."""
    return _Writer(graph).write()


def write_nir(graph: Graph, path: Path) -> None:
    """Write a file in one go; two writes of the same graph are the same bytes. Raises CompileError SNN169 and SNN030."""
    made = to_nir(graph)
    buffer = io.BytesIO()
    nir.write(buffer, made)
    beside = path.with_name(f".{path.name}.tmp")
    try:
        beside.write_bytes(buffer.getvalue())
        beside.replace(path)
    except OSError as e:
        beside.unlink(missing_ok=True)
        raise fail("SNN030", f"cannot write {path}: {e.strerror}", help="choose another place with -o") from e


def _plain(op: Op) -> bool:
    """Whether the fields of the op's node say all of it."""
    if isinstance(op, Conv2d):
        return is_sum_pool(op) or (symmetric(op) and op.groups == 1)
    return isinstance(op, (Linear, AvgPool2d)) or (isinstance(op, Delay) and not np.any(op.initial))


class _Writer:
    """Nodes and edges, op by op."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.found: list[Diagnostic] = []
        self.ends: dict[str, tuple[str, ...]] = {}

    def write(self) -> Any:
        reads = {op.name: self._enter(op) for op in self.graph.nodes}  # loops: names first, edges after
        for op in self.graph.nodes:
            if reads[op.name]:
                self.edges += [(a, reads[op.name]) for ref in op.inputs for a in self._sources(ref)]
        for label, ref in self.graph.outputs.items():
            if port_of(ref) and not self._is_membrane(ref):
                self.found.append(
                    Diagnostic("SNN169", f"output '{label}' is '{ref}', and NIR's nodes give only their spikes", help=WAY_OUT)
                )
            name = fresh_name(self.nodes, label)
            self.nodes[name] = nir.Output(np.array(self.graph.shape(ref)), metadata={OWN: json.dumps({"name": label})})
            self.edges += [(a, name) for a in self._sources(ref)]
        if self.found:
            raise CompileError(self.found)
        try:
            return nir.NIRGraph(nodes=self.nodes, edges=self.edges, metadata={OWN: VERSION, f"{OWN}_name": self.graph.name})
        except ValueError as e:
            raise InternalError(f"the NIR graph of '{self.graph.name}' is not valid: {e}") from e

    def _is_membrane(self, ref: str) -> bool:
        """Whether a port is what the node gives anyway: the membrane of a neuron that never fires."""
        op = self.graph.node(ref)
        return isinstance(op, Neuron) and op.fire.value == "none" and port_of(ref) == "m"

    def _sources(self, ref: str) -> tuple[str, ...]:
        return self.ends[self.graph.node(ref).name]

    def _enter(self, op: Op) -> str:
        """Add the nodes of an op; the name that its inputs lead to, empty if edges go around it."""
        after = self.graph.shapes[op.name]
        self.found += [
            Diagnostic("SNN169", f"'{op.name}' reads '{r}', and NIR's nodes give only their spikes", op.loc, help=WAY_OUT)
            for r in op.inputs if port_of(r) and not self._is_membrane(r)
        ]  # fmt: skip
        if isinstance(op, Input):
            return self._place(op, [nir.Input(np.array(op.size))], inputs=False)
        if isinstance(op, Neuron):
            return self._place(op, [neuron_node(op, after)])
        if isinstance(op, Add):
            alone = self.graph.sole_reader(op.name)
            if alone is None or isinstance(alone, (Add, Gather)) or len(set(op.inputs)) < len(op.inputs):
                return self._place(op, [nir.Scale(scale=np.ones(after))], own=False)
            self.ends[op.name] = tuple(a for r in op.inputs for a in self._later(r))
            return ""
        if isinstance(op, NeuronProgram):
            what = f"'{op.name}' is a neuron program, and NIR has no node for arithmetic that is not one of its neurons'"
            self.found.append(Diagnostic("SNN169", what, op.loc, help=WAY_OUT))
            return self._place(op, [nir.Scale(scale=np.ones(after))], own=False)
        nodes = layer_nodes(op, self.graph.shape(op.inputs[0]), after)
        if isinstance(nodes, str):
            self.found.append(Diagnostic("SNN169", f"'{op.name}' ({op.kind}) cannot be written as NIR: {nodes}", op.loc, help=WAY_OUT))
            nodes = [nir.Scale(scale=np.ones(after))]
        if not nodes:
            self.ends[op.name] = self._later(op.inputs[0])
            return ""
        return self._place(op, nodes)

    def _later(self, ref: str) -> tuple[str, ...]:
        """Where an input's value comes from; delays may stand behind their readers in the order of nodes."""
        op = self.graph.node(ref)
        return self.ends.get(op.name, (op.name,))

    def _place(self, op: Op, nodes: Iterable[Any], *, own: bool = True, inputs: bool = True) -> str:
        """Put nodes in a row, the last under the op's name."""
        row = list(nodes)
        names = [fresh_name(self.graph.by_name, f"{op.name}_{type(node).__name__.lower()}") for node in row[:-1]] + [op.name]
        for name, node in zip(names, row, strict=True):
            self.nodes[name] = node
        if own and not _plain(op):
            row[-1].metadata = own_metadata(op)
        self.edges += list(pairwise(names))
        self.ends[op.name] = (op.name,)
        return names[0] if inputs else ""


__all__ = ["to_nir", "write_nir"]

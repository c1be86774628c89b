"""NIR files and graphs for tests: written as HDF5 in NIR's layout, whatever nir.write thinks of them, and run."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import h5py
import nir
import numpy as np

from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Input


def save(graph, path) -> Path:
    """A graph of the nir package as a file; fields that are None are left out, as older versions of nir did."""
    with h5py.File(path, "w") as file:
        file["version"] = "1.0.8"
        _write(file.create_group("node"), graph)
    return Path(path)


def _write(group, node):
    group["type"] = type(node).__name__
    if node.metadata:
        for key, value in node.metadata.items():
            group.require_group("metadata")[key] = value
    if isinstance(node, nir.NIRGraph):
        for name, inner in node.nodes.items():
            _write(group.require_group("nodes").create_group(str(name)), inner)
        group["edges"] = np.array([[str(a), str(b)] for a, b in node.edges], dtype=h5py.string_dtype())
        return
    if isinstance(node, (nir.Input, nir.Output)):
        group["shape"] = np.asarray(node.input_type["input"])
    for key, value in vars(node).items():
        if key not in ("input_type", "output_type", "metadata") and value is not None:
            group[key] = value.detach().numpy() if hasattr(value, "detach") else value


def chain(*nodes, shape, out=None) -> nir.NIRGraph:
    """Nodes in a row, named n0, n1, ..."""
    names = ["input", *(f"n{k}" for k in range(len(nodes))), "output"]
    ends = [nir.Input(np.array(shape)), nir.Output(np.array(out or shape))]
    return nir.NIRGraph(nodes=dict(zip(names, [ends[0], *nodes, ends[1]], strict=True)), edges=list(pairwise(names)), type_check=False)


def lif(size, *, tau=1e-3, r=1.0, v_leak=0.0, v_threshold=1.0, v_reset=0.0):
    """A LIF node with equal neurons."""
    return nir.LIF(
        tau=np.full(size, tau), r=np.full(size, r), v_leak=np.full(size, v_leak), v_threshold=np.full(size, v_threshold),
        v_reset=np.full(size, v_reset),
    )  # fmt: skip


def run(graph, x, record=()):
    """The first output of a float graph on ``x`` (N, T, *shape), or what is recorded."""
    (source,) = graph.of(Input)
    found = interpret(graph, {source.name: np.asarray(x, dtype=np.float64)}, record=record)
    return found if record else found[next(iter(graph.outputs))]

"""Subgraphs written out: one flat set of nodes; edges lead through the inner inputs and outputs of subgraphs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from snncompile.capture.nir.nodes import Edge, RawGraph, RawNode
from snncompile.errors import CompileError, Diagnostic

JUNCTION = "Junction"


@dataclass(frozen=True)
class Flat:
    """Nodes by path, in the order of the file, and edges between paths. An edge that is there twice counts twice."""

    nodes: dict[str, RawNode]
    edges: tuple[Edge, ...]

    def sources(self, name: str) -> list[str]:
        """What feeds a node, in the order of the edges."""
        return [a for a, b in self.edges if b == name]

    def readers(self, name: str) -> list[str]:
        """What a node feeds."""
        return [b for a, b in self.edges if a == name]


def flatten(graph: RawGraph) -> Flat:
    """Write out all subgraphs.

    Raises CompileError SNN162 where a subgraph has not exactly one input and one output, or nothing goes in or comes out.
    """
    found: list[Diagnostic] = []
    nodes: dict[str, RawNode] = {}
    edges: list[Edge] = []
    _write_out(graph, nodes, edges, found)
    flat = _without_junctions(nodes, edges)
    if not found:
        found += _loose_ends(flat)
    if found:
        raise CompileError(found)
    return flat


def _write_out(graph: RawGraph, nodes: dict[str, RawNode], edges: list[Edge], found: list[Diagnostic]) -> None:
    ends: dict[str, tuple[str, str]] = {}
    for name, node in graph.nodes.items():
        if isinstance(node, RawNode):
            inner = graph.path and node.type in ("Input", "Output")
            nodes[node.path] = replace(node, type=JUNCTION) if inner else node
            ends[name] = (node.path, node.path)
            continue
        _write_out(node, nodes, edges, found)
        doors = [[n.path for n in node.nodes.values() if n.type == kind] for kind in ("Input", "Output")]
        for kind, paths in zip(("Input", "Output"), doors, strict=True):
            if len(paths) != 1:
                found.append(Diagnostic(
                    "SNN162", f"subgraph '{node.path}' has {len(paths)} nodes of type {kind}",
                    notes=("an edge names the subgraph alone, so one of them must be meant",), help=f"give it one {kind} node",
                ))  # fmt: skip
        if all(len(paths) == 1 for paths in doors):
            ends[name] = (doors[0][0], doors[1][0])
    edges += [(ends[a][1], ends[b][0]) for a, b in graph.edges if a in ends and b in ends]


def _without_junctions(nodes: dict[str, RawNode], edges: list[Edge]) -> Flat:
    for junction in [path for path, node in nodes.items() if node.type == JUNCTION]:
        into, out = ([e for e in edges if e[side] == junction and e[0] != e[1]] for side in (1, 0))
        through = [(a, b) for _, b in out for a, _ in into]
        edges = [e for e in edges if junction not in e] + through
    return Flat({path: node for path, node in nodes.items() if node.type != JUNCTION}, tuple(edges))


def _loose_ends(flat: Flat) -> Iterator[Diagnostic]:
    """What is wrong with how the graph begins and ends."""
    kinds = {node.type for node in flat.nodes.values()}
    for kind, what in (("Input", "goes in"), ("Output", "comes out")):
        if kind not in kinds:
            yield Diagnostic("SNN162", f"the graph has no node of type {kind}, so nothing {what}", help=f"add a nir.{kind} node")
    for name, node in flat.nodes.items():
        if node.type != "Input" and not flat.sources(name):
            yield Diagnostic("SNN162", f"node {node.label} has no input", help="give it an edge, or remove it")
        if node.type == "Input" and flat.sources(name):
            yield Diagnostic("SNN162", f"node {node.label} is an input, but '{flat.sources(name)[0]}' feeds it", help="remove that edge")
        if node.type == "Output" and flat.readers(name):
            yield Diagnostic("SNN162", f"node {node.label} is an output, but feeds '{flat.readers(name)[0]}'", help="remove that edge")


__all__ = ["Flat", "flatten"]

"""Read a ``.nir`` file, or a ``nir.NIRGraph`` in memory, into plain values, and check its form: every wrong field at once.

The file is not read with ``nir.read``, which stops at the first problem and names neither node nor field.

    SNN160  not a NIR file    SNN161  a wrong node or field    SNN162  a wrong structure
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from snncompile import hdf5
from snncompile.capture.nir.nodes import Edge, RawGraph, RawNode
from snncompile.capture.nir.schema import NODES, check_node
from snncompile.errors import CompileError, Diagnostic, fail
from snncompile.files import check_file

MAX_DEPTH = 16
GRAPH_FIELDS = {"type", "nodes", "edges", "metadata", "input_type", "output_type"}
WRITE_AGAIN = "write it again with nir.write"


def read_nir(path: Path) -> RawGraph:
    """The graph in a file; raises CompileError with everything that is wrong with it."""
    check_file(path)
    try:
        content = hdf5.read(path)
    except hdf5.Unreadable as e:
        raise fail("SNN160", f"{path} is not a NIR file: {e}", help=WRITE_AGAIN) from e
    node = content.get("node")
    if not isinstance(node, Mapping):
        has = ", ".join(list(content)[:8]) or "nothing"
        raise fail("SNN160", f"{path} is an HDF5 file, but not a NIR file: it has no group 'node'", notes=[f"it has {has}"])
    version = content.get("version")
    graph = _graph(_taken(node, "/node", 0), path.stem, "", version if isinstance(version, str) else "")
    check_form(graph)
    return graph


def from_memory(graph: Any, name: str = "network") -> RawGraph:
    """The graph in a ``nir.NIRGraph``, whose arrays may be tensors; checked likewise."""
    raw = _graph(_unpacked(graph), name, "", "")
    check_form(raw)
    return raw


# ---------------------------------------------------------------- files and objects to plain trees


REFUSED = {
    "link": "'{0}' is a link to another place, which is not followed", "elsewhere": "'{0}' lies in another file, which is not opened",
    "large": "'{0}' claims {1:,} numbers, more than the file can hold", "deep": "'{0}' is nested {1} groups deep",
    "unreadable": "'{0}' cannot be read: {1}",
}  # fmt: skip


def _taken(tree: hdf5.Tree, where: str, depth: int) -> dict[str, Any]:
    """The tree as far as it can be taken: a value of no known kind stays, to be named with its field."""
    if depth > MAX_DEPTH:
        raise fail("SNN160", f"'{where}' is nested {depth} groups deep", help=WRITE_AGAIN)
    found: dict[str, Any] = {}
    for key, item in tree.items():
        inside = f"{where}/{key}"
        if isinstance(item, hdf5.Refused) and item.why != "odd":
            raise fail("SNN160", REFUSED[item.why].format(inside, item.detail), help=WRITE_AGAIN)
        found[key] = _taken(item, inside, depth + 1) if isinstance(item, Mapping) else item
    return found


def _unpacked(graph: Any) -> dict[str, Any]:
    """A NIR object as the tree that its file would hold."""
    tree: dict[str, Any] = {"type": type(graph).__name__, "metadata": dict(getattr(graph, "metadata", None) or {})}
    if tree["type"] == "NIRGraph":
        tree["nodes"] = {str(name): _unpacked(node) for name, node in graph.nodes.items()}
        tree["edges"] = [(_text(a), _text(b)) for a, b in graph.edges]
        return tree
    for name, value in vars(graph).items():
        if name in ("input_type", "output_type", "metadata") or value is None:
            continue
        tree[name] = value if isinstance(value, str) else _array(value)
    for kind, side in (("Input", "input"), ("Output", "output"), ("Flatten", "input")):
        shape = (getattr(graph, f"{side}_type", None) or {}).get(side)
        if tree["type"] == kind and shape is not None:
            tree["input_type" if kind == "Flatten" else "shape"] = _array(shape)
    return tree


def _array(value: Any) -> Any:
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)


def _text(value: Any) -> Any:
    """Bytes as text; anything else as it is."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


# ---------------------------------------------------------------- plain trees to raw graphs


def _graph(tree: Mapping[str, Any], name: str, path: str, version: str) -> RawGraph:
    where = f"'{path}'" if path else "the file"
    kind = _type(tree)
    if kind not in ("", "NIRGraph"):
        if path or kind not in NODES:
            raise fail("SNN160", f"{where} holds a node of type '{kind}', not a NIRGraph", help=WRITE_AGAIN)
        return RawGraph(name=name, path=path, nodes={"node": _node(tree, "node", "node")}, edges=(), version=version)
    nodes = tree.get("nodes")
    if not isinstance(nodes, Mapping):
        raise fail("SNN160", f"{where} has no group 'nodes'", notes=[f"it has {', '.join(tree) or 'nothing'}"], help=WRITE_AGAIN)
    made: dict[str, RawNode | RawGraph] = {}
    for key, item in nodes.items():
        inside = f"{path}/{key}" if path else str(key)
        if not isinstance(item, Mapping):
            raise fail("SNN160", f"'{inside}' is a value, not a node", help=WRITE_AGAIN)
        made[key] = _graph(item, key, inside, version) if _type(item) == "NIRGraph" else _node(item, key, inside)
    metadata = tree.get("metadata")
    return RawGraph(
        name=name, path=path, nodes=made, edges=_edges(tree.get("edges"), where), version=version,
        metadata=metadata if isinstance(metadata, Mapping) else {},
    )  # fmt: skip


def _node(tree: Mapping[str, Any], name: str, path: str) -> RawNode:
    fields = {k: v for k, v in tree.items() if k not in ("type", "metadata")}
    metadata = tree.get("metadata")
    return RawNode(name=name, path=path, type=_type(tree), fields=fields, metadata=metadata if isinstance(metadata, Mapping) else {})


def _type(tree: Mapping[str, Any]) -> str:
    """A node's type; a value that is no text names itself."""
    kind = tree.get("type", "")
    return kind if isinstance(kind, str) else f"{kind!r:.40}"


def _edges(value: Any, where: str) -> tuple[Edge, ...]:
    if value is None:
        return ()
    pairs = value.tolist() if isinstance(value, np.ndarray) and value.ndim == 2 else value
    if not isinstance(pairs, (list, tuple)) or any(not isinstance(pair, (list, tuple)) or len(pair) != 2 for pair in pairs):
        raise fail("SNN162", f"the edges of {where} are no pairs of names", help=WRITE_AGAIN)
    return tuple((str(_text(a)), str(_text(b))) for a, b in pairs)


# ---------------------------------------------------------------- form


def check_form(graph: RawGraph) -> None:
    """Raise CompileError with every node, field and edge that is wrong."""
    found = list(_wrong(graph))
    if found:
        raise CompileError(found)


def _wrong(graph: RawGraph) -> Iterator[Diagnostic]:
    for node in graph.nodes.values():
        if isinstance(node, RawGraph):
            yield from _wrong(node)
        elif node.type not in NODES:
            near = difflib.get_close_matches(node.type, NODES, n=1)
            way_out = f"did you mean {near[0]}?" if near else f"NIR 1.0 has {', '.join(NODES)}, NIRGraph"
            missing = "has no type" if not node.type else f"is of the unknown type '{node.type}'"
            yield Diagnostic("SNN161", f"node '{node.path}' {missing}", help=way_out)
        else:
            yield from check_node(node)
    seen: set[Edge] = set()
    for edge in graph.edges:
        for end in dict.fromkeys(edge):
            if end not in graph.nodes:
                near = difflib.get_close_matches(end, graph.nodes, n=1)
                yield Diagnostic(
                    "SNN162", f"edge '{edge[0]}' -> '{edge[1]}' of {graph.label}: there is no node '{end}'",
                    help=f"did you mean {near[0]}?" if near else f"its nodes are {', '.join(graph.nodes)}",
                )  # fmt: skip
        if edge in seen:
            yield Diagnostic(
                "SNN162", f"edge '{edge[0]}' -> '{edge[1]}' of {graph.label} is listed twice",
                notes=("readers differ in whether it then counts twice",), help="list it once",
            )  # fmt: skip
        seen.add(edge)


__all__ = ["check_form", "from_memory", "read_nir"]

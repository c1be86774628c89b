"""The exact meaning of a node, as this compiler writes it into a NIR node's metadata and reads it back.

``snncompile`` holds JSON: the op's kind and its plain fields; ``snncompile_FIELD`` holds an array. Both sides are driven by the op's
dataclass fields, like the text form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from typing import Any

import numpy as np

from snncompile.capture.nir.nodes import RawNode
from snncompile.errors import CompileError, fail
from snncompile.ir.graph import OPS, Dialect, Op
from snncompile.ir.neuron import Fire, Reset

OWN = "snncompile"
SKIPPED = ("name", "inputs", "loc", "origin")
ENUMS: Mapping[str, type[Enum]] = {"fire": Fire, "reset": Reset}


def own_metadata(op: Op) -> dict[str, Any]:
    """The metadata of the node that stands for an op."""
    plain: dict[str, Any] = {"op": op.kind, "name": op.name}
    arrays: dict[str, Any] = {}
    for field in fields(op):
        value = getattr(op, field.name)
        if field.name in SKIPPED:
            continue
        if isinstance(value, np.ndarray):
            plain[field.name] = {"shape": list(value.shape)}
            arrays[f"{OWN}_{field.name}"] = np.ravel(value)  # one axis: NIR's writer cannot compress a scalar
        else:
            plain[field.name] = value.value if isinstance(value, Enum) else value
    return {OWN: json.dumps(plain), **arrays}


def own_op(node: RawNode, name: str, inputs: tuple[str, ...]) -> Op | None:
    """The op that a node stands for if this compiler wrote it, else None; raises CompileError SNN161 if its metadata is damaged."""
    if OWN not in node.metadata or node.type == "Output":  # an output has a label there
        return None
    try:
        plain = json.loads(str(node.metadata[OWN]))
        kind = OPS[plain.pop("op")]
        if Dialect.FLOAT not in kind.dialects or (kind.kind == "input") != (node.type == "Input"):
            raise ValueError(f"a node of type {node.type} cannot be '{kind.kind}'")
        plain.pop("name", None)
        values = {key: _value(node, key, value) for key, value in plain.items()}
        return kind(name=name, inputs=inputs, origin=(node.path,), **values)
    except CompileError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise fail(
            "SNN161", f"node {node.label}: metadata '{OWN}' is damaged: {type(e).__name__} {e}", help="remove it, or write the file again"
        ) from e


def own_name(node: RawNode) -> str | None:
    """The name that the op had when this compiler wrote the node."""
    if OWN not in node.metadata:
        return None
    try:
        name = json.loads(str(node.metadata[OWN])).get("name")
    except (ValueError, AttributeError):
        return None
    return name if isinstance(name, str) else None


def _value(node: RawNode, key: str, value: Any) -> Any:
    if isinstance(value, dict):
        array = np.asarray(node.metadata[f"{OWN}_{key}"])
        if array.dtype.kind not in "biuf":
            raise TypeError(f"'{OWN}_{key}' holds no numbers")
        return array.reshape(value["shape"])
    if key in ENUMS:
        return ENUMS[key](value)
    return tuple(value) if isinstance(value, list) else value


__all__ = ["OWN", "own_metadata", "own_name", "own_op"]

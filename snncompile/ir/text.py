"""The text form of a graph: one line a node, small arrays in the text, large ones by reference. Printing and parsing are exact.

    graph "net" float steps=4
    meta "source" = "net.py"
    %x = input() size=(1, 28, 28) high=255.0 : 1x28x28 ; net.py:12 in forward
    %conv1 = conv2d(%x) weight=@conv1.weight<f64 16x1x3x3> padding=(1, 1, 1, 1) : 16x28x28 ; net.py:13 in forward
    %lif1 = neuron(%conv1) fire=step_ge reset=subtract leak=f64<1>[0.5] ... : 16x28x28 from conv1, bn1 ; net.py:14 in forward
    return "logits" = %lif1.m

Names and strings that are not plain words are quoted as in JSON. Fields equal to their default are left out. ``[0.5 *]`` is an
array of one repeated value. Neither direction evaluates code; malformed text raises CompileError with the line:

    SNN220 syntax    SNN221 unknown operation or dialect    SNN222 unknown, missing or doubled field
    SNN223 tensor missing or different    SNN224 value does not fit the field    SNN225 array values    SNN226 shapes or names
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import Enum
from typing import Any

import numpy as np

from snncompile.errors import InternalError
from snncompile.ir.graph import Array, Graph, Op, Shape
from snncompile.ir.text_parser import COMMON, DTYPES, from_text, shape_text

INLINE = 16
CODES = {np.dtype(name): code for code, name in DTYPES.items()}
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_/\-]*\Z")
PLAIN = re.compile(r"[A-Za-z0-9_./<>\-]+\Z")


def to_text(graph: Graph, *, inline: bool = False) -> tuple[str, dict[str, Array]]:
    """The text of a graph, and the arrays that it refers to by key (none if ``inline``)."""
    printer = _Printer(inline)
    lines = [f"graph {_quote(graph.name)} {graph.dialect.value} steps={graph.steps}"]
    lines += [f"meta {_quote(key)} = {printer.value(value, f'meta.{key}')}" for key, value in graph.meta.items()]
    try:
        shapes: Mapping[str, Shape] = graph.shapes
    except (InternalError, KeyError):
        shapes = {}
    lines += [printer.node(n, shapes.get(n.name)) for n in graph.nodes]
    lines += [f"return {_quote(label)} = {_ref(ref)}" for label, ref in graph.outputs.items()]
    return "\n".join(lines) + "\n", printer.tensors


@dataclass
class _Printer:
    inline: bool
    tensors: dict[str, Array] = field(default_factory=dict)

    def node(self, op: Op, shape: Shape | None) -> str:
        parts = [f"%{_word(op.name)} = {op.kind}({', '.join(map(_ref, op.inputs))})"]
        for f in fields(op):
            value = getattr(op, f.name)
            if f.name not in COMMON and not _is_default(f, value):
                parts.append(f"{f.name}={self.value(value, f'{op.name}.{f.name}')}")
        if shape is not None:
            parts.append(f": {shape_text(shape)}")
        if op.origin:
            parts.append(f"from {', '.join(map(_word, op.origin))}")
        if op.loc is not None:
            function = f" in {_plain(op.loc.function)}" if op.loc.function else ""
            parts.append(f"; {_plain(op.loc.file)}:{op.loc.line}{function}")
        return " ".join(parts)

    def value(self, value: Any, key: str) -> str:
        if value is None or isinstance(value, (bool, np.bool_)):
            return {None: "none", True: "true", False: "false"}[None if value is None else bool(value)]
        if isinstance(value, Enum):
            return _word(str(value.value))
        if isinstance(value, str):
            return _quote(value)
        if isinstance(value, (int, np.integer)):
            return repr(int(value))
        if isinstance(value, (float, np.floating)):
            return repr(float(value))
        if isinstance(value, np.ndarray):
            return self.array(value, key)
        if isinstance(value, tuple):
            items = [self.value(v, f"{key}.{k}") for k, v in enumerate(value)]
            return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
        if isinstance(value, list):
            return f"[{', '.join(self.value(v, f'{key}.{k}') for k, v in enumerate(value))}]"
        if isinstance(value, Mapping):
            inner = (f"{self.value(k, key)}: {self.value(v, f'{key}.{k}')}" for k, v in value.items())
            return f"{{{', '.join(inner)}}}"
        raise InternalError(f"'{key}' holds a {type(value).__name__}, which has no text form")

    def array(self, array: Array, key: str) -> str:
        code = CODES.get(array.dtype.newbyteorder("="))
        if code is None:
            raise InternalError(f"'{key}' is an array of {array.dtype}, which has no text form")
        flat = array.reshape(-1)
        same = array.size > 1 and flat[:1].tobytes() * array.size == flat.tobytes()
        shape = "x".join(map(str, array.shape))
        if same:
            return f"{code}<{shape}>[{self.value(flat[0], key)} *]"
        if self.inline or array.size <= INLINE:
            return f"{code}<{shape}>[{', '.join(self.value(v, key) for v in flat)}]"
        if key in self.tensors:
            key = next(f"{key}#{k}" for k in range(2, len(self.tensors) + 3) if f"{key}#{k}" not in self.tensors)
        self.tensors[key] = array
        name = key if all(map(WORD.match, key.split("."))) else _quote(key)
        return f"@{name}<{code} {shape}>"


def _is_default(f: Field[Any], value: Any) -> bool:
    if f.default is MISSING or isinstance(value, np.ndarray):
        return False
    return type(value) is type(f.default) and repr(value) == repr(f.default)


def _quote(text: str) -> str:
    return json.dumps(text)


def _word(text: str) -> str:
    return text if WORD.match(text) else _quote(text)


def _plain(text: str) -> str:
    return text if PLAIN.match(text) else _quote(text)


def _ref(ref: str) -> str:
    node, dot, port = ref.partition(".")
    return f"%{_word(node)}" + (f".{_word(port)}" if dot else "")


__all__ = ["from_text", "to_text"]

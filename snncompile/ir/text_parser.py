"""Reading the text form of a graph (the grammar is described in ``text``): tokens, then one rule a method. Nothing is evaluated."""

from __future__ import annotations

import json
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from enum import Enum
from typing import Any, NoReturn

import numpy as np

import snncompile.ir.integer
import snncompile.ir.linear_ops
import snncompile.ir.max_pool
import snncompile.ir.neuron
import snncompile.ir.program  # noqa: F401 - registers its ops
from snncompile.errors import InternalError, Location, fail
from snncompile.ir.graph import OPS, Array, Dialect, Graph, Op, Shape

DEEP = 50
DTYPES = {"f64": "float64", "f32": "float32", "f16": "float16", "bool": "bool"} | {
    f"{sign}{bits}": f"{word}{bits}" for sign, word in (("i", "int"), ("u", "uint")) for bits in (8, 16, 32, 64)
}
TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<number>-inf|[+-]?\d+(?:(?:x\d+)+|(?:\.\d*)?(?:[eE][+-]?\d+)?))(?!\w)"""
    r"""|(?P<word>[A-Za-z_][A-Za-z0-9_/\-]*)|(?P<mark>[%@(){}\[\]<>=,:;.*]))"""
)
PIECE = r"""("(?:[^"\\]|\\.)*"|[A-Za-z0-9_./<>\-]+)"""
PLACE = re.compile(rf"{PIECE}:(-?\d+)(?: in {PIECE})?")
CONSTANTS = {"none": None, "true": True, "false": False, "inf": math.inf, "nan": math.nan}
COMMON = ("name", "inputs", "loc", "origin")


def shape_text(shape: Shape) -> str:
    """``16x3x3``, or ``()`` for no axes."""
    return "x".join(map(str, shape)) if shape else "()"


def from_text(text: str, tensors: Mapping[str, Array] | None = None) -> Graph:
    """The graph of a text; ``tensors`` holds the arrays that the text refers to. Raises CompileError (codes: see ``text``)."""
    head: tuple[str, Dialect, int] | None = None
    meta: dict[str, Any] = {}
    outputs: dict[str, str] = {}
    nodes: dict[str, Op] = {}
    declared: list[tuple[_Line, Op, Shape]] = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = _Line(raw, number, tensors or {})
        if line.done:
            continue
        if head is None:
            head = line.head()
        elif line.take("mark", "%"):
            op, shape = line.node()
            if op.name in nodes:
                line.wrong("SNN226", f"a second node is called '{op.name}'")
            nodes[op.name] = op
            if shape is not None:
                declared.append((line, op, shape))
        elif line.take("word", "meta"):
            line.entry(meta, line.value)
        elif line.take("word", "return"):
            line.entry(outputs, line.reference)
        else:
            line.expected("'%', 'meta' or 'return'")
        if not line.done:
            line.expected("the end of the line")
    if head is None:
        raise fail("SNN220", "line 1: expected 'graph', found an empty text")
    graph = Graph(name=head[0], dialect=head[1], nodes=tuple(nodes.values()), outputs=outputs, steps=head[2], meta=meta)
    _check_shapes(graph, declared)
    return graph


def _check_shapes(graph: Graph, declared: list[tuple[_Line, Op, Shape]]) -> None:
    if not declared:
        return
    try:
        shapes = graph.shapes
    except (InternalError, KeyError) as e:
        raise fail("SNN226", f"the shapes of '{graph.name}' cannot be inferred: {e}") from e
    for line, op, shape in declared:
        if shapes[op.name] != shape:
            line.wrong("SNN226", f"'{op.name}' has shape {shape_text(shapes[op.name])}, the text says {shape_text(shape)}")


class _Line:
    """One line of text as tokens, with the rules of the grammar as methods."""

    def __init__(self, raw: str, number: int, tensors: Mapping[str, Array]) -> None:
        self.number, self.tensors, self.position, self.depth = number, tensors, 0, 0
        self.tokens: list[tuple[str, str]] = []
        self.comment = ""
        at, end = 0, len(raw.rstrip())
        while at < end:
            match = TOKEN.match(raw, at)
            if match is None:
                rest = raw[at:].lstrip()
                self.wrong("SNN220", f"column {len(raw) - len(rest) + 1}: cannot read {rest[:12]!r}")
            kind = str(match.lastgroup)
            self.tokens.append((kind, match.group(kind)))
            at = match.end()
            if self.tokens[-1] == ("mark", ";"):
                self.comment, at = raw[at:].strip(), end

    def wrong(self, code: str, message: str) -> NoReturn:
        """Raise at this line."""
        raise fail(code, f"line {self.number}: {message}")

    def expected(self, what: str) -> NoReturn:
        """Raise a syntax error."""
        found = repr(self.tokens[self.position][1]) if not self.done else "the end of the line"
        self.wrong("SNN220", f"expected {what}, found {found}")

    @property
    def done(self) -> bool:
        """Whether all tokens are read."""
        return self.position >= len(self.tokens)

    def take(self, kind: str, text: str | None = None) -> str | None:
        """The next token if it is of this kind (and this text)."""
        if self.done or self.tokens[self.position][0] != kind or (text is not None and self.tokens[self.position][1] != text):
            return None
        self.position += 1
        return self.tokens[self.position - 1][1]

    def need(self, mark: str) -> None:
        """Read a mark."""
        if self.take("mark", mark) is None:
            self.expected(f"'{mark}'")

    def string(self) -> str | None:
        """A quoted string, if one is next."""
        token = self.take("string")
        if token is None:
            return None
        try:
            return str(json.loads(token))
        except ValueError:
            self.wrong("SNN220", f"expected a string as in JSON, found {token}")

    def word(self, what: str) -> str:
        """A word, bare or quoted."""
        text = self.string()
        text = self.take("word") if text is None else text
        return self.expected(what) if text is None else text

    def integer(self, what: str) -> int:
        """A whole number."""
        token = self.take("number")
        if token is None or not re.fullmatch(r"[+-]?\d{1,18}", token):
            self.position -= token is not None
            self.expected(what)
        return int(token)

    def head(self) -> tuple[str, Dialect, int]:
        """``graph "name" float steps=4``."""
        if self.take("word", "graph") is None:
            self.expected("'graph'")
        name, dialect = self.word("the graph's name"), self.word("a dialect")
        if dialect not in [d.value for d in Dialect]:
            self.wrong("SNN221", f"unknown dialect '{dialect}', expected {' or '.join(d.value for d in Dialect)}")
        if self.take("word", "steps") is None:
            self.expected("'steps'")
        self.need("=")
        return name, Dialect(dialect), self.integer("the number of steps")

    def entry(self, into: dict[str, Any], read: Any) -> None:
        """``"key" = value``."""
        key = self.word("a name")
        if key in into:
            self.wrong("SNN222", f"'{key}' is given twice")
        self.need("=")
        into[key] = read()

    def reference(self) -> str:
        """``%node`` or ``%node.port``."""
        self.need("%")
        name = self.word("a node's name")
        return f"{name}.{self.word('a port')}" if self.take("mark", ".") else name

    def listed(self, read: Any, close: str) -> list[Any]:
        """Items up to a closing mark, separated by commas; a comma may follow the last."""
        items = []
        while self.take("mark", close) is None:
            items.append(read())
            if self.take("mark", ",") is None:
                self.need(close)
                break
        return items

    def node(self) -> tuple[Op, Shape | None]:
        """``%name = kind(inputs) field=value ... : shape from origin ; file:line in function``, the ``%`` already read."""
        name = self.word("a node's name")
        self.need("=")
        kind = self.word("an operation")
        if kind not in OPS:
            self.wrong("SNN221", f"unknown operation '{kind}'")
        self.need("(")
        inputs = tuple(self.listed(self.reference, ")"))
        given: dict[str, Any] = {}
        while not self.done and self.tokens[self.position][0] == "word" and self.tokens[self.position][1] != "from":
            self.entry(given, self.value)
        shape = self.dimensions("()") if self.take("mark", ":") else None
        origin: list[str] = []
        if self.take("word", "from"):
            origin.append(self.word("a node's name"))
            while self.take("mark", ","):
                origin.append(self.word("a node's name"))
        loc = self.location() if self.take("mark", ";") else None
        cls = OPS[kind]
        values = {label: self.fitted(cls, label, value) for label, value in given.items()}
        required = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
        missing = [label for label in required if label not in (*values, *COMMON)]
        if missing:
            self.wrong("SNN222", f"'{name}' ({kind}) lacks {', '.join(missing)}")
        return cls(name=name, inputs=inputs, loc=loc, origin=tuple(origin), **values), shape

    def fitted(self, cls: type[Op], label: str, value: Any) -> Any:
        """A value in the type of the field that it is for."""
        hint = _hints(cls).get(label)
        if hint is None or label in COMMON:
            self.wrong("SNN222", f"'{cls.kind}' has no field '{label}'")
        if isinstance(hint, type) and issubclass(hint, Enum):
            bare = {None: "none", True: "true", False: "false"}.get(value) if value is None or isinstance(value, bool) else None
            value = value if bare is None else _Bare(bare)
            if not isinstance(value, _Bare) or value not in [m.value for m in hint]:
                self.wrong("SNN224", f"'{label}' is {value!r}, expected one of {', '.join(str(m.value) for m in hint)}")
            return hint(str(value))
        if not _fits(value, hint):
            self.wrong("SNN224", f"'{label}' of '{cls.kind}' cannot be {value!r}")
        return value

    def location(self) -> Location:
        """``file:line in function``, all that follows the semicolon."""
        match = PLACE.fullmatch(self.comment)
        if match is None:
            self.wrong("SNN220", f"expected file:line in function, found {self.comment!r}")
        try:
            file, function = (json.loads(p) if p.startswith('"') else p for p in (match[1], match[3] or ""))
        except ValueError:
            self.wrong("SNN220", f"expected a string as in JSON, found {self.comment}")
        return Location(file, int(match[2]), function)

    def value(self) -> Any:
        """Any value."""
        self.depth += 1
        if self.depth > DEEP:
            self.wrong("SNN220", f"values are nested more than {DEEP} deep")
        result = self._value()
        self.depth -= 1
        return result

    def _value(self) -> Any:
        if (text := self.string()) is not None:
            return text
        if (number := self.take("number")) is not None:
            return self.number_of(number)
        if self.take("mark", "("):
            return tuple(self.listed(self.value, ")"))
        if self.take("mark", "["):
            return self.listed(self.value, "]")
        if self.take("mark", "{"):
            return dict(self.listed(self.pair, "}"))
        if self.take("mark", "@"):
            return self.tensor()
        word = self.take("word")
        if word in CONSTANTS:
            return CONSTANTS[str(word)]
        if word in DTYPES and self.take("mark", "<"):
            return self.array(str(word))
        return self.expected("a value") if word is None else _Bare(word)

    def pair(self) -> tuple[Any, Any]:
        """``key: value``."""
        key = self.value()
        self.need(":")
        try:
            hash(key)
        except TypeError:
            self.wrong("SNN224", f"{key!r} cannot be a key")
        return key, self.value()

    def number_of(self, token: str) -> int | float:
        """An integer or a float, by its spelling."""
        try:
            return int(token) if re.fullmatch(r"[+-]?\d{1,4000}", token) else float(token)
        except ValueError:
            self.wrong("SNN220", f"expected a number, found {token!r}")

    def dimensions(self, end: str) -> Shape:
        """``16x3x3`` up to ``>``, or a shape with ``()`` for no axes."""
        if end == "()" and self.take("mark", "("):
            self.need(")")
            return ()
        token = self.take("number") or ""
        if token == "" and end == ">":
            return ()
        if not re.fullmatch(r"\d+(x\d+)*", token):
            self.position -= token != ""
            self.expected("a shape such as 16x3x3")
        return tuple(map(int, token.split("x")))

    def array(self, code: str) -> Array:
        """``f64<2x1>[0.5, 1.0]`` behind ``<``; one value and ``*`` fill the array."""
        shape = self.dimensions(">")
        self.need(">")
        self.need("[")
        size = math.prod(shape)
        repeated = False
        values: list[Any] = []
        while self.take("mark", "]") is None:
            values.append(self.value())
            if self.take("mark", "*"):
                repeated = True
                self.need("]")
                break
            if self.take("mark", ",") is None:
                self.need("]")
                break
        wanted = 1 if repeated else size
        if len(values) != wanted:
            self.wrong("SNN225", f"expected {wanted} value(s) for shape {shape_text(shape)}, found {len(values)}")
        dtype = np.dtype(DTYPES[code])
        allowed: tuple[type, ...] = {"f": (int, float), "b": (bool,)}.get(dtype.kind, (int,))
        odd = next((v for v in values if not isinstance(v, allowed) or (isinstance(v, bool) and dtype.kind != "b")), None)
        if odd is not None:
            self.wrong("SNN225", f"{odd!r} is not a value of {code}")
        if repeated and size > 1 << 28:
            self.wrong("SNN225", f"an array of {size} elements is too large for a text")
        try:
            return np.full(shape, values[0], dtype) if repeated else np.array(values, dtype).reshape(shape)
        except (OverflowError, ValueError) as e:
            self.wrong("SNN225", f"a value does not fit {code}: {e}")

    def tensor(self) -> Array:
        """``@conv1.weight<f64 16x1x3x3>`` behind ``@``."""
        key = self.word("a tensor's name")
        while self.take("mark", "."):
            key += "." + self.word("a tensor's name")
        self.need("<")
        code = self.word("a number type")
        if code not in DTYPES:
            self.wrong("SNN221", f"unknown number type '{code}', expected one of {', '.join(DTYPES)}")
        shape = self.dimensions(">")
        self.need(">")
        if key not in self.tensors:
            self.wrong("SNN223", f"there is no tensor '{key}'")
        array = self.tensors[key]
        if array.shape != shape or array.dtype != np.dtype(DTYPES[code]):
            self.wrong("SNN223", f"tensor '{key}' is {array.dtype} {array.shape}, the text says {code} {shape}")
        return array


class _Bare(str):
    """A word without quotes: the value of an enumeration."""

    __slots__ = ()


_HINTS: dict[type[Op], dict[str, Any]] = {}


def _hints(cls: type[Op]) -> dict[str, Any]:
    """The types of an op's fields."""
    if cls not in _HINTS:
        known = {f.name for f in fields(cls)}
        _HINTS[cls] = {k: v for k, v in typing.get_type_hints(cls).items() if k in known}
    return _HINTS[cls]


def _fits(value: Any, hint: Any) -> bool:
    """Whether a parsed value has the type that a field declares."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, h) for h in args)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        wanted = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        return len(wanted) == len(value) and all(map(_fits, value, wanted))
    if origin is np.ndarray:
        return isinstance(value, np.ndarray)
    if isinstance(value, (_Bare, bool)) and hint is not bool:
        return False
    if hint is float:
        return isinstance(value, (int, float))
    return value is None if hint is types.NoneType else isinstance(value, hint)

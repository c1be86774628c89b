"""The intermediate representation: an immutable graph of ops, one model time step of the network.

A graph describes step ``t``. Values have the shape of one sample, without batch and time axes. The only way from step
``t - 1`` to step ``t`` is state: a ``Neuron``'s membrane, or a ``Delay``. So a graph without its delay edges is acyclic.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeVar

from numpy.typing import NDArray

from snncompile.errors import CompileError, Diagnostic, InternalError, Location

Array = NDArray[Any]
Shape = tuple[int, ...]
Readout = Literal["sum", "mean", "last"]
"""How a decision is read from the outputs over time."""
LONGEST_NAME = 200
"""Bytes of a new node's name, without the number that tells it from others."""


class Dialect(str, Enum):
    """The two levels of a graph: real numbers as trained, or integers as the chip computes."""

    FLOAT = "float"
    INTEGER = "integer"


@dataclass(frozen=True, kw_only=True, eq=False)
class Op(ABC):
    """One node: a name, the values it reads, where the user wrote it, and which earlier nodes it came from.

    ``inputs`` are value references: ``"conv1"`` is the first output of node conv1, ``"lif1.m"`` its port ``m``.
    """

    name: str
    inputs: tuple[str, ...] = ()
    loc: Location | None = None
    origin: tuple[str, ...] = ()

    kind: ClassVar[str]
    ports: ClassVar[tuple[str, ...]] = ("",)
    dialects: ClassVar[frozenset[Dialect]] = frozenset({Dialect.FLOAT})
    time_fields: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def infer(self, *shapes: Shape) -> Shape:
        """The shape of the output from the shapes of the inputs; raises ValueError with the reason if they do not fit."""

    @abstractmethod
    def validate(self) -> Iterator[Diagnostic]:
        """Yield a diagnostic for every field that is out of range."""

    @property
    def steps(self) -> int:
        """How many steps the per-step fields cover; 1 if the op is the same at every step."""
        return max([1, *(int(value.shape[0]) for f in self.time_fields if (value := getattr(self, f)) is not None)])


AnyOp = TypeVar("AnyOp", bound=Op)
OPS: dict[str, type[Op]] = {}


def register_op(cls: type[Op]) -> type[Op]:
    """Make an op known to the text form under its ``kind``."""
    if cls.kind in OPS:
        raise InternalError(f"two ops are called '{cls.kind}'")
    OPS[cls.kind] = cls
    return cls


def node_of(ref: str) -> str:
    """The node that a value reference names: ``node_of("lif1.m") == "lif1"``."""
    return ref.partition(".")[0]


def port_of(ref: str) -> str:
    """The port that a value reference names: ``port_of("lif1.m") == "m"``; the empty string for the first output."""
    return ref.partition(".")[2]


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """A network: nodes in topological order (delays may point forward), named inputs and outputs, ``steps`` T.

    ``outputs`` maps the user's name of an output to a value reference.
    """

    name: str
    dialect: Dialect
    nodes: tuple[Op, ...]
    outputs: Mapping[str, str]
    steps: int
    meta: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def by_name(self) -> dict[str, Op]:
        """Nodes by name."""
        return {n.name: n for n in self.nodes}

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every node's output."""
        return infer_shapes(self)

    @cached_property
    def readers_of(self) -> dict[str, tuple[Op, ...]]:
        """For each node name, the nodes that read any of its outputs."""
        readers: dict[str, list[Op]] = {n.name: [] for n in self.nodes}
        for n in self.nodes:
            for ref in dict.fromkeys(node_of(r) for r in n.inputs):
                readers[ref].append(n)
        return {k: tuple(v) for k, v in readers.items()}

    def node(self, ref: str) -> Op:
        """The node that a value reference points to."""
        try:
            return self.by_name[node_of(ref)]
        except KeyError:
            raise InternalError(f"graph '{self.name}' has no node '{node_of(ref)}'") from None

    def shape(self, ref: str) -> Shape:
        """The shape of the value that a reference points to."""
        return self.shapes[node_of(ref)]

    def of(self, *kinds: type[AnyOp]) -> list[AnyOp]:
        """All nodes of the given classes, in order."""
        return [n for n in self.nodes if isinstance(n, kinds)]

    @property
    def output_nodes(self) -> set[str]:
        """Names of the nodes that the graph's outputs read."""
        return {node_of(r) for r in self.outputs.values()}

    def sole_reader(self, name: str) -> Op | None:
        """The only reader of a node, or None if there are several readers, none, or it is an output."""
        readers = self.readers_of[name]
        return readers[0] if len(readers) == 1 and name not in self.output_nodes else None

    def rebuild(self, nodes: Sequence[Op], outputs: Mapping[str, str] | None = None, **changes: Any) -> Graph:
        """A new graph of these nodes, sorted topologically, dead nodes kept."""
        return replace(self, nodes=toposort(nodes), outputs=dict(self.outputs if outputs is None else outputs), **changes)

    def substitute(self, mapping: Mapping[str, str], nodes: Sequence[Op] | None = None) -> Graph:
        """Redirect readers: every reference ``k`` in ``mapping`` is replaced by ``mapping[k]`` (exact references)."""
        renamed = [
            replace(n, inputs=tuple(mapping.get(r, r) for r in n.inputs)) if any(r in mapping for r in n.inputs) else n
            for n in (self.nodes if nodes is None else nodes)
        ]
        return self.rebuild(renamed, {k: mapping.get(r, r) for k, r in self.outputs.items()})

    def map_nodes(self, function: Callable[[Op], Op]) -> Graph:
        """A new graph with every node replaced by ``function(node)``."""
        return self.rebuild([function(n) for n in self.nodes])


def is_state_edge(op: Op) -> bool:
    """Whether the op's output at step t depends only on its inputs at earlier steps."""
    return op.kind == "delay"


def toposort(nodes: Sequence[Op]) -> tuple[Op, ...]:
    """Order nodes so that each follows what it reads in the same step, keeping the given order where it is free."""
    by_name = {n.name: n for n in nodes}
    if len(by_name) != len(nodes):
        seen: set[str] = set()
        twice = next(n.name for n in nodes if n.name in seen or seen.add(n.name))  # type: ignore[func-returns-value]
        raise InternalError(f"two nodes are called '{twice}'")
    order: list[Op] = []
    state: dict[str, int] = {}

    for root in nodes:
        stack: list[tuple[Op, bool]] = [(root, False)]
        while stack:
            n, done = stack.pop()
            if done:
                state[n.name] = 2
                order.append(n)
                continue
            if state.get(n.name) == 2:
                continue
            if state.get(n.name) == 1:
                raise InternalError(f"cycle without a delay through '{n.name}'")
            state[n.name] = 1
            stack.append((n, True))
            if is_state_edge(n):
                continue
            for ref in reversed(n.inputs):
                source = by_name.get(node_of(ref))
                if source is None:
                    raise InternalError(f"'{n.name}' reads '{ref}', which does not exist")
                if state.get(source.name) == 1:
                    raise InternalError(f"cycle without a delay through '{source.name}'")
                if state.get(source.name) != 2:
                    stack.append((source, False))
    return tuple(order)


def infer_shapes(graph: Graph) -> dict[str, Shape]:
    """Shapes of all nodes; a delay declares its own shape, which makes cycles well defined."""
    shapes: dict[str, Shape] = {n.name: n.infer() for n in graph.nodes if is_state_edge(n)}
    for n in graph.nodes:
        if is_state_edge(n):
            continue
        try:
            shapes[n.name] = n.infer(*(shapes[node_of(r)] for r in n.inputs))
        except (ValueError, IndexError) as e:
            raise InternalError(f"'{n.name}' ({n.kind}): {e}") from e
    return shapes


def validate(graph: Graph) -> None:
    """Check names, references, ports, dialects, shapes, step counts and every op's own fields; raises CompileError with all findings."""
    found: list[Diagnostic] = []
    for n in graph.nodes:
        if "." in n.name or not n.name:
            found.append(Diagnostic("SNN201", f"'{n.name}' is not a node name (empty, or has a dot)", n.loc))
        if graph.dialect not in n.dialects:
            found.append(Diagnostic("SNN202", f"'{n.name}' ({n.kind}) cannot stand in a graph of the {graph.dialect.value} dialect", n.loc))
        if n.steps not in (1, graph.steps):
            found.append(Diagnostic("SNN203", f"'{n.name}' has values for {n.steps} steps, the graph runs {graph.steps}", n.loc))
        for ref in n.inputs:
            source = graph.by_name.get(node_of(ref))
            if source is None:
                found.append(Diagnostic("SNN204", f"'{n.name}' reads '{ref}', which does not exist", n.loc))
            elif port_of(ref) not in source.ports:
                found.append(Diagnostic("SNN205", f"'{n.name}' reads '{ref}', but '{source.name}' has no port '{port_of(ref)}'", n.loc))
        found.extend(n.validate())
    for label, ref in graph.outputs.items():
        if node_of(ref) not in graph.by_name:
            found.append(Diagnostic("SNN204", f"output '{label}' reads '{ref}', which does not exist"))
        elif label != ref and label in graph.by_name and "m" in graph.by_name[label].ports:
            found.append(Diagnostic("SNN218", f"output '{label}' is '{ref}', but '{label}' is the name of a population"))
    if found:
        raise CompileError(found)
    for n in graph.nodes:
        if is_state_edge(n) and graph.shapes[n.name] != graph.shape(n.inputs[0]):
            raise InternalError(f"delay '{n.name}' declares shape {graph.shapes[n.name]}, its input has {graph.shape(n.inputs[0])}")


def prune(graph: Graph) -> Graph:
    """Drop every node that no output depends on (inputs are kept: they are the network's signature)."""
    alive: set[str] = set()
    stack = [node_of(r) for r in graph.outputs.values()]
    while stack:
        name = stack.pop()
        if name not in alive:
            alive.add(name)
            stack += [node_of(r) for r in graph.by_name[name].inputs]
    kept = [n for n in graph.nodes if n.name in alive or n.kind in ("input", "int_input")]
    return graph if len(kept) == len(graph.nodes) else graph.rebuild(kept)


def fresh_name(taken: Mapping[str, object] | set[str], wish: str) -> str:
    """A node name close to ``wish`` that is not taken yet, short enough for the name of a file."""
    wish = wish.encode(errors="replace")[:LONGEST_NAME].decode(errors="ignore").replace(".", "_") or "n"
    if wish not in taken:
        return wish
    return next(f"{wish}_{k}" for k in range(2, 1_000_000) if f"{wish}_{k}" not in taken)


__all__ = [
    "LONGEST_NAME", "OPS", "Array", "Dialect", "Graph", "Op", "Readout", "Shape", "fresh_name", "infer_shapes", "is_state_edge", "node_of",
    "port_of", "prune", "register_op", "toposort", "validate",
]  # fmt: skip

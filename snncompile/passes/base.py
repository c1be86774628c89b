"""What a pass is: float graph to float graph, meaning preserved, with the reason for every rule that did not fire."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeVar

from snncompile.errors import InternalError
from snncompile.ir.graph import Dialect, Graph, Op, prune

AnyOp = TypeVar("AnyOp", bound=Op)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rule met ``node`` and did not fire, because of ``reason``."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a pass: the new graph, how many rewrites led there, and the rules that did not fire."""

    graph: Graph
    rewrites: int = 0
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True)
class Pass(ABC):
    """A step of the pipeline. Options are fields; ``bound`` is the largest relative membrane error that it may cause."""

    name: ClassVar[str]
    bound: ClassVar[float] = 1e-9
    requires: ClassVar[Dialect] = Dialect.FLOAT
    ensures: ClassVar[Dialect] = Dialect.FLOAT

    @abstractmethod
    def apply(self, graph: Graph) -> Outcome:
        """The rewritten graph with the count of rewrites and the refusals; the same graph object if nothing changed."""

    def run(self, graph: Graph) -> Graph:
        """The rewritten graph."""
        return self.apply(graph).graph


@dataclass(frozen=True, slots=True)
class Change:
    """One rewrite: nodes to add (or to replace, by name), and references that all readers and outputs follow elsewhere
    (``leave``: that only outputs follow).

    The new nodes themselves are not redirected, so a relay may read the node whose readers it takes over.
    """

    nodes: tuple[Op, ...] = ()
    redirect: Mapping[str, str] = field(default_factory=dict)
    leave: Mapping[str, str] = field(default_factory=dict)

    def commit(self, graph: Graph) -> Graph:
        """The graph after this rewrite, without the nodes that died of it."""
        fresh = {n.name: n for n in self.nodes}
        to = self.redirect
        out = {**to, **self.leave}
        nodes: list[Op] = []
        for n in graph.nodes:
            if n.name in fresh:
                nodes.append(fresh.pop(n.name))
            elif any(r in to for r in n.inputs):
                nodes.append(replace(n, inputs=tuple(to.get(r, r) for r in n.inputs)))
            else:
                nodes.append(n)
        return prune(graph.rebuild([*nodes, *fresh.values()], {k: out.get(r, r) for k, r in graph.outputs.items()}))


@dataclass(frozen=True)
class RewritePass(Pass):
    """A pass made of a local rule, applied to every node until it fires no more."""

    @abstractmethod
    def rule(self, op: Op, graph: Graph) -> Change | Refusal | None:
        """What to do at ``op``: rewrite, say why not, or nothing because the rule is not about this node."""

    def apply(self, graph: Graph) -> Outcome:
        """Scan all nodes until a whole scan changes nothing; its refusals are the final ones."""
        limit = 1000 + 100 * len(graph.nodes)
        rewrites, before = 0, -1
        refusals: list[Refusal] = []
        while rewrites != before:
            before, refusals = rewrites, []
            for name in [n.name for n in graph.nodes]:
                op = graph.by_name.get(name)
                result = None if op is None else self.rule(op, graph)
                if isinstance(result, Change):
                    graph = result.commit(graph)
                    rewrites += 1
                elif result is not None:
                    refusals.append(result)
            if rewrites > limit:
                raise InternalError(f"pass '{self.name}' does not come to rest on graph '{graph.name}'")
        return Outcome(graph, rewrites, tuple(refusals))


def merged(*ops: Op) -> tuple[str, ...]:
    """The ``origin`` of a node made from these: the earlier nodes that any of them came from, each once."""
    return tuple(dict.fromkeys(name for op in ops for name in (op.origin or (op.name,))))


def inherit(op: AnyOp, *others: Op) -> AnyOp:
    """``op`` with the origins of the others merged in, and a source line from the first that has one."""
    loc = next((loc for loc in (op.loc, *(o.loc for o in others)) if loc is not None), None)
    return replace(op, loc=loc, origin=merged(op, *others))

"""Dead code elimination."""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.ir.graph import Graph, prune
from snncompile.passes.base import Outcome, Pass


@dataclass(frozen=True)
class Prune(Pass):
    """Drop every node that no output depends on; inputs stay, they are the network's signature."""

    name = "prune"

    def apply(self, graph: Graph) -> Outcome:
        """Prune once."""
        after = prune(graph)
        return Outcome(after, len(graph.nodes) - len(after.nodes))

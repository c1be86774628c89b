"""Give every cycle without a population a relay, so that delays can move onto payloads."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx

from snncompile.ir.graph import Graph, node_of
from snncompile.ir.linear_ops import Delay
from snncompile.ir.population import FLOAT_POPULATIONS
from snncompile.passes.base import Outcome, Pass
from snncompile.passes.relay import relay_for


@dataclass(frozen=True)
class BreakLinearLoops(Pass):
    """A linear recurrence such as ``y[t] = a * y[t-1] + x[t]`` becomes a relay population that reads its own payload.

    Given    %d = delay(%y)    %y = add(%x, %d)
    Result   %d = delay(%r)    %y = add(%x, %d)    %r = relay(%y)
    """

    name = "break-linear-loops"

    def apply(self, graph: Graph) -> Outcome:
        """Insert relays until every cycle runs through a population."""
        count = 0
        while (delay := _delay_in_a_loop(graph)) is not None:
            graph = relay_for(graph.node(delay.inputs[0]), graph).commit(graph)
            count += 1
        return Outcome(graph, count)


def _delay_in_a_loop(graph: Graph) -> Delay | None:
    """The first delay that lies on a cycle without a population."""
    flow = nx.DiGraph()
    for n in graph.nodes:
        if not isinstance(n, FLOAT_POPULATIONS):
            flow.add_edges_from((node_of(r), n.name) for r in n.inputs if not isinstance(graph.node(r), FLOAT_POPULATIONS))
    looped = {name for part in nx.strongly_connected_components(flow) if len(part) > 1 for name in part}
    looped |= set(nx.nodes_with_selfloops(flow))
    return next((d for d in graph.of(Delay) if d.name in looped), None)

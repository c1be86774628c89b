"""Whether a program's weights and biases are the roundings of a network's: a program of another network is found here.

Dynamics are compared with the program's own weights, so that their rounding is a matter of its own; this is the check that they belong
to the network at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snncompile.errors import Diagnostic
from snncompile.ir.graph import Array, Graph
from snncompile.ir.integer import IntNeuron
from snncompile.ir.neuron import Neuron
from snncompile.ir.population import ports
from snncompile.quantize import QuantResult
from snncompile.quantize.background import FARTHEST

SLACK = 1e-4
"""What float noise may add to half a step, relative."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A weight or bias that is no rounding of the network's."""

    name: str
    network: float
    program: float

    def diagnostic(self) -> Diagnostic:
        """The failed claim."""
        return Diagnostic(
            "SNN608", f"'{self.name}' is {self.network:.6g} in the network and {self.program:.6g} in the program: more than rounding",
            None, (), "give the network that the program was made from",
        )  # fmt: skip


def foreign(graph: Graph, dequantised: Graph, result: QuantResult) -> Foreign | None:
    """The first weight or bias of ``graph`` that is further than half a step from the program's; None if all belong to it."""
    for n in graph.nodes:
        whole = result.graph.by_name.get(n.name)
        if not isinstance(n, Neuron) or not isinstance(whole, IntNeuron):
            continue
        for p in ports(result.graph, whole):
            name, q = p.synapse.name, np.asarray(p.synapse.weight, dtype=np.float64)
            theirs = np.asarray(dequantised.by_name[name].weight, dtype=np.float64)  # type: ignore[attr-defined]
            mine = np.broadcast_to(np.asarray(graph.by_name[name].weight, dtype=np.float64), theirs.shape)  # type: ignore[attr-defined]
            step = np.divide(np.abs(theirs), np.abs(q), out=np.zeros_like(theirs), where=q != 0)
            rows = step.reshape(len(step), -1).max(axis=1) if step.ndim else step
            known = rows.reshape(rows.shape + (1,) * (step.ndim - rows.ndim))
            off = (np.abs(mine - theirs) > known * (0.5 + SLACK)) & (known > 0)
            if off.any():
                k = int(off.argmax())
                return Foreign(f"{name}.weight", float(mine.reshape(-1)[k]), float(theirs.reshape(-1)[k]))
        found = _bias(n, dequantised.by_name[n.name], whole, result)
        if found is not None:
            return found
    return None


def _bias(mine: Neuron, theirs: object, whole: IntNeuron, result: QuantResult) -> Foreign | None:
    assert isinstance(theirs, Neuron)
    rank = whole.bias.ndim - 1
    a = mine.bias.reshape(mine.bias.shape[0], *(1,) * (rank + 1 - mine.bias.ndim), *mine.bias.shape[1:])
    apart = np.abs(theirs.bias - a)
    guard = next(p.guard_bits for p in result.populations if p.name == mine.name)
    allowed = whole.v_scale * (2.0 ** max(guard - 1, 0) + FARTHEST) * (1 + SLACK)
    off: Array = apart > np.broadcast_to(allowed, apart.shape)
    if not off.any():
        return None
    k = int(off.argmax())
    return Foreign(f"{mine.name}.bias", float(np.broadcast_to(a, apart.shape).reshape(-1)[k]), float(theirs.bias.reshape(-1)[k]))


__all__ = ["Foreign", "foreign"]

"""Whether a program's weights and biases are the roundings of a network's: a program of another network is found here.

Dynamics are compared with the program's own weights, so that their rounding is a matter of its own; this is the check that they belong
to the network at all. A weight that is the nearest integer lies within half a step of the network's. One that was rounded with
calibration data lies within ``REACH`` steps, because it makes good the errors of others; so there the root mean square of all errors
must also be the one that the program states.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snncompile.errors import Diagnostic
from snncompile.ir.graph import Array, Graph
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.linear_ops import Diagonal
from snncompile.ir.neuron import Neuron
from snncompile.ir.population import FLOAT_POPULATIONS, INTEGER_POPULATIONS, Port, ports
from snncompile.quantize import PopulationReport, QuantResult
from snncompile.quantize.background import farthest
from snncompile.quantize.compensate import REACH
from snncompile.quantize.payload import incoming, payload_of
from snncompile.quantize.planes import whole_ports

SLACK = 1e-4
"""What float noise may add to a bound, relative."""
SAME_ERROR = 1e-3
"""By how much the weights' mean error may differ from the stated one, relative: weights that another machine folds differ a little."""


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
    """The first weight or bias of ``graph`` that is further from the program's than its rounding allows; None if all belong to it."""
    for n in graph.nodes:
        whole = result.graph.by_name.get(n.name)
        if not isinstance(n, FLOAT_POPULATIONS) or not isinstance(whole, INTEGER_POPULATIONS):
            continue
        report = next(r for r in result.populations if r.name == n.name)
        reach = 0.5 if report.adapted is None else REACH
        for p, _ in whole_ports(dequantised, result.graph, whole):
            name, q = p.synapse.name, np.asarray(p.synapse.weight, dtype=np.float64)
            if name not in graph.by_name:
                continue  # learned on the chip: the network has no such weights
            theirs = np.asarray(dequantised.by_name[name].weight, dtype=np.float64)  # type: ignore[attr-defined]
            mine = np.asarray(graph.by_name[name].weight, dtype=np.float64)  # type: ignore[attr-defined]
            mine, theirs, q = np.broadcast_arrays(mine, theirs, q)  # one weight may stand for a whole stream
            step = np.divide(np.abs(theirs), np.abs(q), out=np.zeros_like(theirs), where=q != 0)
            rows = step.reshape(len(step), -1).max(axis=1) if step.ndim else step
            known = rows.reshape(rows.shape + (1,) * (step.ndim - rows.ndim))
            off = (np.abs(mine - theirs) > known * (reach + SLACK)) & (known > 0)
            if off.any():
                k = int(off.argmax())
                return Foreign(f"{name}.weight", float(mine.reshape(-1)[k]), float(theirs.reshape(-1)[k]))
        if not isinstance(n, Neuron) or not isinstance(whole, IntNeuron):
            continue
        found = _error(graph, dequantised, whole, report, result) or _bias(n, dequantised.by_name[n.name], whole, report)
        if found is not None:
            return found
    return None


def other_synapses(graph: Graph, program: Graph) -> str | None:
    """The first population of both that hears other synapses in the program: another name, kind or shape; None if there is none."""
    for n in graph.of(*FLOAT_POPULATIONS):
        whole = program.by_name.get(n.name)
        if not isinstance(whole, INTEGER_POPULATIONS):
            continue
        mine, theirs = ([_synapse(p) for p in found] for found in (ports(program, whole), ports(graph, n)))
        if not _same(mine, theirs, doubled=isinstance(whole, IntNeuron)):
            shown = (", ".join(f"'{name}' ({size})" for name, size in found) for found in (mine, theirs))
            return "'{}' hears {} in the program, {} in the network".format(n.name, *shown)
    return None


def _same(mine: list[tuple[str, str]], theirs: list[tuple[str, str]], *, doubled: bool) -> bool:
    """Whether the synapses of a program are those of a network; if ``doubled``, each may have a second one of its size behind it."""
    left, known = list(mine), {name for name, _ in theirs}
    for one in theirs:
        if not left or left.pop(0) != one:
            return False
        if doubled and left and left[0][0] not in known and left[0][1] == one[1]:
            left.pop(0)
    return not left


def _synapse(p: Port) -> tuple[str, str]:
    shape = () if isinstance(p.synapse, Diagonal) else p.synapse.weight.shape
    return p.synapse.name, f"{p.synapse.kind} {'x'.join(map(str, shape))}".strip()


def _error(graph: Graph, dequantised: Graph, whole: IntNeuron, report: PopulationReport, result: QuantResult) -> Foreign | None:
    """Whether the error of all weights of an adapted population is what it was when they were rounded."""
    if report.adapted is None:
        return None
    error = power = 0.0
    for p, _ in whole_ports(dequantised, result.graph, whole):
        if p.synapse.name not in graph.by_name:
            continue
        assert isinstance(p.source, (IntInput, *INTEGER_POPULATIONS))
        payload = payload_of(p.source, (0, 0), result.graph.shape(p.source.name))
        lsb = incoming(result.graph, p, payload, result.graph.shape(whole.name)[0]).lsb
        weights = (np.asarray(g.by_name[p.synapse.name].weight, dtype=np.float64) * lsb for g in (graph, dequantised))  # type: ignore[attr-defined]
        mine, theirs = np.broadcast_arrays(*weights)  # one weight may stand for a whole stream
        error, power = error + float(((mine - theirs) ** 2).sum()), power + float((mine**2).sum())
    found = float(np.sqrt(error / power)) if power else 0.0
    if abs(found - report.weight_error) <= SAME_ERROR * report.weight_error + SLACK**2:
        return None
    return Foreign(f"root mean square of the rounding of all weights into {whole.name}", found, report.weight_error)


def _bias(mine: Neuron, theirs: object, whole: IntNeuron, report: PopulationReport) -> Foreign | None:
    assert isinstance(theirs, Neuron)
    rank = whole.bias.ndim - 1
    a = mine.bias.reshape(mine.bias.shape[0], *(1,) * (rank + 1 - mine.bias.ndim), *mine.bias.shape[1:])
    apart = np.abs(theirs.bias - a)
    guard = report.guard_bits
    allowed = whole.v_scale * (2.0 ** max(guard - 1, 0) + farthest(guard)) * (1 + SLACK)
    off: Array = apart > np.broadcast_to(allowed, apart.shape)
    if not off.any():
        return None
    k = int(off.argmax())
    return Foreign(f"{mine.name}.bias", float(np.broadcast_to(a, apart.shape).reshape(-1)[k]), float(theirs.bias.reshape(-1)[k]))


__all__ = ["Foreign", "foreign", "other_synapses"]

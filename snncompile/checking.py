"""Every operation of a network with a verdict, and everything that stands between it and a target, at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from snncompile.capture.driver import Layout
from snncompile.capture.survey import Refused, Survey, Verdict, survey
from snncompile.errors import CompileError, Diagnostic, Location
from snncompile.ir.graph import Array, Graph, Op
from snncompile.ir.linear_ops import Conv2d, Delay, Diagonal, Input, Linear
from snncompile.ir.max_pool import MaxPool2d
from snncompile.ir.neuron import Fire, Neuron, Reset
from snncompile.ir.program import NeuronProgram
from snncompile.mapping.schedule import schedule
from snncompile.passes import check_population_form, run_passes
from snncompile.pipeline import InputRange, describe_input, random_input, with_range
from snncompile.quantize import Options, quantize
from snncompile.target import load_target

if TYPE_CHECKING:
    import torch

RANGES = ("SNN301", "SNN302", "SNN311")
"""Codes that speak of ranges: where parts of the network were replaced, ranges behind them mean nothing."""

NO_OPERATION = {
    "SNN112": "decision by a value", "SNN116": "random numbers", "SNN125": "no numbers", "SNN128": "state outside the network",
    "SNN129": "state of an earlier run",
}  # fmt: skip
"""What stands in the way although it is no operation of the graph, by its code."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation of the network.

    name  its node or module     note  what becomes of it, or why it cannot be deployed     way_out  what to do then
    """

    name: str
    operation: str
    verdict: Verdict
    note: str
    loc: Location | None = None
    way_out: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        where = None if self.loc is None else {"file": self.loc.file, "line": self.loc.line, "function": self.loc.function}
        what = {"name": self.name, "operation": self.operation, "verdict": self.verdict.value, "note": self.note}
        return {**what, "location": where, "way_out": self.way_out}


@dataclass(frozen=True, kw_only=True)
class Checked:
    """All operations in the network's order, and all blockers; a network without blockers compiles for the target."""

    operations: tuple[Operation, ...]
    blockers: tuple[Diagnostic, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is in the way."""
        return not self.blockers


def check(
    model: torch.nn.Module | Callable[..., Any], *, target: str = "loihi2-sim", input_shape: Any, steps: int, layout: Layout = "step",
    calibration: Mapping[str, Array] | Array | None = None, input_range: InputRange | None = None, name: str = "network",
) -> Checked:  # fmt: skip
    """Check a PyTorch network; arguments as ``snncompile.compile`` takes them. A blocker is a result, not an exception."""
    found = survey(model, input_shape=input_shape, steps=steps, layout=layout, name=name)
    return judge(found, target=target, calibration=calibration, input_range=input_range)


def judge(
    found: Survey, *, target: str, calibration: Mapping[str, Array] | Array | None = None,
    input_range: InputRange | None = None,
) -> Checked:  # fmt: skip
    """Verdicts and blockers of a network that was read as far as it goes."""
    refused = [_of_refused(r) for r in found.refused]
    elsewhere = [_of_other(d) for d in found.others if d.code in NO_OPERATION]
    blockers = [*found.others, *(r.error for r in found.refused)]
    if found.graph is None:
        return Checked(operations=(*refused, *elsewhere), blockers=tuple(blockers))
    later = _behind_capture(found.graph, target, calibration, input_range or (0.0, 1.0, 0.0))
    later = [d for d in later if not blockers or d.code not in RANGES]
    blockers += later
    nodes = found.graph.nodes
    rows = [(found.places.get(n.name, k - len(nodes)), o) for k, n in enumerate(nodes) for o in _of_node(n)]
    rows += [(r.place, o) for r, o in zip(found.refused, refused, strict=True)]
    operations = [_unless(later, o) for _, o in sorted(rows, key=lambda row: row[0])]
    return Checked(operations=(*operations, *elsewhere), blockers=tuple(blockers))


def _behind_capture(
    graph: Graph, target: str, calibration: Mapping[str, Array] | Array | None, input_range: InputRange
) -> list[Diagnostic]:
    """What passes, quantiser and scheduler refuse."""

    def describe(op: Op) -> Op:
        return with_range(op, input_range) if isinstance(op, Input) and op.low is None else op

    try:
        described, samples = describe_input(graph, calibration, None)
        described = described.map_nodes(describe)
        probe = {
            n.name: np.asarray(samples[n.name][:1]) if n.name in samples else random_input(n, graph.steps, 1)
            for n in described.of(Input)
            if isinstance(n, Input)
        }
        folded, _ = run_passes(described, probe=probe)
        check_population_form(folded)
        known = samples if len(samples) == len(probe) else None
        schedule(quantize(folded, load_target(target), calibration=known, options=Options()).graph)
    except CompileError as e:
        return list(e.diagnostics)
    return []


def _of_refused(r: Refused) -> Operation:
    d = r.error
    return Operation(name=r.module or r.node, operation=r.operation, verdict=r.verdict, note=d.message, loc=d.loc, way_out=d.help)


def _of_other(d: Diagnostic) -> Operation:
    name = d.message.split("'")[1] if d.message.startswith("'") else ""
    return Operation(name=name, operation=NO_OPERATION[d.code], verdict=Verdict.IMPOSSIBLE, note=d.message, loc=d.loc, way_out=d.help)


def _unless(refusals: Iterable[Diagnostic], o: Operation) -> Operation:
    """The operation, or why the target does not take it."""
    d = next((d for d in refusals if d.message.startswith(f"'{o.name}'")), None)
    return o if d is None else replace(o, verdict=Verdict.IMPOSSIBLE, note=d.message, loc=d.loc or o.loc, way_out=d.help)


def _of_node(n: Op) -> list[Operation]:
    if isinstance(n, Input):
        return []
    if isinstance(n, Neuron):
        builtin = _is_builtin(n)
        note = f"fires by {n.fire.value}, resets by {n.reset.value}" + (": Lava's own LIF has it" if builtin else "")
        return [Operation(name=n.name, operation=n.kind, verdict=Verdict.NATIVE if builtin else Verdict.CUSTOM, note=note, loc=n.loc)]
    if isinstance(n, NeuronProgram):
        functions = ", ".join(dict.fromkeys(made.op for made in n.instructions))
        return [Operation(name=n.name, operation=n.kind, verdict=Verdict.CUSTOM, note=f"a program of {functions}", loc=n.loc)]
    if isinstance(n, MaxPool2d):
        return [Operation(name=n.name, operation=n.kind, verdict=Verdict.CUSTOM, note="populations that keep the largest", loc=n.loc)]
    note = "folds into synapses, neurons or wiring"
    if isinstance(n, (Conv2d, Linear, Diagonal)):
        note = "synapses"
    elif isinstance(n, Delay):
        note = "a delay of one step"
    return [Operation(name=n.name, operation=n.kind, verdict=Verdict.NATIVE, note=note, loc=n.loc)]


def _is_builtin(n: Neuron) -> bool:
    """Whether the fixed-point LIF of lava-nc 0.10.0 is this neuron: strict, hard reset to 0, one leak and threshold for all."""
    plain = n.grid == 0 and n.max_spikes == 1 and n.reset_keep is None and n.v_min is None and n.adapt_jump is None
    same = all(np.all(a == a.flat[0]) for a in (n.leak, n.theta, n.gain))
    hard = n.reset is Reset.SET and not np.any(n.reset_value)
    return plain and same and hard and n.fire is Fire.STEP_GT and n.bias.shape[0] == 1 and not np.any(n.v_init)


__all__ = ["Checked", "Operation", "check", "judge"]

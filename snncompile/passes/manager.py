"""Run a pipeline and measure what each pass did: the evidence of level 2 of DESIGN.md section 8."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from snncompile.errors import CompileError, InternalError
from snncompile.ir.graph import Array, Graph, validate
from snncompile.ir.linear_ops import Delay
from snncompile.passes.base import Outcome, Pass, Refusal
from snncompile.passes.evidence import Difference, Evidence
from snncompile.passes.pipeline import DEFAULT, Pipeline

ROUNDS = 20
FEW = 3
"""Steps that are executed where all are alike: from rest, with a state, and with a state that has a past."""


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What a pass did to a graph, and what that did to the network's values on the probe.

    ``executed`` is false where the pass changed nothing, and the differences are then 0 by construction. ``membrane_error`` is the
    largest over all populations, relative to the population's largest membrane.
    """

    name: str
    nodes_before: int
    nodes_after: int
    rewrites: int
    refusals: tuple[Refusal, ...]
    executed: bool
    membrane_error: float
    worst_population: str | None
    differing_spikes: int
    output_error: float
    bound: float


def run_passes(
    graph: Graph, *, probe: dict[str, Array], pipeline: Pipeline = DEFAULT, steps: int | None = None
) -> tuple[Graph, tuple[PassRecord, ...]]:
    """Run the passes in order; validate and execute the graph between them.

    probe    by input name, ``(N, T, *shape)`` or ``(N, 1, *shape)``; one sample is enough to see a wrong fold
    steps    how many model steps to execute; by default all where steps differ from each other, else the first few
    Errors   CompileError from validation of the given graph; InternalError if a pass breaks the IR or its own error bound
    """
    validate(graph)
    evidence = Evidence.of(graph, probe, _steps_to_see(graph) if steps is None else steps)
    records: list[PassRecord] = []
    for part in pipeline:
        for step, first_round in _sequence(part, records):
            if step.requires is not graph.dialect:
                raise InternalError(f"pass '{step.name}' wants the {step.requires.value} dialect")
            outcome = step.apply(graph)
            changed = outcome.graph is not graph and outcome.rewrites > 0
            if not changed and not first_round:
                continue
            difference = Difference()
            if changed:
                _still_valid(step, outcome)
                evidence, difference = evidence.after(outcome.graph)
            records.append(_record(step, graph, outcome, changed, difference))
            if difference.membrane > step.bound or difference.output > step.bound:
                raise InternalError(
                    f"pass '{step.name}' changed the network: '{difference.population}' differs by {difference.membrane:.3g} relative"
                    f" ({difference.spikes} spikes, outputs by {difference.output:.3g}); its bound is {step.bound:g}"
                )
            graph = outcome.graph if changed else graph
    return graph, tuple(records)


def _steps_to_see(graph: Graph) -> int:
    """How many steps show every operation: all if constants differ between them or values of earlier ones come back, else the first few."""
    differ = any(n.steps > 1 or isinstance(n, Delay) for n in graph.nodes)
    return graph.steps if differ else min(graph.steps, FEW)


def _sequence(part: Pass | tuple[Pass, ...], records: list[PassRecord]) -> Iterator[tuple[Pass, bool]]:
    """The passes of one part of a pipeline, a tuple over and over until a whole round changed nothing."""
    if isinstance(part, Pass):
        yield part, True
        return
    for k in range(ROUNDS):
        done = len(records)
        for step in part:
            yield step, k == 0
        if not any(r.executed for r in records[done:]):
            return
    raise InternalError(f"passes {', '.join(p.name for p in part)} do not come to rest")


def _still_valid(step: Pass, outcome: Outcome) -> None:
    try:
        validate(outcome.graph)
        _ = outcome.graph.shapes
    except CompileError as e:
        raise InternalError(f"pass '{step.name}' broke the graph: {e}") from e
    if outcome.graph.dialect is not step.ensures:
        raise InternalError(f"pass '{step.name}' promised the {step.ensures.value} dialect")


def _record(step: Pass, graph: Graph, outcome: Outcome, changed: bool, difference: Difference) -> PassRecord:
    return PassRecord(
        name=step.name, nodes_before=len(graph.nodes), nodes_after=len(outcome.graph.nodes), rewrites=outcome.rewrites if changed else 0,
        refusals=outcome.refusals, executed=changed, membrane_error=difference.membrane, worst_population=difference.population,
        differing_spikes=difference.spikes, output_error=difference.output, bound=step.bound,
    )  # fmt: skip

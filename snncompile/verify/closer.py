"""The first difference from near: what both sides hold there, and the experiments that name its cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from snncompile.ir.graph import Array, Dialect
from snncompile.ir.integer import IntNeuron
from snncompile.ir.neuron import Neuron
from snncompile.ir.program import IntProgram, NeuronProgram
from snncompile.quantize.admit import normalise
from snncompile.quantize.constants import aligned
from snncompile.verify.divergence import first_difference
from snncompile.verify.explain import Experiment, Explanation, explain
from snncompile.verify.findings import Evidence, Localised, Pair, Place, Replayable
from snncompile.verify.hypotheses import borrowed
from snncompile.verify.input_stage import explain_input, taken_in
from snncompile.verify.judge import Judged
from snncompile.verify.mutations import mutated
from snncompile.verify.replay import Response, respond
from snncompile.verify.rerun import Rerun
from snncompile.verify.unit import Trace, Unit, cut, run_unit

EXPLAINED_SAMPLES = 32
"""Causes are tested on the first samples that differ and, where they leave room, on others: a true repair leaves equal what was equal."""


def look_closer(runs: Rerun, found: Localised, name: str, judged: Judged) -> Localised:
    """Place and cause of the first population (or input) that differs."""
    at = first_difference(name, "payload", judged.apart, ~judged.apart, different=judged.apart)
    assert at is not None
    index = (at.sample, at.step, *at.neuron)
    nodes = [s.graph.by_name[name] for s in (runs.follower, runs.driver)]
    place = Place(
        population=name, sample=at.sample, step=at.step, neuron=at.neuron, loc=next((n.loc for n in nodes if n.loc is not None), None)
    )
    swap = found.driver == 1
    if name in runs.inputs():
        one, two = (runs.raw_input(name, s) for s in (runs.driver, runs.follower))
        a, b = (float(np.broadcast_to(taken_in(e), judged.apart.shape)[index]) for e in (one, two))
        return replace(found, place=replace(place, values={"value": (b, a) if swap else (a, b)}), explanation=explain_input(one, two))
    units = (cut(runs.model, name), cut(runs.follower.graph, name))
    values = (runs.values(units[0]), runs.values(units[1]))
    traces = (runs.driven(name), runs.follow(name))
    if isinstance(units[0].neuron, (NeuronProgram, IntProgram)) or isinstance(units[1].neuron, (NeuronProgram, IntProgram)):
        held = [(kind, getattr(traces[0], field), getattr(traces[1], field)) for kind, field in (("payload", "payload"), ("membrane", "m"))]
        both = {kind: (float(x[index]), float(y[index])) for kind, x, y in held if x is not None and y is not None}
        pairs = {kind: (y, x) if swap else (x, y) for kind, (x, y) in both.items()}
        why = f"'{name}' is a neuron program: what differs is shown, and no cause is tested"
        return replace(found, place=replace(place, values=pairs), notes=(*found.notes, why))
    here = slice(at.sample, at.sample + 1)
    responses = [respond(u, {k: x[here] for k, x in v.items()}) for u, v in zip(units, values, strict=True)]
    shown = (traces[0], _own_way(runs, units[1], values[1], traces[1], index))
    seen = {k: (b, a) if swap else (a, b) for k, (a, b) in _seen(shown, responses, index).items()}
    differs = judged.apart.reshape(len(judged.apart), -1).any(axis=1)
    chosen = np.sort(np.argsort(~differs, kind="stable")[:EXPLAINED_SAMPLES])
    driven = runs.whole(name) if runs.level == "events" else (units[0], values[0])
    given = [Replayable(*driven, recorded=traces[0] if runs.driver.recorded is not None else None), Replayable(units[1], values[1])]
    evidence = Evidence(a=given[swap], b=given[1 - swap], sent=runs.traces[name])
    explanation = _explain(runs, name, units, [{k: x[chosen] for k, x in v.items()} for v in values], traces[0].take(chosen), chosen)
    return replace(found, place=replace(place, values=seen), explanation=explanation, evidence=evidence)


def _own_way(runs: Rerun, unit: Unit, values: Mapping[str, Array], followed: Trace, at: tuple[int, ...]) -> Trace:
    """The follower's run with its own spikes at the step that differs, so that its membrane shows its own reset."""
    if followed.v is None or not (isinstance(unit.neuron, Neuron) and unit.neuron.spiking):
        return followed
    sample, step = slice(at[0], at[0] + 1), at[1]
    sent = np.array(runs.traces[unit.name][sample], dtype=np.float64)
    sent[:, step] = followed.payload[sample, step]
    again = run_unit(unit, {k: x[sample] for k, x in values.items()}, sent)
    assert again.v is not None
    v = followed.v.copy()
    v[at[0]] = again.v[0]
    return replace(followed, v=v)


def _explain(runs: Rerun, name: str, units: tuple[Unit, Unit], values: list[dict[str, Array]], found: Trace, chosen: Array) -> Explanation:
    judge = runs.judge(name)
    other, mine = (respond(u, v) for u, v in zip(units, values, strict=True))
    whole = judge.whole if isinstance(judge.whole, IntNeuron) else None
    if whole is not None and isinstance(mine.neuron, Neuron):
        other, mine = _rounded(other, whole), replace(mine, neuron=normalise(mine.neuron))
    experiment = Experiment(mine=mine, found=found, judge=judge, sent=found.payload)
    hypotheses = list(borrowed(mine, other, whole=whole))
    if not hypotheses and whole is None:
        hypotheses = list(mutated(mine, found, lambda bits: _coarser(units[1], values[1], bits)))
    return explain(experiment, hypotheses, None if whole is None else lambda: runs.integers(name, chosen))


def _rounded(r: Response, whole: IntNeuron) -> Response:
    """The real neuron with the rounding and the limits of the integers' graded payload."""
    if whole.fire != "relu":
        return r
    lsb = float(np.max(whole.out_scale))
    return replace(r, grid=lsb, ceiling=(whole.payload_min * lsb, whole.payload_max * lsb))


def _coarser(unit: Unit, values: Mapping[str, Array], bits: int) -> Mapping[str, Array] | None:
    """Currents with the lowest bits of integer weights dropped."""
    if unit.graph.dialect is not Dialect.INTEGER:
        return None

    def dropped(op: Any) -> Any:
        return replace(op, weight=(op.weight.astype(np.int64) >> bits) << bits) if hasattr(op, "weight") else op

    return respond(replace(unit, graph=unit.graph.map_nodes(dropped)), values).linear


def _seen(traces: tuple[Trace, Trace], responses: list[Response], at: tuple[int, ...]) -> dict[str, Pair]:
    """What both hold at one event: driver first."""
    inside = (0, *at[1:])
    before = (at[0], at[1] - 1, *at[2:])

    def pick(field: str, where: tuple[int, ...]) -> Pair:
        found = [getattr(t, field) for t in traces]
        one, two = (None if x is None or where[1] < 0 else float(x[where]) for x in found)
        return one, two

    rows = {"payload": pick("payload", at), "membrane before the reset": pick("m", at), "membrane after it": pick("v", at)}
    rows |= {"membrane one step ago": pick("v", before)} if at[1] else {}
    rows["threshold"] = pick("threshold", at)
    if rows["threshold"] == (None, None):
        rows["threshold"] = tuple(_threshold(r, at) for r in responses)  # type: ignore[assignment]
    totals = [float(r.current[inside]) for r in responses]
    rows["input current and bias"] = (totals[0], totals[1])
    labels = dict.fromkeys(k for r in responses for k in r.linear)
    for label in labels:
        parts = [float(r.linear[label][inside]) if label in r.linear else None for r in responses]
        rows[f"from '{label}'"] = (parts[0], parts[1])
    return rows


def _threshold(r: Response, at: tuple[int, ...]) -> float | None:
    if isinstance(r.neuron, Neuron) or r.neuron.fire == "none":
        return None
    whole = aligned(r.neuron.threshold, r.offset.ndim - 2)
    return float(np.broadcast_to(whole, r.offset.shape[1:])[at[1:]])


__all__ = ["look_closer"]

"""Where two runs of one network first differ, and why.

Both sides get the same inputs population by population: those that one of them, the driver, recorded. So every population is judged
by itself, and the first that differs in the graph's order is where the difference arises. The other side, the follower, is re-executed
with one property changed at a time to name the cause.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from snncompile.errors import fail
from snncompile.ir.graph import Array, Graph
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.verify.align import align
from snncompile.verify.closer import look_closer
from snncompile.verify.findings import Localised, Populated
from snncompile.verify.hypotheses import same
from snncompile.verify.input_stage import compare_input
from snncompile.verify.judge import Judged, Level
from snncompile.verify.real import as_float
from snncompile.verify.rerun import Rerun, Side, populations

Count = Callable[[int, int], None]


def localise(a: Side, b: Side, x: Mapping[str, Array], *, progress: Count | None = None) -> Localised:
    """Compare two runs on samples ``x`` by input, (N, T | 1, *shape); raises CompileError SNN607 if they have nothing in common."""
    a, b, aligned = align(a, b)
    sides, notes, level = _prepare(a, b)
    notes = aligned + notes
    driver = _driver(sides, level, x)
    runs = Rerun(sides[driver], sides[1 - driver], level, x)
    names = runs.names()
    if not names:
        raise fail(
            "SNN607",
            f"{a.label} and {b.label} share no population",
            notes=[f"{s.label} has {', '.join(populations(s.graph)) or 'none'}" for s in (a, b)],
            help="give two sides of one network: names decide which populations belong together",
        )  # fmt: skip
    notes += [f"'{name}' is only in {s.label}" for s in sides for name in populations(s.graph) if name not in names]
    rows: list[Populated] = []
    first: tuple[str, Judged] | None = None
    for name in runs.inputs():
        judged = compare_input(runs.raw_input(name, runs.driver), runs.raw_input(name, runs.follower))
        rows.append(Populated(name=name, kind="input", compared=judged.apart.size, differing=judged.events, ties=0))
        first = first or ((name, judged) if judged.events else None)
    for k, name in enumerate(names):
        if progress is not None:
            progress(k, len(names))
        judged = runs.judge(name).compare(runs.driven(name), runs.follow(name))
        ties = int(np.count_nonzero(judged.ties))
        rows.append(Populated(name=name, kind="population", compared=judged.apart.size, differing=judged.events, ties=ties))
        first = first or ((name, judged) if judged.events else None)
    found = Localised(
        labels=(a.label, b.label), level=level, driver=driver, samples=runs.samples, steps=runs.steps, populations=tuple(rows),
        notes=tuple(notes),
    )  # fmt: skip
    return found if first is None else look_closer(runs, found, *first)


def _prepare(a: Side, b: Side) -> tuple[list[Side], list[str], Level]:
    if a.integer and b.integer and not _same_units(a.graph, b.graph):
        text = f"the two count in different LSBs; {b.label} stands here by the real numbers that its integers mean"
        return [a, replace(b, graph=as_float(b.graph), recorded=None, entry=b.graph)], [text], "events"
    level: Level = "bits" if a.integer and b.integer else "events" if a.integer or b.integer else "float"
    notes = []
    sides = [a, b]
    for k, s in enumerate(sides):
        if level == "events" and not s.integer and s.recorded is not None:
            sides[k] = replace(s, recorded=None)
            notes.append(f"{s.label} stands here by its captured graph, which was compared with it when it was captured")
    return sides, notes, level


def _driver(sides: list[Side], level: Level, x: Mapping[str, Array]) -> int:
    """Whose run is fed to both: the integers', an executor's; of two executors the one that leaves its own program."""
    if level == "events":
        return 0 if sides[0].integer else 1
    recorded = [s.recorded is not None for s in sides]
    if all(recorded):
        runs = Rerun(sides[0], replace(sides[0], recorded=None), level, x)
        strayed = any(runs.judge(n).compare(runs.driven(n), runs.follow(n)).events for n in runs.names())
        return 0 if strayed else 1
    return 1 if recorded[1] else 0


def _same_units(a: Graph, b: Graph) -> bool:
    for n in a.of(IntNeuron, IntInput):
        m = b.by_name.get(n.name)
        for field in ("v_scale", "out_scale") if isinstance(n, IntNeuron) else ("lsb", "offset"):
            if m is not None and not (isinstance(m, type(n)) and same(getattr(n, field), getattr(m, field))):
                return False
    return True


__all__ = ["Localised", "Side", "localise"]

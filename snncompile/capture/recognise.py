"""Recognise neurons: bring the operations around each threshold to the normal form of ``snncompile.ir.neuron``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snncompile.capture import adaptation as adapt
from snncompile.capture.algebra import Expr, Lin, same
from snncompile.capture.expressions import THRESHOLDS, Expressions, Threshold, base
from snncompile.capture.membrane import above_floor, filter_population, next_of, proportional, stateless, with_state
from snncompile.capture.population import NotNormal, Population
from snncompile.capture.program import ProgramPopulation, gates, program_around
from snncompile.capture.program_writer import NotPointwise
from snncompile.capture.roll import Rolled
from snncompile.errors import CompileError, fail
from snncompile.ir.neuron import Reset

DEAF = (
    "what it compares with its threshold is a constant, because a factor of the membrane is 0 at every step and channel (such as"
    " Mem-BN's k = a + b * gamma / sd)"
)


DEEPEST = 6
"""How many operations in a row may stand in front of a neuron, each a population of its own."""


def recognise(rolled: Rolled, ex: Expressions, refused: dict[str, CompileError] | None = None) -> list[Population | ProgramPopulation]:
    """Find every population of the step graph, in execution order: in normal form, else as a program; raises CompileError else.

    A dictionary as ``refused`` takes the errors by node instead, and the node is a value of its own from then on.
    """
    found: list[Population | ProgramPopulation] = []

    def refuse(name: str, reason: str) -> None:
        try:
            keep(_as_programs(name, rolled, ex))
            return
        except NotPointwise as e:
            error = _refuse(rolled, ex, name, reason, e)
        if refused is None:
            raise error from None
        refused[name] = error
        ex.settle([name])

    def keep(populations: Sequence[Population | ProgramPopulation]) -> None:
        for population in populations:
            found.append(population)
            ex.settle([*population.ports, *population.inner])

    for name in rolled.nodes:  # every threshold makes itself known, and what only serves another one
        ex.of(name)
    pairs = _rectified(ex)
    if pairs:
        ex.rectify(pairs)
        for name in rolled.nodes:
            ex.of(name)
    for name, raw in rolled.nodes.items():
        if ex.is_atom(name) or name in ex.masks or (base(raw) not in THRESHOLDS and name not in ex.thresholds):
            continue
        expression = ex.of(name)
        threshold = ex.thresholds.get(name)
        if expression is None:
            refuse(name, DEAF if name in ex.deaf else "its argument is not affine in the state and the currents")
            continue
        if threshold is None:
            continue
        before = set(ex.settled)
        try:
            populations = _around(threshold, rolled, ex)
        except NotNormal as e:
            ex.unsettle(before)
            if _only_state(threshold.d):
                continue
            again = _with_silent_reset(name, rolled, ex)
            if again is None:
                refuse(name, str(e))
                continue
            populations = again
        keep(populations)
    return found


def _rectified(ex: Expressions) -> dict[str, str]:
    """Rectifiers relu(d) in the reset of a neuron whose binary spike is H(d), up to a positive factor: min(m, theta) beside m > theta."""
    found: dict[str, str] = {}
    graded = {k: t for k, t in ex.thresholds.items() if t.graded and not t.d.products and ex.rounded(ex.rolled.nodes[k]) is None}
    for name, rectifier in graded.items():
        for state in (a for a in rectifier.d.atoms if a.startswith("prev:") and a[5:] in ex.rolled.nodes and not ex.is_atom(a[5:])):
            following = ex.of(state[5:])
            following = None if following is None else above_floor(following, ex)[0]
            for spike, th in ex.thresholds.items():
                alike = not th.graded and th.step is None and not th.d.products and _multiple(th.d.lin, rectifier.d.lin, state)
                if alike and following is not None and name in following.products:
                    found[name] = spike
    return found


def _multiple(a: Lin, b: Lin, state: str) -> bool:
    """Whether a is b times something positive, the constant included."""
    kappa = proportional(a, b, state)
    return kappa is not None and same(a.const, kappa * b.const, 1e-6)


def _as_programs(name: str, rolled: Rolled, ex: Expressions) -> list[Population | ProgramPopulation]:
    """The programs that a threshold without normal form takes: in front of a neuron that has one then, or all of the neuron."""
    before = set(ex.settled)
    programs: list[Population | ProgramPopulation] = []
    try:
        for _ in range(DEEPEST):
            in_front = gates(name, rolled, ex)
            for gate in in_front:
                programs.append(program_around(gate, rolled, ex, alone=True))
                ex.settle([*programs[-1].ports, *programs[-1].inner])
            if not in_front or (ex.of(name) is not None and name in ex.thresholds):
                break
        if programs and ex.of(name) is not None and name in ex.thresholds:
            return [*programs, *_around(ex.thresholds[name], rolled, ex)]
    except (NotNormal, NotPointwise):
        pass
    ex.unsettle(before)
    return [program_around(name, rolled, ex)]


def _refuse(rolled: Rolled, ex: Expressions, name: str, reason: str, program: NotPointwise) -> CompileError:
    raw = rolled.nodes[name]
    culprit = program.node if program.node in rolled.nodes else culprit_of(rolled, ex, name)
    notes = (
        [] if culprit is None else [f"the operation in the way is '{rolled.nodes[culprit].op}', {rolled.nodes[culprit].loc or 'somewhere'}"]
    )
    return fail(
        "SNN120",
        f"the neuron around '{raw.op}'{f' in module {raw.module!r}' if raw.module else ''} has no normal form: {reason}",
        loc=raw.loc if culprit is None else rolled.nodes[culprit].loc or raw.loc,
        notes=[
            *notes,
            f"nor is it a neuron program: {program}",
            "normal form: m = leak * v + gain * I + bias, spike where m reaches theta, reset by subtraction, to a value, to theta, or none",
        ],
        help="see docs/neurons.md for the neuron models that can be deployed",
    )


def culprit_of(rolled: Rolled, ex: Expressions, name: str) -> str | None:
    """The first operation before a threshold, or before the next value of a state that it compares, that is not affine."""
    th = ex.thresholds.get(name)
    stack = [name, *([a[5:] for a in sorted(th.d.atoms) if a.startswith("prev:")] if th is not None else [])]
    seen: set[str] = set()
    while stack:
        node = stack.pop()
        if node in seen or node not in rolled.nodes or ex.of(node) is not None:
            continue
        seen.add(node)
        unknown = [r for r in rolled.nodes[node].refs if r in rolled.nodes and ex.of(r) is None]
        if not unknown:
            return node
        stack += unknown
    return None


def _only_state(d: Expr) -> bool:
    """Whether a threshold looks only at states of the step before: if it is no neuron, it may be the delayed reset of one."""
    return bool(d.atoms) and all(a.startswith("prev") for a in d.atoms)


def _around(th: Threshold, rolled: Rolled, ex: Expressions) -> list[Population]:
    """The population of one threshold, preceded by any synaptic filter that feeds it."""
    states = [a for a in sorted(th.d.atoms) if a.startswith("prev:") and a[5:] in rolled.nodes and not ex.is_atom(a[5:])]
    membranes: list[str] = []
    filters: list[str] = []
    for z in states:
        following = ex.of(z[5:])
        if following is None:
            raise NotNormal("the next value of its state is not affine in the state and the currents")
        if following.products and not _fed_back(th, z, following):
            membranes.append(z)
        elif z in following.lin.terms:
            filters.append(z)
    if not membranes and filters:  # a neuron without reset: its state is what is compared
        membranes = [z for z in filters if proportional(th.d.lin, next_of(ex, z).lin, z) is not None][-1:]
    filters = [z for z in filters if z not in membranes]
    if filters:
        made = [filter_population(z[5:], rolled, ex) for z in filters]
        for population in made:
            ex.settle(population.ports)
        if ex.of(th.node) is None:
            raise NotNormal("its synaptic current is not a linear filter")
        return [*made, *_around(ex.thresholds[th.node], rolled, ex)]
    membranes, adaptation = adapt.split(th, membranes, rolled, ex)
    if len(membranes) > 1:
        raise NotNormal(f"it has {len(membranes)} coupled states")
    if not membranes:
        return [stateless(th, rolled, ex)]
    return [with_state(th, membranes[0], rolled, ex, adaptation)]


def _fed_back(th: Threshold, state: str, following: Expr) -> bool:
    """Whether a state is a current into which spikes of the step before flow, and not what the threshold compares."""
    past = all(s.startswith("prev:") and p.is_constant for s, p in following.products.items())
    return past and state in following.lin.terms and proportional(th.d.lin, following.lin, state) is None


def _with_silent_reset(name: str, rolled: Rolled, ex: Expressions) -> list[Population] | None:
    """The population if a comparison of its reset state with the threshold is dropped, which can never hold; None if that is not so.

    After a reset to a value below the threshold, the state of the step before never exceeds the threshold (snnTorch's immediate reset).
    """
    th = ex.thresholds.get(name)
    already, before = set(ex.silent), set(ex.settled)
    states = set() if th is None else {a for a in th.d.atoms if a.startswith("prev:")}
    quiet = {k: r for k, r in ex.thresholds.items() if k != name and not r.graded and r.step is None and set(r.d.lin.terms) <= states}
    quiet = {k: r for k, r in quiet.items() if _only_state(r.d) and not r.d.products}
    if th is None or not quiet:
        return None
    ex.assume_silent(already | set(quiet))
    try:
        for node in rolled.nodes:
            ex.of(node)
        populations = _around(ex.thresholds[name], rolled, ex)
    except (NotNormal, KeyError):
        populations = []
    if populations and all(_never(r, populations[-1], th.strict) for r in quiet.values()):
        return populations
    ex.assume_silent(already)
    ex.unsettle(before)
    for node in rolled.nodes:
        ex.of(node)
    return None


def _never(r: Threshold, p: Population, strict: bool) -> bool:
    """Whether a state that was reset to a value, or else did not reach the threshold, cannot satisfy ``r``."""
    ((_, a),) = r.d.lin.terms.items() if len(r.d.lin.terms) == 1 else ((None, np.zeros(1)),)
    if np.any(a <= 0) or p.reset is not Reset.SET or p.reset_keep is not None:
        return False
    limit = -r.d.lin.const / a
    below = np.all(p.theta <= limit * (1 + 1e-6)) and (r.strict or not strict)
    resting = (p.reset_value, p.v_init[None])
    return bool(below and all(np.all(v <= limit) if r.strict else np.all(v < limit) for v in resting))

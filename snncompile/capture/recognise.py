"""Recognise neurons: bring the operations around each threshold to the normal form of ``snncompile.ir.neuron``.

Whatever the code's spelling, the membrane before the reset is an affine form m = leak * z + sum gain_a * a + bias in the state z
and the currents a, the spike is H(m - theta) or relu(m - theta), and the next state is m + s * (beta * m + c):

    beta = 0    reset by subtraction, amount -c        beta = -1   reset to the value c
    no s        no reset                               relu and c = -1   clamp to the threshold

A reset that the code applies at the next step (m = leak * z + I + s[t-1] * (beta' * z + c'), the state being m itself) is the
same neuron with v = m + s * (beta' * m + c') / leak.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from snncompile.capture.algebra import Expr, Lin, number, same, same_form
from snncompile.capture.expressions import THRESHOLDS, Expressions, Threshold, base, strip
from snncompile.capture.roll import Rolled
from snncompile.errors import CompileError, fail
from snncompile.ir.graph import Array
from snncompile.ir.neuron import Fire, Reset


@dataclass
class Population:
    """A recognised population: the fields of ``Neuron``, its currents with their gains, and the rolled nodes it stands for.

    ``ports`` maps rolled nodes to (port, factor, shift): node value = factor * port + shift.
    """

    node: str
    fire: Fire
    reset: Reset
    leak: Array
    bias: Array
    theta: Array
    reset_amount: Array
    reset_value: Array
    v_init: Array
    currents: Mapping[str, Array]
    ports: dict[str, tuple[str, float, float]] = field(default_factory=dict)
    grid: float = 0.0
    levels: int = 0


class NotNormal(Exception):  # noqa: N818 - a verdict, not a failure
    """A threshold whose surroundings have no normal form; the message says why."""


def recognise(rolled: Rolled, ex: Expressions) -> list[Population]:
    """Find every population of the step graph, in execution order; raises CompileError where one has no normal form."""
    found: list[Population] = []
    for name, raw in rolled.nodes.items():
        if base(raw) not in THRESHOLDS or ex.is_atom(name):
            continue
        expression = ex.of(name)
        threshold = ex.thresholds.get(name)
        if expression is None:
            raise _refuse(rolled, name, "its argument is not affine in the state and the currents")
        if threshold is None:
            continue
        before = set(ex.settled)
        try:
            for population in _around(threshold, rolled, ex):
                found.append(population)
                ex.settle(population.ports)
        except NotNormal as e:
            if not _only_state(threshold.d):
                raise _refuse(rolled, name, str(e)) from None
            ex.unsettle(before)
    return found


def _refuse(rolled: Rolled, name: str, reason: str) -> CompileError:
    raw = rolled.nodes[name]
    return fail(
        "SNN120",
        f"the neuron around '{raw.op}'{f' in module {raw.module!r}' if raw.module else ''} has no normal form: {reason}",
        loc=raw.loc,
        notes=[
            "normal form: m = leak * v + gain * I + bias, spike where m reaches theta, reset by subtraction, to a value, to theta, or none"
        ],
        help="see docs/neurons.md for the neuron models that can be deployed",
    )


def _only_state(d: Expr) -> bool:
    """Whether a threshold looks only at states of the step before: if it is no neuron, it may be the delayed reset of one."""
    return bool(d.atoms) and all(a.startswith("prev") for a in d.atoms)


def _around(th: Threshold, rolled: Rolled, ex: Expressions) -> list[Population]:
    """The population of one threshold, preceded by any synaptic filter that feeds it."""
    states = [a for a in sorted(th.d.atoms) if a.startswith("prev:") and not ex.is_atom(a[5:])]
    membranes: list[str] = []
    filters: list[str] = []
    for z in states:
        following = ex.of(z[5:])
        if following is None:
            raise NotNormal("the next value of its state is not affine in the state and the currents")
        if following.products:
            membranes.append(z)
        elif z in following.lin.terms:
            filters.append(z)
    if not membranes and filters:  # a neuron without reset: its state is what is compared
        membranes = [z for z in filters if _proportional(th.d.lin, _next(ex, z).lin, z) is not None][-1:]
    filters = [z for z in filters if z not in membranes]
    if filters:
        made = [filter_population(z[5:], rolled, ex) for z in filters]
        for population in made:
            ex.settle(population.ports)
        if ex.of(th.node) is None:
            raise NotNormal("its synaptic current is not a linear filter")
        return [*made, *_around(ex.thresholds[th.node], rolled, ex)]
    if len(membranes) > 1:
        raise NotNormal(f"it has {len(membranes)} coupled states")
    if not membranes:
        return [_stateless(th, rolled, ex)]
    return [_with_state(th, membranes[0], rolled, ex)]


def _next(ex: Expressions, state: str) -> Expr:
    expression = ex.of(state[5:])
    assert expression is not None
    return expression


def _proportional(d: Lin, m: Lin, state: str) -> Array | None:
    """kappa > 0 with d = kappa * m up to the constant, or None."""
    if state not in d.terms or state not in m.terms or np.any(m.terms[state] == 0):
        return None
    kappa: Array = d.terms[state] / m.terms[state]
    zero = np.zeros(1)
    agree = all(same(d.terms.get(a, zero), kappa * m.terms.get(a, zero), 1e-6) for a in {*d.terms, *m.terms})
    return kappa if agree and np.all(kappa > 0) else None


def _initial(rolled: Rolled, name: str, rank: int) -> Array:
    """The state's initial value without batch axes; one number if it is uniform."""
    value = strip(rolled.initial[name].detach().double().numpy(), rank)
    return np.full((1,) * rank, value.flat[0]) if value.size and np.all(value == value.flat[0]) else value


def _oriented(th: Threshold, following: Expr, state: str) -> tuple[Threshold, Expr, bool]:
    """Look at the comparison from the side on which it grows with the membrane: H(d) = 1 - H'(-d)."""
    p = following.products.get(th.node)
    if th.graded or th.d.products or p is None or _proportional(th.d.lin, following.lin, state) is not None:
        return th, following, False
    minus = -np.ones(1)
    turned = Expr(following.lin + p, {**following.products, th.node: p.scaled(minus)})
    if _proportional(th.d.lin.scaled(minus), turned.lin, state) is None:
        return th, following, False
    return replace(th, d=th.d.scaled(minus), strict=not th.strict), turned, True


def _with_state(th: Threshold, state: str, rolled: Rolled, ex: Expressions) -> Population:
    th, following, turned = _oriented(th, _next(ex, state), state)
    past = _past_spike(th, state, following, ex)
    foreign = [s for s in following.products if s not in (th.node, past)]
    if foreign:
        raise NotNormal("its state depends on the spikes of another neuron in the same step")
    rank = ex.rank(th.node)
    m = following.lin
    if past is not None and th.node in following.products:
        raise NotNormal("its state is reset in the same step and again in the next")
    kappa = _proportional(th.d.lin, m, state)
    if kappa is None:
        raise NotNormal("what is compared with the threshold is not what the state becomes (up to a positive factor)")
    zero = Lin({}, number(0.0, rank))
    for s in {*th.d.products, *([past] if past else [])}:
        if s != past or not same_form(th.d.products.get(s, zero), following.products.get(s, zero).scaled(kappa)):
            raise NotNormal("what is compared with the threshold is not what the state becomes (up to a positive factor)")
    theta = m.const - th.d.lin.const / kappa
    leak = m.terms[state]
    reset_form = following.products.get(past if past is not None else th.node, zero)
    if past is None:
        beta, c = _reset(reset_form, m)
    else:
        if set(reset_form.terms) - {state}:
            raise NotNormal("its delayed reset depends on more than its state")
        step_ahead = (lambda a: np.concatenate([a[1:], a[-1:]])) if leak.shape[0] > 1 or reset_form.const.shape[0] > 1 else (lambda a: a)
        divisor = step_ahead(leak)
        if np.any(divisor == 0):
            raise NotNormal("its reset is delayed by a step, but nothing leaks over from that step (leak 0)")
        beta = step_ahead(reset_form.terms.get(state, number(0.0, rank))) / divisor
        c = step_ahead(reset_form.const) / divisor
    reset, amount, value = _reset_kind(th, beta, c, kappa)
    population = Population(
        th.node, _fire(th), reset, leak, m.const, theta, amount, value, _initial(rolled, state[5:], rank),
        {a: g for a, g in m.terms.items() if a != state}, {}
    )  # fmt: skip
    population.ports = _ports(th, kappa, state[5:], past is not None, Expr(m, {past: reset_form} if past else {}), ex, turned)
    _put_on_grid(population, th, kappa, ex)
    return population


def _past_spike(th: Threshold, state: str, following: Expr, ex: Expressions) -> str | None:
    """The symbol that stands for this neuron's own spike one step ago, if the state's next value uses it."""
    for s in following.products:
        if s == f"prev:{th.node}":
            return s
        other = ex.thresholds.get(s)
        if other is not None and s != th.node and set(other.d.lin.terms) == {state} and not other.d.products:
            kappa = _proportional(th.d.lin, following.lin, state)
            if kappa is None or other.strict != th.strict:
                continue
            theta = following.lin.const - th.d.lin.const / kappa
            if same(-other.d.lin.const / other.d.lin.terms[state], theta, 1e-6):
                return s
    return None


def _reset(form: Lin, m: Lin) -> tuple[Array, Array]:
    """beta and c with form = beta * m + c."""
    if not form.terms:
        return np.zeros_like(form.const), form.const
    anchor = next(a for a, c in m.terms.items() if np.all(c != 0))
    beta = form.terms.get(anchor, np.zeros(1)) / m.terms[anchor]
    zero = np.zeros(1)
    if not all(same(form.terms.get(a, zero), beta * m.terms.get(a, zero), 1e-6) for a in {*form.terms, *m.terms}):
        raise NotNormal("its reset is not affine in the membrane")
    return beta, form.const - beta * m.const


def _reset_kind(th: Threshold, beta: Array, c: Array, kappa: Array) -> tuple[Reset, Array, Array]:
    """The reset of the normal form, its amount and its value."""
    zero = np.zeros_like(c)
    if same(beta, np.zeros(1)) and not np.any(np.abs(beta) > 1e-9):
        if not np.any(c):
            return Reset.KEEP, zero, zero
        if th.graded and same(-c * kappa, np.ones(1), 1e-6):
            return Reset.CLAMP, zero, zero
        return Reset.SUBTRACT, -c * (kappa if th.graded else 1.0), zero
    if same(beta, -np.ones(1), 1e-6) and not th.graded:
        return Reset.SET, zero, c
    raise NotNormal("its reset keeps a part of the membrane (neither subtraction nor a fixed value)")


def _fire(th: Threshold) -> Fire:
    return Fire.RELU if th.graded else Fire.STEP_GT if th.strict else Fire.STEP_GE


def _ports(
    th: Threshold, kappa: Array, state: str | None, delayed: bool, m: Expr, ex: Expressions, turned: bool = False
) -> dict[str, tuple[str, float, float]]:
    """Which rolled nodes are this population's spike, membrane before and membrane after the reset."""
    ports: dict[str, tuple[str, float, float]] = {}
    scale = float(kappa.flat[0])
    if th.graded and not np.all(kappa == scale):
        raise NotNormal("its graded spike has a factor per channel")
    for name in ex.rolled.nodes:
        if ex.is_atom(name):
            continue
        expression = ex.of(name)
        if expression is None:
            continue
        if set(expression.products) == {th.node} and base(ex.rolled.nodes[ex.root(name)]) in THRESHOLDS:
            p = expression.products[th.node]
            if p.is_constant and expression.lin.is_constant and np.unique(p.const).size == np.unique(expression.lin.const).size == 1:
                factor, shift = float(p.const.flat[0]) * (scale if th.graded else 1.0), float(expression.lin.const.flat[0])
                ports[name] = ("", -factor, shift + factor) if turned else ("", factor, shift)
        elif m.atoms and expression.atoms == m.atoms and same_form(expression.lin, m.lin) and set(expression.products) == set(m.products):
            ports[name] = ("m", 1.0, 0.0)
    if state is not None:
        ports[state] = ("m" if delayed or ports.get(state, ("",))[0] == "m" else "v", 1.0, 0.0)
    return ports


def _put_on_grid(population: Population, th: Threshold, kappa: Array, ex: Expressions) -> None:
    """Where the graded spike is rounded before it is sent, clamp(round(c * s), 0, levels), that is the payload, on a grid of 1 / c."""
    if not th.graded:
        return
    found: dict[str, tuple[float, int]] = {}
    for name, raw in ex.rolled.nodes.items():
        rounding = ex.rounded(raw)
        scaled = None if rounding is None else ex.leaf(rounding[0], ex.rank(name))
        if rounding is None or scaled is None or set(scaled.products) != {th.node} or np.any(scaled.lin.const) or scaled.lin.terms:
            continue
        c = scaled.products[th.node]
        if not c.is_constant or np.unique(c.const * kappa).size != 1 or float(c.const.flat[0]) <= 0:
            raise NotNormal("its graded spike is rounded on a grid that differs between channels or steps")
        found[name] = (1.0 / float((c.const * kappa).flat[0]), rounding[1])
    if not found:
        return
    if len(set(found.values())) != 1 or population.reset not in (Reset.CLAMP, Reset.STATELESS, Reset.KEEP):
        raise NotNormal("its graded spike is rounded, and its reset is neither to the threshold nor absent")
    population.grid, population.levels = next(iter(found.values()))
    population.ports = {name: port for name, port in population.ports.items() if port[0]}
    population.ports |= dict.fromkeys(found, ("", 1.0 / population.grid, 0.0))


def _stateless(th: Threshold, rolled: Rolled, ex: Expressions) -> Population:
    if th.d.products:
        raise NotNormal("its argument multiplies a spike with a current")
    rank = ex.rank(th.node)
    zero, one = number(0.0, rank), number(1.0, rank)
    population = Population(
        th.node, _fire(th), Reset.STATELESS, zero, zero, -th.d.lin.const, zero, zero, np.zeros((1,) * rank), dict(th.d.lin.terms), {}
    )
    population.ports = _ports(th, one, None, False, Expr(Lin({}, zero)), ex)
    _put_on_grid(population, th, one, ex)
    return population


def filter_population(name: str, rolled: Rolled, ex: Expressions) -> Population:
    """A linear filter x[t] = leak * x[t-1] + I[t] (+ bias), as a population that sends its membrane."""
    state = f"prev:{name}"
    following = _next(ex, state)
    rank = ex.rank(name)
    if following.products:
        raise NotNormal("its state depends on a spike")
    zero = number(0.0, rank)
    return Population(
        name, Fire.NONE, Reset.KEEP, following.lin.terms[state], following.lin.const, zero, zero, zero, _initial(rolled, name, rank),
        {a: g for a, g in following.lin.terms.items() if a != state}, {name: ("", 1.0, 0.0)}
    )  # fmt: skip

"""The membrane of a neuron: from its next state and its comparison to the fields of the normal form.

Whatever the code's spelling, the membrane before the reset is an affine form m = leak * z + sum gain_a * a + bias in the state z
and the currents a, the spike is H(m - theta), relu(m - theta) or a count of thresholds, and the next state is m + s * (beta * m + c):

    beta = 0    reset by subtraction, amount -c        beta = -1   reset to the value c        else   1 + beta of it stays
    no s        no reset                               relu and c = -1   clamp to the threshold

A reset that the code applies at the next step (m = leak * z + I + s[t-1] * (beta' * z + c'), the state being m itself) is the
same neuron with v = m + s * (beta' * m + c') / leak.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from snncompile.capture import adaptation as adapt
from snncompile.capture.algebra import Expr, Lin, number, same, same_form
from snncompile.capture.counts import symbol
from snncompile.capture.expressions import LOGICAL, THRESHOLDS, Expressions, Threshold, base, strip
from snncompile.capture.population import NotNormal, Population
from snncompile.capture.roll import Rolled
from snncompile.ir.graph import Array
from snncompile.ir.neuron import Fire, Reset

UNEQUAL = "what is compared with the threshold is not what the state becomes (up to a positive factor)"

WITHHELD = (
    "its comparison sees a reset that its state does not keep (snnTorch's reset_delay=False with subtraction: a membrane that is still "
    "above the threshold after a reset); reset one step later, or to zero"
)


def next_of(ex: Expressions, state: str) -> Expr:
    """The next value of a state, known to have an expression."""
    expression = ex.of(state[5:])
    assert expression is not None
    return expression


def proportional(d: Lin, m: Lin, state: str) -> Array | None:
    """kappa > 0 with d = kappa * m up to the constant, or None."""
    if state not in d.terms or state not in m.terms:
        return None
    kappa = _ratio(d, m, state)
    zero = np.zeros(1)
    agree = all(same(d.terms.get(a, zero), kappa * m.terms.get(a, zero), 1e-6) for a in {*d.terms, *m.terms})
    return kappa if agree and np.all(kappa > 0) else None


def _ratio(a: Lin, b: Lin, first: str) -> Array:
    """r with a = r * b, read off the terms in ``first`` and, where its factor is 0 (a memory switched off at a step), off the others.

    Where all factors are 0 it is what it is elsewhere, or 1: nothing depends on it there.
    """
    if np.all(b.terms[first] != 0):
        return np.asarray(a.terms.get(first, np.zeros(1)) / b.terms[first])
    shape = np.broadcast_shapes(*(c.shape for c in (*a.terms.values(), *b.terms.values())))
    ratio = np.full(shape, np.nan)
    for atom in sorted(b.terms, key=lambda name: name != first):
        factor, other = np.broadcast_to(b.terms[atom], shape), np.broadcast_to(a.terms.get(atom, np.zeros(1)), shape)
        open_ = np.isnan(ratio) & (factor != 0)
        ratio[open_] = other[open_] / factor[open_]
    known = ratio[~np.isnan(ratio)]
    return np.where(np.isnan(ratio), known[0] if known.size and np.allclose(known, known[0], rtol=1e-6) else 1.0, ratio)


def _initial(rolled: Rolled, name: str, rank: int) -> Array:
    """The state's initial value without batch axes; one number if it is uniform."""
    value = strip(rolled.initial[name].detach().double().numpy(), rank)
    return np.full((1,) * rank, value.flat[0]) if value.size and np.all(value == value.flat[0]) else value


def _oriented(th: Threshold, following: Expr, state: str) -> tuple[Threshold, Expr, bool]:
    """Look at the comparison from the side on which it grows with the membrane: H(d) = 1 - H'(-d)."""
    p = following.products.get(th.node)
    if th.graded or th.d.products or p is None or proportional(th.d.lin, following.lin, state) is not None:
        return th, following, False
    minus = -np.ones(1)
    turned = Expr(following.lin + p, {**following.products, th.node: p.scaled(minus)})
    if proportional(th.d.lin.scaled(minus), turned.lin, state) is None:
        return th, following, False
    return replace(th, d=th.d.scaled(minus), strict=not th.strict), turned, True


def with_state(th: Threshold, state: str, rolled: Rolled, ex: Expressions, adaptation: adapt.Adaptation | None = None) -> Population:
    """The population of one threshold and one membrane; raises NotNormal.

        u[t] = leak[t] z + sum gain I + bias + s[t-1] (beta' z + c'),   z = u[t-1]             as the code has it (a late reset)
        u[t] = leak[t] v[t-1] + sum gain I + bias,   v[t] = (1 + beta) u[t] + c  where s[t] = 1, else u[t]        as it is kept
        beta = beta'[t+1] / leak[t+1],   c = c'[t+1] / leak[t+1]

    beta = 0 is a subtraction of -c, beta = -1 a reset to the value c, anything between GLIF's gated reset, of which 1 + beta stays.

    Source   algebra; late resets are those of GLIF (Yao et al., NeurIPS 2022), LTL (Yang et al., NeurIPS 2022) and snnTorch's Leaky
    Shapes   fields (1 | T, ...), broadcastable to the neurons
    Refusals a membrane that is compared and another that is kept; a late reset that also drops an input, or behind a leak of 0
    """
    following, v_min, floor = above_floor(next_of(ex, state), ex)
    follows, c_raw = False, np.zeros(1)
    if adaptation is not None:
        th, c_raw = adapt.apart(th, adaptation)
    th, following, turned = _oriented(th, following, state)
    if adaptation is not None:
        if turned != adaptation.turned:
            raise NotNormal(adapt.DRIFT)
        c_raw = -c_raw if turned else c_raw
    th, following, past = _own_past(th, state, following, ex)
    own = {th.node, f"fired:{th.node}"}
    if set(following.products) - own - {past}:
        raise NotNormal("its state depends on the spikes of another neuron in the same step")
    rank = ex.rank(th.node)
    m = following.lin
    if past is not None and set(following.products) & own:
        raise NotNormal("its state is reset in the same step and again in the next")
    if len(set(following.products) & own) > 1:
        raise NotNormal("its reset depends on the number of spikes and on whether there is any")
    kappa = proportional(th.d.lin, m, state)
    if kappa is None:
        raise NotNormal(UNEQUAL)
    zero = Lin({}, number(0.0, rank))
    for s in {*th.d.products, *([past] if past else [])}:
        if s != past or not same_form(th.d.products.get(s, zero), following.products.get(s, zero).scaled(kappa)):
            raise NotNormal(WITHHELD if s in ex.thresholds else UNEQUAL)
    theta = m.const - th.d.lin.const / kappa
    if th.step is not None:
        if np.any(np.abs(theta) > 1e-6 * th.step / kappa):
            raise NotNormal("it counts the spikes of another value than its membrane")
        theta = th.step / kappa
    leak = m.terms[state]
    applied = past or next((s for s in following.products if s in own), th.node)
    reset_form = following.products.get(applied, zero)
    if adaptation is not None:
        if adaptation.state in m.terms:
            raise NotNormal("its adaptation acts on the membrane and on the threshold")
        reset_form, follows = adapt.reset_form(reset_form, adaptation, c_raw / kappa)
    beta, c = _reset(reset_form, m) if past is None else _late_reset(reset_form, state, leak, rank)
    if applied == th.node and th.step is not None and np.any(np.abs(beta) > 1e-9):
        raise NotNormal("every one of its spikes takes a part of the membrane")
    reset, amount, value, keep = _reset_kind(th, beta, c, kappa)
    population = Population(
        th.node, _fire(th), reset, leak, m.const, theta, amount, value, _initial(rolled, state[5:], rank),
        {a: g for a, g in m.terms.items() if a != state}, max_spikes=th.most, reset_keep=keep, v_min=v_min,
    )  # fmt: skip
    population.ports = _ports(th, kappa, state[5:], past is not None, Expr(m, {past: reset_form} if past else {}), ex, turned)
    population.inner |= {mask for mask, node in ex.masks.items() if node == th.node}
    if floor:
        population.inner.add(floor)
    if adaptation is not None:
        adapt.finish(population, adaptation, c_raw / kappa, follows)
    _put_on_grid(population, th, kappa, ex)
    return population


def above_floor(following: Expr, ex: Expressions) -> tuple[Expr, Array | None, str]:
    """Undo a lower bound of the state, relu(v - v_min) + v_min: what is bounded, the bound, and the rectifier's node."""
    if len(following.products) != 1 or not following.lin.is_constant:
        return following, None, ""
    ((name, p),) = following.products.items()
    th = ex.thresholds.get(name)
    if th is None or not th.graded or not p.is_constant or not np.all(p.const == 1) or not th.d.products:
        return following, None, ""
    low = following.lin.const
    return Expr(th.d.lin + Lin({}, low), th.d.products), low, name


def _own_past(th: Threshold, state: str, following: Expr, ex: Expressions) -> tuple[Threshold, Expr, str | None]:
    """Bring all symbols for this neuron's own spike one step ago together under one name, if the state's next value uses any."""
    own = [s for s in following.products if _is_past_of(th, s, state, following, ex)]
    if not own:
        return th, following, None
    name, *more = own

    def merged(e: Expr) -> Expr:
        products = {s: p for s, p in e.products.items() if s not in own}
        parts = [e.products[s] for s in (name, *more) if s in e.products]
        for part in parts:
            products[name] = products[name] + part if name in products else part
        return Expr(e.lin, products)

    return replace(th, d=merged(th.d)), merged(following), name


def _is_past_of(th: Threshold, s: str, state: str, following: Expr, ex: Expressions) -> bool:
    """Whether a symbol is the spike of ``th`` one step ago: read back, or compared anew from the membrane of that step."""
    if s.startswith("prev:"):
        return s[5:] == th.node or symbol(ex.of(s[5:])) == th.node
    other = ex.thresholds.get(s)
    if other is None or s == th.node or set(other.d.lin.terms) != {state} or other.d.products or other.step is not None:
        return False
    kappa = proportional(th.d.lin, following.lin, state)
    if kappa is None or other.strict != th.strict:
        return False
    theta = following.lin.const - th.d.lin.const / kappa
    return same(-other.d.lin.const / other.d.lin.terms[state], theta, 1e-6)


def _late_reset(form: Lin, state: str, leak: Array, rank: int) -> tuple[Array, Array]:
    """beta and c of a reset that the code applies one step later."""
    if set(form.terms) - {state}:
        raise NotNormal("its delayed reset also drops the input of the step after a spike")
    step_ahead = (lambda a: np.concatenate([a[1:], a[-1:]])) if leak.shape[0] > 1 or form.const.shape[0] > 1 else (lambda a: a)
    divisor = step_ahead(leak)
    if np.any(divisor == 0):
        raise NotNormal("its reset is delayed by a step, but nothing leaks over from that step (leak 0)")
    return step_ahead(form.terms.get(state, number(0.0, rank))) / divisor, step_ahead(form.const) / divisor


def _reset(form: Lin, m: Lin) -> tuple[Array, Array]:
    """beta and c with form = beta * m + c."""
    if not form.terms:
        return np.zeros_like(form.const), form.const
    beta = _ratio(form, m, next(iter(m.terms)))
    zero = np.zeros(1)
    if not all(same(form.terms.get(a, zero), beta * m.terms.get(a, zero), 1e-6) for a in {*form.terms, *m.terms}):
        raise NotNormal("its reset is not affine in the membrane")
    return beta, form.const - beta * m.const


def _reset_kind(th: Threshold, beta: Array, c: Array, kappa: Array) -> tuple[Reset, Array, Array, Array | None]:
    """The reset of the normal form, its amount, its value, and what part of the membrane it keeps."""
    zero = np.zeros_like(c)
    if not np.any(np.abs(beta) > 1e-9):
        if not np.any(c):
            return Reset.KEEP, zero, zero, None
        if th.graded and same(-c * kappa, np.ones(1), 1e-6):
            return Reset.CLAMP, zero, zero, None
        return Reset.SUBTRACT, -c * (kappa if th.graded else 1.0), zero, None
    if th.graded:
        raise NotNormal("its graded spike multiplies the membrane")
    return Reset.SET, zero, c, None if same(beta, -np.ones(1), 1e-6) else 1.0 + beta


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
        if set(expression.products) == {th.node} and (
            ex.root(name) == th.node or base(ex.rolled.nodes[ex.root(name)]) in THRESHOLDS | LOGICAL
        ):
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


def stateless(th: Threshold, rolled: Rolled, ex: Expressions) -> Population:
    """The population of a threshold that looks at currents only; raises NotNormal."""
    if th.d.products:
        raise NotNormal("its argument multiplies a spike with a current")
    rank = ex.rank(th.node)
    zero, one = number(0.0, rank), number(1.0, rank)
    if th.step is not None and np.any(th.d.lin.const):
        raise NotNormal("it counts the spikes of another value than its membrane")
    population = Population(
        th.node, _fire(th), Reset.STATELESS, zero, zero, -th.d.lin.const if th.step is None else th.step, zero, zero,
        np.zeros((1,) * rank), dict(th.d.lin.terms), max_spikes=th.most,
        inner={mask for mask, node in ex.masks.items() if node == th.node},
    )  # fmt: skip
    population.ports = _ports(th, one, None, False, Expr(Lin({}, zero)), ex)
    _put_on_grid(population, th, one, ex)
    return population


def filter_population(name: str, rolled: Rolled, ex: Expressions) -> Population:
    """A linear filter x[t] = leak * x[t-1] + I[t] (+ bias), as a population that sends its membrane."""
    state = f"prev:{name}"
    following = next_of(ex, state)
    rank = ex.rank(name)
    if any(not s.startswith("prev:") or not p.is_constant for s, p in following.products.items()):
        raise NotNormal("its state depends on a spike")
    zero = number(0.0, rank)
    return Population(
        name, Fire.NONE, Reset.KEEP, following.lin.terms[state], following.lin.const, zero, zero, zero, _initial(rolled, name, rank),
        {a: g for a, g in following.lin.terms.items() if a != state} | {s: p.const for s, p in following.products.items()},
        {name: ("", 1.0, 0.0)},
    )  # fmt: skip

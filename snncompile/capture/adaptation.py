"""Adaptive thresholds (ALIF): a second state b[t] = decay * b[t-1] + jump * s[t] + k that moves the threshold.

H[t] = theta + c * b[t-1]      with b0 = decay * b0 + k at rest:      w = c * (b - b0),  H = theta + c * b0 + w
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from snncompile.capture.algebra import Expr, Lin, same
from snncompile.capture.expressions import Expressions, Threshold, strip
from snncompile.capture.population import NotNormal, Population
from snncompile.capture.roll import Rolled
from snncompile.ir.graph import Array

DRIFT = "its threshold drifts from its initial value without any spike"


@dataclass(frozen=True, eq=False)
class Adaptation:
    """The state ``b``: its atom, ``decay``, ``jump`` and value at rest; ``turned`` if the comparison holds where the neuron is silent."""

    state: str
    decay: Array
    jump: Array
    rest: Array
    turned: bool = False


def split(th: Threshold, membranes: list[str], rolled: Rolled, ex: Expressions) -> tuple[list[str], Adaptation | None]:
    """Of the states that a spike changes, those that are membranes, and the one that only moves the threshold."""
    found: list[Adaptation] = []
    for z in membranes:
        following = ex.of(z[5:])
        assert following is not None
        jump = following.products.get(th.node)
        if set(following.products) != {th.node} or set(following.lin.terms) - {z} or jump is None or not jump.is_constant:
            continue
        decay = following.lin.terms.get(z, np.zeros_like(following.lin.const))
        rest = strip(rolled.initial[z[5:]].detach().double().numpy(), ex.rank(z[5:]))[None]
        silent, still = decay * rest + following.lin.const, rest + np.zeros_like(following.lin.const)
        turned = not same(silent, still, 1e-6)
        if turned and not same(silent + jump.const, still + np.zeros_like(jump.const), 1e-6):
            raise NotNormal(DRIFT)
        found.append(Adaptation(z, decay, -jump.const if turned else jump.const, rest, turned))
    if len(found) != 1 or len(membranes) < 2:
        return membranes, None
    return [z for z in membranes if z != found[0].state], found[0]


def apart(th: Threshold, a: Adaptation) -> tuple[Threshold, Array]:
    """The threshold with ``b`` at rest, and ``c`` times the factor of the membrane in the comparison."""
    c = th.d.lin.terms.get(a.state)
    if c is None or th.graded or th.step is not None:
        raise NotNormal("its threshold adapts, and its spike is not binary")
    return replace(th, d=Expr(_at_rest(th.d.lin, a), th.d.products)), -c


def reset_form(form: Lin, a: Adaptation, c: Array) -> tuple[Lin, bool]:
    """The reset with ``b`` at rest, and whether it subtracts the adapted threshold."""
    follows = form.terms.get(a.state)
    if follows is None:
        return form, False
    if not same(-follows, c, 1e-6):
        raise NotNormal("its reset follows the adaptive threshold with another factor")
    return _at_rest(form, a), True


def finish(population: Population, a: Adaptation, c: Array, follows: bool) -> None:
    """Write the adaptation into a population."""
    population.adapt_decay, population.adapt_jump, population.adapt_reset = a.decay + np.zeros_like(c), c * a.jump, follows
    population.inner.add(a.state[5:])


def _at_rest(form: Lin, a: Adaptation) -> Lin:
    return Lin({k: v for k, v in form.terms.items() if k != a.state}, form.const + form.terms[a.state] * a.rest)

"""Give a layer a synapse that learns beside its own: room for the changes, and bounds that hold for everything that can be learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from snncompile.errors import fail
from snncompile.ir.graph import Array, Graph, Op, fresh_name
from snncompile.ir.integer import IntNeuron
from snncompile.ir.neuron import Neuron
from snncompile.learning.chain import Link
from snncompile.learning.widths import Widths
from snncompile.numerics import Interval
from snncompile.quantize import PopulationReport, QuantResult
from snncompile.quantize.admit import normalise
from snncompile.quantize.bounds import population_bounds
from snncompile.quantize.constants import constants_fit, integers, on_lattice
from snncompile.quantize.lattice import Factors, Lattices, guard_bits_needed, missing_bits
from snncompile.target import Target

MOST = 32
"""An exponent that no membrane has room for."""
CLIPPED = 0.0125
"""Share of an update's energy that may lie beyond the range of the changes: twice the range would double the noise of rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlasticLowered:
    """The integers with the synapse that learns, called ``change``.

    lsb  (neurons,) the value of one LSB of its chip weights        finer  by how much a smaller range would make it finer at most
    """

    result: QuantResult
    change: str
    lsb: Array
    finer: float


def lower_plastic(result: QuantResult, link: Link, trained: Neuron, *, enough: Callable[[Array], bool], target: Target) -> PlasticLowered:
    """Add a synapse of zeros between the two populations of ``link``.

        a = (W s) << F  +  (w s) << (e - 1)      W the trained weights as they are, w the chip's, of 8 bits and a sign, 0 at first

    The trained synapse, the neuron and its membrane LSB stay as they were quantised; where the bounds leave no room for all that w can
    be, the membrane has fewer guard bits F. e is the smallest, hence the LSB of w the finest, with which the range of w is enough.
    trained   the float neuron          enough  whether changes up to so much, (neurons,), are
    Errors    SNN809 the layer could overflow whatever its scale
    """
    neuron, q = link.population, link.synapse.weight.astype(np.int64)
    top = 2 ** Widths.of(target).weight
    static = Interval.of(np.minimum(q, 0).sum(axis=1), np.maximum(q, 0).sum(axis=1))
    moving = Interval.of(np.full(len(q), -top * q.shape[1]), np.full(len(q), top * q.shape[1]))
    old = next(p for p in result.populations if p.name == neuron.name)
    for guard in range(neuron.exponents[0], -1, -1):
        made, misses = _coarser(neuron, trained, neuron.exponents[0] - guard, result.graph, target, exact=old.exact)
        scale = np.broadcast_to(np.asarray(made.v_scale, dtype=np.float64).reshape(-1), len(q))
        e = next((e for e in range(1, MOST) if enough(scale * (2.0 ** (e - 1) * (top - 1)))), MOST)
        chip = replace(made, exponents=(guard, e - 1))
        bounds = population_bounds(chip, [static, moving], result.graph.steps)
        fits = bounds.fits(target.accumulator, target.membrane) and constants_fit(made, target)
        if not fits or (made.fire == "none" and not target.payload.fits(bounds.payload)):
            continue
        reason = old.reason or misses or _inexact(chip, result.graph)
        report = replace(
            old, synapses=old.synapses + q.size, guard_bits=guard, bounds=bounds.as_dict(), exact=not reason, reason=reason,
        )  # fmt: skip
        name = fresh_name(result.graph.by_name, f"{link.synapse.name}_change")
        whole = replace(made, exponents=(guard, e))
        return PlasticLowered(
            result=_added(result, link, name, whole, report), change=name, lsb=scale * 2.0 ** (e - 1), finer=2.0 ** (e - 1)
        )
    raise fail(
        "SNN809", f"'{neuron.name}' can overflow once its weights have learned: {q.shape[1]} synapses of "
        f"{Widths.of(target).weight} bits and a sign", loc=neuron.loc,
        notes=(target.cite("formats.membrane"), target.cite("learning.weight")),
        help="give what is learned a smaller range, --headroom, or make the layer before it narrower",
    )  # fmt: skip


def enough_for(moved: Array) -> Callable[[Array], bool]:
    """Whether a range holds what was seen to change, (neurons, inputs), but for a little of its energy."""
    size = np.abs(moved)
    allowed = CLIPPED * float((size**2).sum())
    return lambda most: bool((np.maximum(size - most[:, None], 0.0) ** 2).sum() <= allowed)


def enough_of(weight: Array, headroom: float) -> Callable[[Array], bool]:
    """Whether a range is ``headroom`` times the largest weight of every neuron that has any; where all are 0, ``headroom`` itself."""
    largest = np.abs(weight).max(axis=1)
    wanted = headroom * (largest if np.any(largest) else np.ones_like(largest))
    return lambda most: bool(np.all(most >= wanted))


def _coarser(n: IntNeuron, trained: Neuron, bits: int, graph: Graph, target: Target, *, exact: bool) -> tuple[IntNeuron, str]:
    """The neuron with a membrane LSB that is 2**bits as large, and which of its constants is not exact any more."""
    if not bits:
        return n, ""
    shape, plain, guard = graph.shape(n.name), normalise(trained), n.exponents[0] - bits
    factors = Factors(n.leak, n.alpha, n.decay_bits, n.late_current, n.reset_keep)
    need = guard_bits_needed(factors, plain.reset, graph.steps, starts_at_zero=not np.any(plain.v_init))
    lattice, scale = need if exact and guard >= need else 0, n.v_scale * 2.0**bits
    made = integers(plain, None, shape, lsb=scale, lattice=lattice, limit=target.membrane.high)
    misses = made.misses
    if lattice and misses:  # not exact anyway: as near as integers come
        made, lattice = integers(plain, None, shape, lsb=scale, lattice=0, limit=target.membrane.high), 0
        misses = f"room for what it learns takes {bits} of the guard bits that its constants need for T = {graph.steps}"
    out = scale if n.fire == "none" else n.out_scale
    bias = on_lattice(n.bias * 2.0**-bits, lattice)
    return replace(n, bias=bias, v_scale=scale, out_scale=out, exponents=(guard,), **made.fields), misses


def _inexact(chip: IntNeuron, graph: Graph) -> str:
    """Why the dynamics round once something is learned; empty if they do not."""
    factors = Factors(chip.leak, chip.alpha, chip.decay_bits, chip.late_current, chip.reset_keep)
    short = missing_bits(factors, chip.reset, graph.steps, Lattices.of(chip))
    if not short:
        return ""
    return f"what it learns counts 2**{chip.exponents[1]} membrane LSBs, {short} bits more are needed for T = {graph.steps}"


def _added(result: QuantResult, link: Link, name: str, neuron: IntNeuron, report: PopulationReport) -> QuantResult:
    """The result with the second synapse."""
    kept = link.synapse
    change = replace(kept, name=name, weight=np.zeros_like(kept.weight), origin=(name,))
    neuron = replace(neuron, inputs=(*neuron.inputs, name))
    nodes: list[Op] = []
    for op in result.graph.nodes:
        nodes += [kept, change] if op.name == kept.name else [neuron if op.name == neuron.name else op]
    populations = tuple(report if p.name == neuron.name else p for p in result.populations)
    graph = result.graph.rebuild(nodes, meta={**result.graph.meta, "changes": (*result.graph.meta.get("changes", ()), name)})
    return QuantResult(graph=graph, populations=populations, notes=result.notes)


__all__ = ["CLIPPED", "PlasticLowered", "enough_for", "enough_of", "lower_plastic"]

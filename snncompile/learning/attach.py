"""Make one layer of a compiled network plastic: integers and schedule with room to learn, the rule and the error population."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from snncompile.errors import fail
from snncompile.ir.graph import Array, Graph
from snncompile.ir.integer import IntNeuron
from snncompile.ir.linear_ops import Linear
from snncompile.ir.neuron import Neuron
from snncompile.learning.error_population import LOSSES, OCTAVE_BITS, ErrorPopulation
from snncompile.learning.method import Method, find_method
from snncompile.learning.program import LearningProgram, find_plastic
from snncompile.learning.readout import lower_plastic
from snncompile.learning.rule import Factor, Product, Rule, Trace
from snncompile.learning.scaling import Scale, scale_plain, scale_traced
from snncompile.mapping.schedule import Schedule, schedule
from snncompile.quantize import QuantResult
from snncompile.target import Target

LAG = 2
"""Hardware steps from the presynaptic spikes to the error at the synapse: the synapse's hop, and the error's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnOptions:
    """What to learn and how.

    layer     the plastic layer        rule  ottt, sltt, osr, ndot        rate  eta of plain SGD on the loss averaged over the T steps
    loss      softmax (cross-entropy) or mse                              headroom  how much the largest weight may grow
    leak      decay of the trace per model step; by default that of the presynaptic neurons
    carry     what may be left of a sample's trace when the next sample begins        seed  of all random numbers but Lava's own
    """

    layer: str
    rule: str = "ottt"
    rate: float = 0.01
    loss: str = "softmax"
    headroom: float = 1.5
    leak: float | None = None
    carry: float = 1 / 16
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plastic:
    """A network that learns on the chip: what replaces the compiled one's integers and schedule, and the learning program."""

    result: QuantResult
    schedule: Schedule
    program: LearningProgram


def make_plastic(result: QuantResult, float_graph: Graph, captured: Graph, target: Target, options: LearnOptions) -> Plastic:
    """Attach learning to ``options.layer``.

    captured  the network before folding, from which the gain that was folded into the layer is read
    Errors    SNN801 target without learning; SNN805, SNN806 layer; SNN807 rule; SNN808 rate; SNN809 overflow; SNN810 loss or option;
              SNN811 a gain or leak that differs between the layer's inputs
    """
    method = find_method(options.rule)
    _check(options)
    source, synapse, neuron = find_plastic(result.graph, options.layer)
    folded = float_graph.by_name[synapse.name]
    assert isinstance(folded, Linear)
    gain = _gain(folded, captured)
    plastic = lower_plastic(result, folded.weight, synapse, neuron, headroom=options.headroom, target=target)
    timing = _timing(method, plastic.result.graph, source, neuron)
    rho = options.rate * gain**2 / result.graph.steps
    leak = _leak(method, options, float_graph, source)
    scale = (
        scale_traced(rho, plastic.lsb, leak, timing.schedule.initiation_interval, timing.delay, target) if method.trace and leak > 0
        else scale_plain(rho, plastic.lsb, target)
    )  # fmt: skip
    rule = _rule(scale, timing, options.seed, traced=method.trace and leak > 0)
    rule.check(target)
    lowered = plastic.result.graph.by_name[neuron.name]
    assert isinstance(lowered, IntNeuron)
    error = _error(options, scale, timing.delay, lowered, target)
    rest = max(0, math.ceil(math.log(options.carry) / math.log(leak)) - 1) if method.trace and 0 < leak < 1 else 0
    program = LearningProgram(
        method=method.name, synapse=synapse.name, population=neuron.name, source=source.name, rule=rule, error=error, rate=options.rate,
        gain=gain, leak=leak if method.trace else 0.0, lsb=plastic.lsb, rest=rest, equation=method.equation, exact=method.exact,
        approximated=(*method.approximated, *_notes(options, scale)),
    )  # fmt: skip
    return Plastic(result=plastic.result, schedule=timing.schedule, program=program)


@dataclass(frozen=True, slots=True)
class _Timing:
    schedule: Schedule
    delay: int
    epoch: int


def _timing(method: Method, graph: Graph, source: IntNeuron, neuron: IntNeuron) -> _Timing:
    """The smallest initiation interval in which the error comes back before the next spikes do.

    A rule without a trace reads "fired in this epoch", so an epoch is one model step and must end when the error is there.
    """
    for interval in range(LAG + 1, LAG + 8):
        timed = schedule(graph, interval=interval)
        interval = timed.initiation_interval  # noqa: PLW2901 - cycles may force a larger one
        for lag in range(LAG, interval):
            if not method.trace and (timed.depth[source.name] + lag + 1) % interval:
                continue
            if timed.depth[neuron.name] != timed.depth[source.name] + 1:
                raise fail("SNN806", f"'{neuron.name}' cannot learn on the chip: its spikes wait in the synapse", loc=neuron.loc)
            return _Timing(timed, lag - 1, 1 if method.trace else interval)
    raise fail("SNN806", f"'{neuron.name}' cannot learn on the chip: no schedule brings its error back in time", loc=neuron.loc)


def _rule(scale: Scale, timing: _Timing, seed: int, *, traced: bool) -> Rule:
    """``w -= x1 * y1`` for positive errors and ``w += x1 * y2`` for negative ones: a third factor has no sign on the chip."""
    condition, pre = ("u", (Factor("x1"),)) if traced else ("x0", ())
    products = tuple(
        Product(condition, sign * scale.mantissa, scale.exponent, (*pre, Factor(port))) for sign, port in ((-1, "y1"), (1, "y2"))
    )
    trace = Trace(scale.stored_impulse, scale.tau) if traced else Trace()
    return Rule(dw=products, x1=trace, epoch=timing.epoch, seed=seed)


def _error(options: LearnOptions, scale: Scale, delay: int, neuron: IntNeuron, target: Target) -> ErrorPopulation:
    lsb, n = float(neuron.out_scale.reshape(-1)[0]), math.prod(neuron.v_init.shape)
    per_lsb = 2**OCTAVE_BITS * math.log2(math.e) * lsb if options.loss == "softmax" else scale.levels * 2 / n * lsb
    shift = max(0, min(40, math.floor(math.log2(target.multiplier.high / per_lsb))))
    one = 0 if options.loss == "softmax" else round(scale.levels * 2 / n * 2**shift)
    return ErrorPopulation(
        loss=options.loss, levels=scale.levels, multiplier=round(per_lsb * 2**shift), shift=shift, one=one, delay=delay, seed=options.seed
    )


def _gain(folded: Linear, captured: Graph) -> float:
    """The constant that was folded into the layer's weights."""
    before = captured.by_name.get(folded.name)
    if not isinstance(before, Linear) or before.weight.shape != folded.weight.shape:
        raise fail(
            "SNN811", f"'{folded.name}' was merged with the pooling or the layer before it: its weights are not the trained layer's",
            loc=folded.loc, help="let the layer read the spikes of a population directly",
        )  # fmt: skip
    at = np.abs(before.weight) > 1e-9 * np.abs(before.weight).max(initial=0)
    ratio = folded.weight[at] / before.weight[at]
    if not ratio.size:
        return 1.0
    if np.ptp(ratio) > 1e-6 * abs(ratio[0]):
        raise fail(
            "SNN811", f"the inputs of '{folded.name}' have gains from {ratio.min():.4g} to {ratio.max():.4g}; one learning rate serves all",
            loc=folded.loc,
        )  # fmt: skip
    return float(np.median(ratio))


def _leak(method: Method, options: LearnOptions, float_graph: Graph, source: IntNeuron) -> float:
    if not method.trace:
        return 0.0
    if options.leak is not None:
        return options.leak
    neuron = float_graph.by_name[source.name]
    assert isinstance(neuron, Neuron)
    values: Array = np.asarray(neuron.leak, dtype=np.float64)
    if np.ptp(values) > 1e-9 or not 0 <= float(values.reshape(-1)[0]) < 1:
        raise fail(
            "SNN811", f"'{source.name}' leaks by {values.min():.4g} to {values.max():.4g}; a trace has one decay below 1", loc=neuron.loc,
            help="give the trace's decay: --trace-leak 0.5",
        )  # fmt: skip
    return float(values.reshape(-1)[0])


def _check(options: LearnOptions) -> None:
    good: dict[str, Any] = {
        "loss": options.loss in LOSSES, "rate": options.rate > 0, "headroom": options.headroom >= 1, "carry": 0 < options.carry < 1,
        "leak": options.leak is None or 0 <= options.leak < 1, "seed": 0 <= options.seed < 2**31,
    }  # fmt: skip
    ways = {"loss": f"choose from {', '.join(LOSSES)}", "rate": "give a positive number", "headroom": "give 1 or more"}
    for name, ok in good.items():
        if not ok:
            way = ways.get(name, "give a number from 0 to below 1" if name in ("leak", "carry") else "give a number from 0 to below 2**31")
            raise fail("SNN810", f"learning has no {name} {getattr(options, name)!r}", help=way)


def _notes(options: LearnOptions, scale: Scale) -> tuple[str, ...]:
    notes = [f"weights are clipped beyond {options.headroom:g} times the largest trained weight"]
    if options.loss == "mse":
        notes.append("errors beyond 1 are clipped")
    if scale.impulse < 4 and scale.tau:
        notes.append(f"at this rate a spike adds only {scale.impulse:.3g} to the trace: its rounding is noise")
    return tuple(notes)


__all__ = ["LearnOptions", "Plastic", "make_plastic"]

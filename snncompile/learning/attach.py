"""Make layers of a compiled network plastic: synapses that learn, a schedule with room for them, rules, error population and modulators."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from snncompile.errors import CompileError, fail
from snncompile.ir.graph import Array, Graph, Op
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.linear_ops import Linear
from snncompile.ir.neuron import Neuron
from snncompile.learning.chain import Link, find_chain
from snncompile.learning.error_population import LOSSES, OCTAVE_BITS, ErrorPopulation
from snncompile.learning.feedback import FEEDBACK, Feedback, feedback_levels, make_feedback
from snncompile.learning.lowering import enough_for, enough_of, lower_plastic
from snncompile.learning.method import Method, find_method
from snncompile.learning.modulator import ACTIVITY_TOP, Modulator
from snncompile.learning.program import LearningProgram, PlasticLayer
from snncompile.learning.psi import ENTRIES, PSI_TOP, Psi, parse_psi
from snncompile.learning.remainder import REST_BITS
from snncompile.learning.rule import Factor, Product, Rule, Trace
from snncompile.learning.scaling import Scale, scale_free, scale_plain, scale_traced
from snncompile.learning.timing import Timing, find_timing
from snncompile.learning.widths import Widths
from snncompile.mapping.schedule import Schedule
from snncompile.numerics import Format
from snncompile.quantize import QuantResult
from snncompile.target import Target

LEVEL_BITS = 6
LONGEST_REST = 4096
"""Idle model steps between two samples: beyond, a chip would rest nearly all the time."""
SEEDS = 16
"""Seeds of one layer: the engine takes four in a row for its traces, the populations one each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnOptions:
    """What to learn and how.

    layer     the plastic layer, or several          rule  ottt, sltt, osr, ndot, ltl     rate  eta of plain SGD on the loss averaged over T
    loss      softmax (cross-entropy) or mse
    headroom  how far a weight may move, in units of the largest of its neuron (of the layer's, for a readout), or that by population
    moved     by population, the changes (neurons, inputs) of the folded weights on a stream like the one to come, in the place of
              ``headroom``: what is learned can hold them, but for a little of their energy
    leak      decay of the traces per model step; by default that of the presynaptic neurons
    surrogate psi of hidden layers, kind:size; by default the rule's       feedback  random, or transpose: the readout's weights at first
    feedback_scale  root mean square of random feedback; by default that of the readout's weights
    warm, weight    ltl: the first step that learns, by default 3/4 of T; the local loss's coefficient C
    carry     what may be left of a sample's trace when the next sample begins
    seed      of all random numbers but Lava's own
    """

    layer: str | tuple[str, ...]
    rule: str = "ottt"
    rate: float = 0.01
    loss: str = "softmax"
    headroom: float | Mapping[str, float] = 1.5
    moved: Mapping[str, Array] = field(default_factory=dict)
    leak: float | None = None
    surrogate: str | None = None
    feedback: str = "random"
    feedback_scale: float | None = None
    warm: int | None = None
    weight: float = 1.0
    carry: float = 1 / 16
    seed: int = 1

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the plastic layers."""
        return (self.layer,) if isinstance(self.layer, str) else self.layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Plastic:
    """A network that learns on the chip: what replaces the compiled one's integers and schedule, and the learning program."""

    result: QuantResult
    schedule: Schedule
    program: LearningProgram


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A plastic layer before its scales: LSBs by neuron, float update per unit of modulator and trace, decay, membrane factor.

    A step of a third factor changes every neuron's weights by as many LSBs; ``portion`` of it, at most 1, is due to each, so that the
    change is right where LSBs or gains differ, and ``lsb`` is what an LSB is worth where it is 1.
    """

    link: Link
    change: str
    lsbs: Array
    lsb: float
    portion: Array
    step: float
    gain: float
    share: Array
    leak: float
    unit: float
    finer: float


def make_plastic(result: QuantResult, float_graph: Graph, captured: Graph, target: Target, options: LearnOptions) -> Plastic:
    """Attach learning to ``options.layer``.

    captured  the network before folding, from which the gain that was folded into a layer is read
    Errors    SNN801 target without learning; SNN805, SNN806 layer; SNN807 rule; SNN808 rate; SNN809 overflow; SNN810 loss or option;
              SNN811 a gain or leak that differs between the layer's inputs; SNN814 feedback that does not fit
    """
    method = find_method(options.rule)
    warm = _check(method, options, result.graph.steps)
    chain = find_chain(result.graph, options.layers)
    readout = chain[-1].population
    if len(chain[-1].synapse.weight) == 1 and options.loss == "softmax" and (chain[-1].plastic or not method.local):
        raise fail(
            "SNN810", f"'{readout.name}' has one output, whose softmax is always 1: there is no error to learn from", loc=readout.loc,
            help="use the mean-square error, --loss mse, or let hidden layers alone learn by their own errors, --rule ltl",
        )  # fmt: skip
    made = []
    for link in chain:
        if link.plastic:
            result, one = _lowered(result, link, (float_graph, captured), method, options, target)
            made.append(one)
    back = [] if method.local else [x for x in made if x.link.population is not readout]
    timing = find_timing(result.graph, [x.link for x in made], readout, traced=[x.leak > 0 for x in made], local=method.local)
    feedback = {x.link.population.name: make_feedback(_feedback_of(x, chain, float_graph), options, target, k) for k, x in enumerate(back)}
    fine = feedback_levels(feedback.values(), target, readout) if feedback else 0
    psi = parse_psi(options.surrogate or method.psi)
    layers, error, notes = [], None, []
    lowered = result.graph.by_name[readout.name]
    assert isinstance(lowered, IntNeuron)
    tops = [_top(x, psi, feedback.get(x.link.population.name), options, warm if method.local else None) for x in made]
    scales = _scales(made, tops, timing, target)
    for k, (x, top, scale) in enumerate(zip(made, tops, scales, strict=True)):
        neuron = result.graph.by_name[x.link.population.name]
        assert isinstance(neuron, IntNeuron)
        seed = options.seed + SEEDS * (len(made) - 1 - k)
        if x.link.population is readout:
            error = _error(options, scale.levels, timing.delay[k], lowered, target, fine=fine, warm=warm if method.local else None)
            layers.append(_layer(x, scale, timing, k, seed))
        else:
            given = feedback.get(neuron.name)
            wanted = x.step * top / (x.lsb * (timing.left(x.leak, k)))
            modulator = replace(_modulator(
                psi, x, neuron, scale, given, wanted, options, fine=fine, warm=warm, steps=result.graph.steps, target=target
            ), delay=timing.delay[k], seed=seed)  # fmt: skip
            layer = _layer(x, scale, timing, k, seed)
            layers.append(replace(
                layer, psi=psi, unit=x.unit, modulator=modulator, feedback_lsb=0.0 if given is None else given.lsb,
                feedback_seed=None if given is None else given.seed,
            ))  # fmt: skip
        layers[-1].rule.check(target)
        notes += [n for n in _notes(options, scale, x, target) if n not in notes]
    if error is None:
        error = _error(options, fine or 1, 1, lowered, target, fine=fine, warm=warm if method.local else None)
    leaks = [x.leak for x in layers if x.leak > 0]
    rest = max([0, *(math.ceil(math.log(options.carry) / math.log(leak)) - 1 for leak in leaks)])
    if rest > LONGEST_REST:
        raise fail(
            "SNN811", f"a trace that decays by {max(leaks):.9g} a step takes {rest} idle model steps to fade between samples",
            loc=readout.loc, notes=(f"at most {LONGEST_REST} are scheduled",),
            help="choose a faster trace, --trace-leak 0.9, or a rule without one, --rule sltt",
        )  # fmt: skip
    program = LearningProgram(
        method=method.name, source=made[0].link.source.name, readout=readout.name, layers=tuple(layers), error=error, rate=options.rate,
        rest=rest, equation=method.equation_of(hidden=bool(len(layers) > 1 or layers[0].modulator)), exact=method.exact_of(bool(back)),
        approximated=(*method.approximated_of(bool(back)), *notes),
    )  # fmt: skip
    return Plastic(result=result, schedule=timing.schedule, program=program)


def _lowered(
    result: QuantResult, link: Link, graphs: tuple[Graph, Graph], method: Method, options: LearnOptions, target: Target
) -> tuple[QuantResult, _Made]:
    """The integers of one plastic layer with room to learn, and its float scales."""
    float_graph, captured = graphs
    folded, trained = float_graph.by_name[link.synapse.name], float_graph.by_name[link.population.name]
    assert isinstance(folded, Linear)
    assert isinstance(trained, Neuron)
    hidden = link.population.fire != "none"
    per_spike = float(link.source.lsb.reshape(-1)[0]) if isinstance(link.source, IntInput) else 1.0
    weight, gains = folded.weight * per_spike, _gain(folded, captured, hidden=hidden) * per_spike
    gain = float(np.abs(gains).max())
    unit = _unit(trained, captured) if hidden else 1.0
    moved = options.moved.get(link.population.name)
    enough = enough_of(weight, _headroom(options, link)) if moved is None else enough_for(moved)
    lowered = lower_plastic(result, link, trained, enough=enough, target=target)
    step = options.rate * gain**2 * unit / result.graph.steps
    if method.local:
        step = options.rate * gain**2 * unit * (2 * options.weight / len(folded.weight) if hidden else 1)
    share = (gains / gain) ** 2
    portion = share / lowered.lsb
    made = _Made(
        link=link, change=lowered.change, lsbs=lowered.lsb, lsb=1 / float(portion.max()), portion=portion / portion.max(),
        finer=lowered.finer, step=step, gain=gain, share=share, leak=_leak(method, options, float_graph, link.source), unit=unit,
    )  # fmt: skip
    return lowered.result, made


def _headroom(options: LearnOptions, link: Link) -> float:
    given = options.headroom
    return given if isinstance(given, float | int) else given[link.population.name]


def _top(x: _Made, psi: Psi, given: Feedback | None, options: LearnOptions, warm: int | None) -> float:
    """The largest third factor of a layer; ``warm`` is None without a local rule."""
    most = 1.0 if warm is None else 1 / (warm + 1)
    if x.link.population.fire == "none":
        return most
    return psi.peak * (most if given is None else given.largest(options.loss) * given.lsb)


def _scales(made: Sequence[_Made], tops: Sequence[float], timing: Timing, target: Target) -> list[Scale]:
    """The engine's numbers of every layer; what is wrong with any of them is said at once, by layer."""
    found, problems = [], []
    for k, (x, top) in enumerate(zip(made, tops, strict=True)):
        step, interval = x.step * top, timing.schedule.initiation_interval
        try:
            if x.leak > 0:
                found.append(scale_traced(step, x.lsb, x.leak, interval, timing.lag[k] - 1, target, x.finer))
            else:
                scale = scale_plain if x.link.population.fire == "none" else scale_free
                found.append(scale(step, x.lsb, target, x.finer))
        except CompileError as error:
            problems += [replace(d, message=f"'{x.link.synapse.name}': {d.message}", loc=x.link.synapse.loc) for d in error.diagnostics]
    if problems:
        raise CompileError(problems)
    return found


def _layer(x: _Made, scale: Scale, timing: Timing, k: int, seed: int) -> PlasticLayer:
    rule = _rule(scale, 1 if x.leak > 0 else timing.schedule.initiation_interval, seed, traced=x.leak > 0)
    return PlasticLayer(
        synapse=x.link.synapse.name, change=x.change, population=x.link.population.name, source=x.link.source.name, rule=rule,
        step=x.step, gain=x.gain, share=tuple(x.share.tolist()),
        leak=x.leak, lsb=tuple(x.lsbs.tolist()), lag=timing.lag[k],
    )  # fmt: skip


def _rule(scale: Scale, epoch: int, seed: int, *, traced: bool) -> Rule:
    """``w -= x1 * y1`` for positive errors and ``w += x1 * y2`` for negative ones: a third factor has no sign on the chip."""
    condition, pre = ("u", (Factor("x1"),)) if traced else ("x0", ())
    products = tuple(
        Product(condition, sign * scale.mantissa, scale.exponent, (*pre, Factor(port))) for sign, port in ((-1, "y1"), (1, "y2"))
    )
    return Rule(dw=products, x1=Trace(scale.stored_impulse, scale.tau) if traced else Trace(), epoch=epoch, seed=seed)


def _modulator(
    psi: Psi, x: _Made, neuron: IntNeuron, scale: Scale, given: Feedback | None, wanted: float, options: LearnOptions, target: Target, *,
    fine: int, warm: int, steps: int,
) -> Modulator:  # fmt: skip
    """The integers of a hidden layer's modulator; ``wanted`` is the update in weight LSBs that the largest error stands for."""
    per_lsb = ENTRIES * x.unit / psi.reach * np.asarray(neuron.v_scale, dtype=np.float64).reshape(-1)
    shift = _shift(float(per_lsb.max()), target.multiplier)
    table, numbers = psi.table(), _whole(per_lsb, shift)
    if given is None:
        power = _local_shift(warm, steps)
        return Modulator(
            kind="local", levels=scale.levels, psi=table, psi_multiplier=numbers, psi_shift=shift, warm=warm,
            multiplier=_whole(wanted / scale.unit * x.portion, power), shift=power,
        )  # fmt: skip
    per_unit = scale.levels * (wanted / scale.unit) / (fine * PSI_TOP * given.largest(options.loss))
    power = _shift(per_unit, target.multiplier)
    return Modulator(
        kind="feedback", levels=scale.levels, psi=table, psi_multiplier=numbers, psi_shift=shift, feedback=given.rows,
        multiplier=_whole(per_unit * x.portion, power), shift=power,
    )  # fmt: skip


def _whole(values: Array, power: int) -> tuple[int, ...]:
    return tuple(int(v) for v in np.rint(values * 2.0**power))


def _local_shift(warm: int, steps: int) -> int:
    """Fraction bits of a local modulator's multiplier: at most 10, and as many as a product of 62 bits leaves."""
    largest = ACTIVITY_TOP * PSI_TOP * steps * steps * (warm + 1) * 2**LEVEL_BITS
    return max(0, min(10, 62 - REST_BITS - math.ceil(math.log2(largest))))


def _shift(value: float, form: Format) -> int:
    """The largest power of two, at most 40, by which ``value`` can be multiplied and still fit."""
    return max(0, min(40, math.floor(math.log2(form.high / value))))


def _error(
    options: LearnOptions, levels: int, delay: int, neuron: IntNeuron, target: Target, *, fine: int, warm: int | None
) -> ErrorPopulation:
    lsb, n = float(neuron.out_scale.reshape(-1)[0]), math.prod(neuron.v_init.shape)
    per_lsb = 2**OCTAVE_BITS * math.log2(math.e) * lsb if options.loss == "softmax" else levels * 2 / n * lsb
    shift = _shift(per_lsb, target.multiplier)
    one = 0 if options.loss == "softmax" else round(levels * 2 / n * 2**shift)
    return ErrorPopulation(
        loss=options.loss if warm is None else "mean", levels=levels, multiplier=round(per_lsb * 2**shift), shift=shift, one=one,
        delay=delay, seed=options.seed, fine=fine if options.loss == "softmax" else fine // levels * levels, warm=warm or 0,
    )  # fmt: skip


def _feedback_of(x: _Made, chain: tuple[Link, ...], float_graph: Graph) -> tuple[Link, Array, bool]:
    """The layer, the readout's float weights, and whether the readout reads this layer."""
    last = float_graph.by_name[chain[-1].synapse.name]
    assert isinstance(last, Linear)
    return x.link, last.weight, chain[-1].source.name == x.link.population.name


def _unit(trained: Neuron, captured: Graph) -> float:
    """What a membrane of the folded layer is multiplied by to be the trained one's: the thresholds tell."""
    before = captured.by_name.get(trained.name)
    if not isinstance(before, Neuron) or not np.all(trained.theta):
        return 1.0
    ratio = np.asarray(before.theta / trained.theta)
    if np.ptp(ratio) > 1e-6 * abs(float(ratio.reshape(-1)[0])):
        raise fail(
            "SNN811", f"thresholds of '{trained.name}' were scaled by {ratio.min():.4g} to {ratio.max():.4g}; one learning rate serves all",
            loc=trained.loc,
        )  # fmt: skip
    return float(ratio.reshape(-1)[0])


def _gain(folded: Linear, captured: Graph, *, hidden: bool) -> Array:
    """The constants that were folded into the layer's weights: one for all, or (hidden layers) one a neuron, as a norm has them."""
    before = captured.by_name.get(folded.name)
    if not isinstance(before, Linear) or before.weight.shape != folded.weight.shape:
        raise fail(
            "SNN811", f"'{folded.name}' was merged with the pooling or the layer before it: its weights are not the trained layer's",
            loc=folded.loc, help="let the layer read the spikes of a population directly",
        )  # fmt: skip
    at = np.abs(before.weight) > 1e-9 * np.abs(before.weight).max(initial=0)
    ratio = np.where(at, folded.weight / np.where(at, before.weight, 1.0), np.nan)
    rows = ratio[at.any(axis=1)]
    if not rows.size:
        return np.ones(1)
    low, high = np.nanmin(rows, axis=1), np.nanmax(rows, axis=1)
    if np.any(high - low > 1e-6 * np.abs(high)):
        worst = int((high - low).argmax())
        raise fail(
            "SNN811", f"the inputs of '{folded.name}' have gains from {low[worst]:.4g} to {high[worst]:.4g}; one learning rate serves all",
            loc=folded.loc,
        )  # fmt: skip
    if np.ptp(high) <= 1e-6 * np.abs(high).max():
        return np.array([float(np.median(high))])
    if not hidden:
        raise fail(
            "SNN811", f"the outputs of '{folded.name}' have gains from {high.min():.4g} to {high.max():.4g}; one learning rate serves all",
            loc=folded.loc,
        )  # fmt: skip
    gains = np.zeros(len(ratio))
    gains[at.any(axis=1)] = high
    return gains


def _leak(method: Method, options: LearnOptions, float_graph: Graph, source: Op) -> float:
    if not method.trace:
        return 0.0
    if options.leak is not None:
        return options.leak
    if isinstance(source, IntInput):
        return 0.0  # the rules keep no trace of an input
    neuron = float_graph.by_name[source.name]
    if not isinstance(neuron, Neuron):
        raise fail(
            "SNN811", f"'{source.name}' has no leak that a trace could take over", loc=source.loc,
            help="give the trace's decay: --trace-leak 0.5",
        )  # fmt: skip
    values: Array = np.asarray(neuron.leak, dtype=np.float64)
    if np.ptp(values) > 1e-9 or not 0 <= float(values.reshape(-1)[0]) < 1:
        raise fail(
            "SNN811", f"'{source.name}' leaks by {values.min():.4g} to {values.max():.4g}; a trace has one decay below 1", loc=neuron.loc,
            help="give the trace's decay: --trace-leak 0.5",
        )  # fmt: skip
    return float(values.reshape(-1)[0])


def _check(method: Method, options: LearnOptions, steps: int) -> int:
    """Refuse senseless options (SNN810); the first model step that learns, 0 but for local rules."""
    rooms = [options.headroom] if isinstance(options.headroom, float | int) else list(options.headroom.values())
    scale, whole = options.feedback_scale, "give a number from 0 to below 1"
    losses = ("softmax",) if method.local else LOSSES
    good: dict[str, tuple[object, bool, str]] = {
        "layer": (None, bool(options.layers), "name one or more layers"),
        "loss": (options.loss, options.loss in losses, f"choose from {', '.join(losses)}"),
        "rate": (options.rate, 0 < options.rate < math.inf, "give a positive number"),
        "headroom": (min(rooms, default=1), all(0 < h < math.inf for h in rooms), "give a positive number"),
        "carry": (options.carry, 0 < options.carry < 1, whole),
        "leak": (options.leak, options.leak is None or 0 <= options.leak < 1, whole),
        "feedback": (options.feedback, options.feedback in FEEDBACK, f"choose from {', '.join(FEEDBACK)}"),
        "feedback scale": (scale, scale is None or 0 < scale < math.inf, "give a positive number"),
        "first step": (options.warm, options.warm is None or 0 <= options.warm < steps, f"give a step from 0 to {steps - 1}"),
        "weight": (options.weight, 0 < options.weight < math.inf, "give a positive number"),
        "seed": (options.seed, 0 <= options.seed < 2**31 - 2**16, "give a number from 0 to below 2**31 - 2**16"),
    }  # fmt: skip
    for name, (value, ok, way) in good.items():
        if not ok:
            raise fail("SNN810", f"learning has no {name} {value!r}", help=way)
    if not method.local:
        return 0
    return steps * 3 // 4 if options.warm is None else options.warm


def _notes(options: LearnOptions, scale: Scale, x: _Made, target: Target) -> tuple[str, ...]:
    name = x.link.synapse.name
    most = x.lsbs * (2 ** Widths.of(target).weight - 1)
    span = f"{most.min():.3g}" if np.ptp(most) == 0 else f"{most.min():.3g} to {most.max():.3g}, by neuron"
    notes = [f"what '{name}' learns is clipped where a weight has moved by {span}"]
    if options.loss == "mse":
        notes.append("errors beyond 1 are clipped")
    if scale.impulse < 4 and scale.tau:
        notes.append(f"at this rate a spike adds only {scale.impulse:.3g} to the trace of '{name}': its rounding is noise")
    return tuple(notes)


__all__ = ["LearnOptions", "Plastic", "make_plastic"]

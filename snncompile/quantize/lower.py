"""One float population to one integer population: scales, integers, bounds, and the proof that nothing was rounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from snncompile.errors import CompileError, Diagnostic
from snncompile.ir.graph import Array, Shape
from snncompile.ir.integer import IntNeuron
from snncompile.ir.neuron import Fire, Neuron, Reset
from snncompile.ir.population import FLOAT_POPULATIONS
from snncompile.numerics import Format, Interval, few_levels
from snncompile.quantize.admit import decay_codes, has_gain
from snncompile.quantize.background import Blank, counts, settle, silence
from snncompile.quantize.blank import summed
from snncompile.quantize.bounds import Bounds, population_bounds
from snncompile.quantize.compensate import ON_GRID
from snncompile.quantize.constants import aligned, by_channel, channel_theta, constants_fit, integers, on_lattice
from snncompile.quantize.graded import Graded, fixed_point, scale_output
from snncompile.quantize.lattice import Factors, Lattices, guard_bits_needed, missing_bits
from snncompile.quantize.options import Adapted, Options, PopulationReport
from snncompile.quantize.payload import Incoming, accumulator_bound, connections, offset_map
from snncompile.quantize.planes import planes, widest
from snncompile.quantize.rounding import Hearing, nearest, square_error
from snncompile.quantize.scales import Magnitudes, Scales, choose, choose_gained, coarsened, magnitudes
from snncompile.target import Target

TRIALS, MOST_TRIALS = 3 * 10**8, 512
"""How many scales are tried for what is heard: as many as take this many multiplications, and no more than these."""
COARSEST = 0.15
"""The largest relative rounding of a port's weights (some 4 bits) for the sake of a proof that nothing overflows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """A population to lower. ``neuron`` is normalised (``admit.normalise``); ``graded`` says what a graded output must be like.

    ``heard`` holds, per port, what its synapse hears on calibration data, None where there is none; ``blank`` what arrives on a blank
    sample. ``fine_names`` are those of second synapses, per port; without them weights have the target's bits at most.
    """

    neuron: Neuron
    ports: list[Incoming]
    heard: list[Hearing | None]
    blank: Blank
    shape: Shape
    steps: int
    graded: Graded | None
    target: Target
    options: Options
    fine_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Lowered:
    """The integer population, its weights and their exponents per port, and what is proved; in ``neuron`` a port may be two synapses."""

    neuron: IntNeuron
    weights: list[Array]
    exponents: tuple[int, ...]
    report: PopulationReport
    payload: tuple[int, int]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Plan:
    """A job with weights of one width: what all attempts share."""

    job: Job
    width: int
    measured: Magnitudes
    codes: dict[str, Array | None]
    need: int
    coarse: int = 0

    @cached_property
    def theta(self) -> Array:
        return channel_theta(self.job.neuron, self.job.shape)

    @cached_property
    def largest_gain(self) -> Array:
        return by_channel(self.job.neuron.gain, self.job.shape)

    @cached_property
    def constants(self) -> Array:
        """The largest bias and initial membrane per channel."""
        n, shape = self.job.neuron, self.job.shape
        return np.asarray(np.maximum(by_channel(n.bias, shape), by_channel(n.v_init[None], shape)))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Attempt:
    """Everything for F guard bits and integers on multiples of 2**lattice, and whether that fits."""

    plan: _Plan
    f: int
    lattice: int
    neuron: IntNeuron
    weights: list[Array]
    accumulators: list[Interval]
    scales: Scales
    bounds: Bounds
    inexact: str
    fits: bool


def lower(job: Job) -> Lowered:
    """Lower one population; raises CompileError SNN302 if no guard bits at all still overflow."""
    bits = job.target.weight.bits
    single = min(job.options.weight_bits, bits)
    one = _chosen(job, range(single, 1 if job.options.pursue_exact == "always" else single - 1, -1))
    assert one is not None
    errors = _weight_errors(job, one)
    if one.plan.coarse or _relative(errors) < 0.5 ** (widest(bits) + 1):  # that is less than two synapses could resolve
        return _finish(one)
    two = _chosen(job, range(job.options.weight_bits if job.fine_names else single, single, -1), last=False)
    if two is not None and (one.inexact or not two.inexact) and _error(_weight_errors(job, two)) < _error(errors):
        return _finish(two)
    return _finish(one)


def _chosen(job: Job, widths: range, *, last: bool = True) -> _Attempt | None:
    """The attempt of the first width that is exact, or else of the first that fits; None if none does.

    ``last``: rather than none, weights on a coarser grid, or the error of the last width.
    """
    n, target = job.neuron, job.target
    codes = {
        "leak": np.zeros(1, dtype=np.int64) if n.reset is Reset.STATELESS else decay_codes(n.leak, target),
        **{k: None if (x := getattr(n, k)) is None else decay_codes(x, target) for k in ("alpha", "reset_keep", "adapt_decay")},
    }
    leak = codes["leak"]
    assert leak is not None
    f = Factors(leak, codes["alpha"], target.decay_fraction, n.late_current, codes["reset_keep"])
    need = guard_bits_needed(f, n.reset, job.steps, starts_at_zero=not np.any(n.v_init))
    hopeless = _inexact_factors(job, codes)
    widths = widths[:1] if hopeless and last else widths
    fallback: _Attempt | None = None
    for width in widths:
        plan = _Plan(job, width, magnitudes(job.ports, 2 ** (width - 1) - 1), codes, need)
        base = _attempt(plan, 0, 0)
        if job.graded is not None and job.graded.lsb is None:  # from here on the payload's LSB is known
            lsb, high = float(base.neuron.out_scale), base.neuron.payload_max
            job = replace(job, graded=replace(job.graded, low=-high if job.graded.low else 0, high=high, lsb=lsb))
            plan = replace(plan, job=job)
            base = _attempt(plan, 0, 0)
        if not base.fits:
            if last and fallback is None and width == widths[-1]:
                coarse = _coarser(plan)
                if coarse is None:
                    raise _overflow(job, base)
                return coarse
            continue
        room = _room(job, base)
        if not hopeless and room >= need:
            best = _largest(plan, room, need)
            if best is not None and not best.inexact:
                return best
        if fallback is None:
            fallback = _largest(plan, room, 0) or base
        if hopeless:
            break
    return fallback


def _largest(plan: _Plan, room: int, lattice: int) -> _Attempt | None:
    """The attempt with the most guard bits, at least those of the lattice, whose bounds fit."""
    for f in range(room, lattice - 1, -1):
        attempt = _attempt(plan, f, lattice)
        if attempt.fits:
            return attempt
    return None


def _room(job: Job, base: _Attempt) -> int:
    """How many guard bits may fit, by the bounds without any."""
    n = job.neuron
    peak = base.bounds.scaled_peak if has_gain(n) else base.bounds.peak
    return max(0, int(np.log2(max(1, job.target.membrane.high / max(1, peak)))) + 1)


def _coarser(plan: _Plan) -> _Attempt | None:
    """The attempt whose weight LSB is coarser by the smallest power of two that fits; None if the weights would lose too much.

    Only for what hears graded payloads of a population, whose resolution was chosen here, as is the weights' behind it; or graded
    payloads beside other ports, whose grids were chosen for each other.
    """
    graded = [p for p in plan.job.ports if p.payload.high > 1]
    if not any(isinstance(p.port.source, FLOAT_POPULATIONS) or len(plan.job.ports) > 1 for p in graded):
        return None
    for coarse in range(1, plan.width + 8):
        candidate = replace(plan, measured=coarsened(plan.measured, coarse), coarse=coarse)
        base = _attempt(candidate, 0, 0)
        if _relative(_weight_errors(plan.job, base)) > COARSEST:
            return None
        if base.fits:
            return _largest(candidate, _room(plan.job, base), 0) or base
    return None


def _attempt(plan: _Plan, f: int, lattice: int, measured: Magnitudes | None = None) -> _Attempt:
    """Everything for F guard bits and integers on multiples of 2**G; ``measured``: weights follow what is heard."""
    job, width = plan.job, plan.width
    n, target, ndim = job.neuron, job.target, len(job.shape)
    codes, gained = 2 ** (width - 1) - 1, has_gain(n)
    scales = _scales(plan, f, lattice, measured or plan.measured)
    weights, accumulators = [], []
    column = (-1,) + (1,) * (ndim - 1)
    lsb = scales.lsb.reshape(column)
    bias = aligned(n.bias, ndim) / lsb
    i_scale = (scales.sigma * 2.0**-scales.extra).reshape(column)
    ratio = aligned(n.gain, ndim) * i_scale / lsb if gained else np.ones((1,) * (ndim + 1))
    gain, gain_shift = fixed_point(ratio, target.gain) if gained else (None, None)
    inputs, exponents = [], []
    for k, (p, heard, delta, e) in enumerate(zip(job.ports, job.heard, scales.deltas, scales.exponents, strict=True)):
        unit = scales.sigma * 2.0**delta
        q = nearest(p, unit, codes) if heard is None or measured is None else heard.rounded(unit, codes)
        weights.append(q)
        for plane, shift in planes(q, target.weight.bits):
            inputs.append(job.fine_names[k] if p.port.synapse.name in inputs else p.port.synapse.name)
            exponents.append(e + shift)
            accumulators.append(accumulator_bound(p.port.synapse, plane, p.payload, ndim))
        if p.zero is not None:
            bias = bias + offset_map(p.port.synapse, q, p.zero)[None] * 2.0**e * ratio
    constants = integers(n, job.graded, job.shape, lsb=lsb, lattice=lattice, limit=target.membrane.high)
    decays: dict[str, Any] = {key: None if x is None else aligned(x, ndim) for key, x in plan.codes.items()}
    neuron = IntNeuron(
        name=n.name, inputs=tuple(inputs), loc=n.loc, origin=n.origin,
        fire={Fire.RELU: "relu", Fire.NONE: "none"}.get(n.fire, "step"), reset=n.reset, exponents=tuple(exponents),
        decay_bits=target.decay_fraction, bias=on_lattice(bias, lattice), late_current=n.late_current, gain=gain, gain_shift=gain_shift,
        v_scale=lsb, i_scale=i_scale if gained else None, out_scale=lsb if n.fire is Fire.NONE else np.ones(()),
        **constants.fields, **decays,
    )  # fmt: skip
    bounds = population_bounds(neuron, accumulators, job.steps)
    if job.graded is not None:
        neuron, bounds = scale_output(job.graded, neuron, bounds, accumulators=accumulators, steps=job.steps, target=target)
    fits = bounds.fits(target.accumulator, target.membrane) and constants_fit(neuron, target) and target.payload.fits(bounds.payload)
    fits &= constants.never is None or bounds.membrane[1] < constants.never
    inexact = constants.misses or rounds(job, neuron, f, plan.need)
    return _Attempt(
        plan=plan, f=f, lattice=lattice, neuron=neuron, weights=weights, accumulators=accumulators, scales=scales, bounds=bounds,
        inexact=inexact, fits=fits,
    )  # fmt: skip


def _scales(plan: _Plan, f: int, lattice: int, measured: Magnitudes) -> Scales:
    """The scales for F guard bits and integers on multiples of 2**G."""
    job, codes = plan.job, 2 ** (plan.width - 1) - 1
    if has_gain(job.neuron):
        unit, guard = _gained_unit(job, plan.theta, f)
        return choose_gained(measured, unit, plan.largest_gain, codes=codes, guard_bits=guard, widest=job.target.gain.high)
    return choose(
        measured, plan.theta, codes=codes, guard_bits=f, lattice=lattice, shared=_compared(job), constants=plan.constants,
        output=None if np.any(measured.grid) else _output(job),
    )  # fmt: skip


def _compared(job: Job) -> bool:
    """Whether channels are compared with each other, so that they share one scale."""
    return job.neuron.fire is Fire.NONE and job.graded is None


def _gained_unit(job: Job, theta: Array, f: int) -> tuple[Array, int]:
    """What 2**F membrane LSBs are worth where the input has a gain, and F: a payload's grid, or the threshold.

    A relay's membrane counts payload LSBs, so that its value is rounded once and not twice.
    """
    n, g = job.neuron, job.graded
    if n.fire is Fire.NONE and n.reset is Reset.STATELESS and g is not None and g.lsb is not None:
        return np.full_like(theta, g.lsb), 0
    return (np.full_like(theta, n.grid) if n.grid else theta), f


def _output(job: Job) -> tuple[float, Format] | None:
    """Payload LSB and multiplier format where the output decides the scale: no trained grid, and no threshold to keep."""
    g, n = job.graded, job.neuron
    counts = g is not None and n.reset is Reset.STATELESS and not np.any(n.theta) and n.fire is Fire.RELU
    if g is None or g.lsb is None or n.grid or counts or (n.fire is Fire.RELU and n.theta.shape[0] == 1):
        return None
    return g.lsb, job.target.multiplier


def _weight_errors(job: Job, a: _Attempt) -> list[tuple[float, float]]:
    """Per port, the sum of squares of the weights' rounding, and that of the weights."""
    found = []
    for p, q, delta in zip(job.ports, a.weights, a.scales.deltas, strict=True):
        error, power = square_error(p, q, a.scales.sigma * 2.0**delta)
        found.append((error, power))
    return found


def _relative(errors: list[tuple[float, float]]) -> float:
    """The largest root mean square of a port's rounding, relative to that of its weights."""
    return max((float(np.sqrt(error / (power or 1.0))) for error, power in errors), default=0.0)


def _error(errors: list[tuple[float, float]]) -> float:
    """The root mean square of all rounding, relative to that of all weights."""
    error, power = (sum(parts) for parts in zip(*errors, strict=True))
    return float(np.sqrt(error / power)) if power else 0.0


def _inexact_factors(job: Job, codes: Mapping[str, Array | None]) -> str:
    """Why no number of guard bits makes this population exact; empty if some might."""
    n, scale = job.neuron, 2.0**job.target.decay_fraction
    if has_gain(n):
        return "its input is multiplied by a rounded gain"
    labels = {"leak": "leak", "alpha": "current decay", "reset_keep": "part kept at a reset", "adapt_decay": "decay of its threshold"}
    for key, label in labels.items():
        real, code = getattr(n, key), codes[key]
        if code is None or (key == "leak" and n.reset is Reset.STATELESS):
            continue
        wanted, given = np.broadcast_arrays(aligned(real, len(job.shape)), aligned(code, len(job.shape)))
        off = np.abs(wanted * scale - given)
        if np.any(off):
            worst = float(wanted.reshape(-1)[off.argmax()])
            return f"{label} {worst:.6g} is not a multiple of 2**-{job.target.decay_fraction}"
        if key == "adapt_decay" and np.any(given % scale):
            return "its threshold decays in whole membrane LSBs"
    return ""


def rounds(job: Job, neuron: IntNeuron, guard_bits: int, need: int) -> str:
    """Why the integer dynamics round somewhere; empty if they provably never do."""
    codes = {"leak": neuron.leak, "alpha": neuron.alpha, "reset_keep": neuron.reset_keep, "adapt_decay": neuron.adapt_decay}
    reason = _inexact_factors(job, codes)
    if reason:
        return reason
    factors = Factors(neuron.leak, neuron.alpha, neuron.decay_bits, neuron.late_current, neuron.reset_keep)
    short = missing_bits(factors, neuron.reset, job.steps, Lattices.of(neuron))
    if not short:
        return ""
    if guard_bits < need:
        return f"its bounds leave {max(guard_bits, 0)} guard bits, {need} are needed for T = {job.steps}"
    return f"its constants do not lie on the multiples of 2**{need} that T = {job.steps} needs"


def _overflow(job: Job, base: _Attempt) -> CompileError:
    """The refusal, with the numbers and a width that would do."""
    b, target = base.bounds, job.target
    acc = max(abs(x) for pair in b.accumulators for x in pair)
    key, peak, limit = "membrane", b.peak, target.membrane.high
    if acc > target.accumulator.high:
        key, peak, limit = "accumulator", acc, target.accumulator.high
    constants = max(int(np.abs(getattr(base.neuron, k)).max()) for k in ("bias", "threshold", "reset_amount", "reset_value", "v_init"))
    if max(acc, b.peak) <= limit < constants:
        what = f"'{job.neuron.name}' holds a constant of {constants} membrane LSBs, beyond +-{limit}"
    else:
        what = f"'{job.neuron.name}' can reach {peak} {key} LSBs within T = {job.steps} steps, the {key} holds +-{limit}"
    drop = int(np.ceil(np.log2(max(peak, constants) / limit)))
    width = base.plan.width - drop
    way = f"quantise with weight_bits={width}" if width >= 2 else "train with smaller weights and biases, or a leak, or run fewer steps"
    notes = (target.cite(f"formats.{key}"), f"proved for every input; accumulators {b.accumulators}, membrane {b.membrane}")
    return CompileError(Diagnostic("SNN302", what, job.neuron.loc, notes, f"{way}, or give the input fewer bits (input_bits)"))


def _bits(q: Array, width: int, single: int) -> int:
    """Bits a weight takes: the width of the attempt; of one synapse, at most the target's, 1 if binary, 2 if ternary, or 4."""
    if len(planes(q, single)) > 1:
        return width
    found = few_levels(q)
    return min(single if found is None else found[0], width)


def _ceiling(job: Job, a: _Attempt) -> str:
    """What ends a graded output; see ``PopulationReport``."""
    n = a.neuron
    if n.fire != "relu" or n.multiplier is None or n.shift is None:
        return ""
    if job.graded is not None and job.graded.fixed:
        return "network"
    low, high = a.bounds.membrane
    ends = [Interval.of(np.asarray(low) - n.threshold, np.asarray(high) - n.threshold).scaled(n.multiplier, n.shift)]
    reached = all(int(i.high.max()) <= n.payload_max and (not n.payload_min or int(i.low.min()) >= n.payload_min) for i in ends)
    return "proved" if reached else "calibrated"


def _followed(a: _Attempt) -> _Attempt:
    """The attempt with weights rounded by what is heard: as many guard bits as its bounds leave, and exact if it was exact."""
    if all(heard is None for heard in a.plan.job.heard) or _relative(_weight_errors(a.plan.job, a)) < ON_GRID:
        return a
    measured = _tuned(a)
    for f in range(a.f, (a.lattice if not a.inexact else 0) - 1, -1):
        found = _attempt(a.plan, f, a.lattice if f >= a.lattice else 0, measured)
        if found.fits and (found.inexact == "" or a.inexact):
            return found
    return a


def _tuned(a: _Attempt) -> Magnitudes:
    """Scales by what is heard: of steps up to twice as coarse as the weights need, those that leave the least error of the current.

    A row of few weights has luck at some scale; with many, chances even out, and fewer scales are tried.
    """
    plan, codes = a.plan, 2 ** (a.plan.width - 1) - 1
    ports = [(heard, k) for k, heard in enumerate(plan.job.heard) if heard is not None]
    cost = sum(p.weight.size * (p.weight.size // len(p.weight)) for p in plan.job.ports)
    count = int(np.clip(TRIALS // max(1, cost), 1, MOST_TRIALS))
    if count == 1:
        return plan.measured
    factors = 2.0 ** (np.arange(count) / count)
    scales = [_scales(plan, a.f, a.lattice, replace(plan.measured, peak=plan.measured.peak * c)) for c in factors]
    error = np.zeros((count, len(plan.measured.peak)))
    for heard, port in ports:
        error += heard.errors(np.stack([s.sigma * 2.0 ** s.deltas[port] for s in scales]), codes)
    if _compared(plan.job):
        error = np.broadcast_to(error.sum(axis=1, keepdims=True), error.shape)
    best = np.argmin(error > error.min(axis=0) * (1 + 1e-9), axis=0)  # the first of the least
    return replace(plan.measured, peak=plan.measured.peak * factors[best])


def _settled(a: _Attempt) -> _Attempt:
    """The attempt with biases that fire like the network where there is nothing to see."""
    job = a.plan.job
    if not counts(job.neuron):
        return a
    if job.blank.arriving is None or job.blank.sent is None:
        total, sent = silence(job.neuron, a.neuron, job.steps, len(job.shape))
    else:
        total, sent = summed([p.port for p in job.ports], a.weights, a.scales.exponents, job.blank), job.blank.sent
    n = settle(job.neuron, a.neuron, total, sent, guard_bits=a.scales.guard_bits, lattice=None if a.inexact else a.lattice)
    bounds = population_bounds(n, a.accumulators, job.steps)
    fits = bounds.fits(job.target.accumulator, job.target.membrane) and constants_fit(n, job.target)
    return replace(a, neuron=n, bounds=bounds) if fits else a


def _finish(plain: _Attempt) -> Lowered:
    """The report of the chosen attempt, after its weights follow what is heard."""
    job = plain.plan.job
    a = _settled(_followed(plain))
    n, s = a.neuron, a.scales
    errors = _weight_errors(job, a)
    worst = _relative(errors)
    what = (
        f"'{n.name}': weights on a grid coarser by 2**{a.plan.coarse} than {a.plan.width} bits allow, because their sums could overflow"
        f" (rounding {worst:.2%} where it is worst)"
    )
    theta = channel_theta(job.neuron, job.shape)
    ratio = theta / s.sigma if n.fire == "step" or np.any(theta) else None
    doubled = [len(planes(q, job.target.weight.bits)) for q in a.weights]
    report = PopulationReport(
        name=n.name, neurons=prod(job.shape),
        synapses=sum(connections(p.port.synapse, job.shape) * parts for p, parts in zip(job.ports, doubled, strict=True)),
        weight_bits=max(_bits(q, a.plan.width, job.target.weight.bits) for q in a.weights),
        sigma=(float(s.sigma.min()), float(s.sigma.max())),
        steps_per_threshold=None if ratio is None else (float(ratio.min()), float(ratio.max())), guard_bits=s.guard_bits,
        exact=not a.inexact, reason=a.inexact, payload_lsb=float(n.out_scale.max()) if n.fire == "relu" else None,
        bounds=a.bounds.as_dict(), weight_error=_error(errors), ceiling=_ceiling(job, a),
        adapted=_adapted(plain, a),
    )  # fmt: skip
    return Lowered(
        neuron=n, weights=a.weights, exponents=s.exponents, report=report, payload=a.bounds.payload, notes=(what,) if a.plan.coarse else ()
    )  # fmt: skip


def _adapted(plain: _Attempt, a: _Attempt) -> Adapted | None:
    """What following the calibration data changed; None if nothing did."""
    if all(np.array_equal(x, y) for x, y in zip(plain.weights, a.weights, strict=True)):
        return None
    power = before = after = 0.0
    samples = 0
    for k, heard in enumerate(a.plan.job.heard):
        if heard is not None:
            was, now = ((x.weights[k], x.scales.sigma * 2.0 ** x.scales.deltas[k]) for x in (plain, a))
            before, after = before + float(heard.error(*was).sum()), after + float(heard.error(*now).sum())
            power, samples = power + float(heard.power().sum()), heard.samples
    if not power:
        return None
    return Adapted(samples=samples, before=float(np.sqrt(before / power)), after=float(np.sqrt(after / power)))


__all__ = ["Job", "Lowered", "lower", "rounds"]

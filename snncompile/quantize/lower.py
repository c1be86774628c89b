"""One float population to one integer population: scales, integers, bounds, and the proof that nothing was rounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from snncompile.errors import CompileError, Diagnostic
from snncompile.ir.graph import Array, Shape
from snncompile.ir.integer import IntNeuron
from snncompile.ir.neuron import Fire, Neuron, Reset
from snncompile.numerics import half_even, snap
from snncompile.quantize.bounds import Bounds, population_bounds
from snncompile.quantize.graded import Graded, scale_output
from snncompile.quantize.lattice import Factors, Lattices, guard_bits_needed, missing_bits
from snncompile.quantize.options import Options, PopulationReport
from snncompile.quantize.payload import Incoming, accumulator_bound, connections, offset_map
from snncompile.quantize.scales import Magnitudes, Scales, choose, magnitudes
from snncompile.target import Target


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """A population to lower. ``neuron`` is normalised (see ``normalise``); ``graded`` says what a graded output must be like."""

    neuron: Neuron
    ports: list[Incoming]
    shape: Shape
    steps: int
    graded: Graded | None
    target: Target
    options: Options


@dataclass(frozen=True, kw_only=True, eq=False)
class Lowered:
    """The integer population, its weights per port, and what is proved."""

    neuron: IntNeuron
    weights: list[Array]
    report: PopulationReport
    payload: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """A job with weights of one width: what all attempts share."""

    job: Job
    width: int
    measured: Magnitudes
    leak: Array
    alpha: Array | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Attempt:
    neuron: IntNeuron
    weights: list[Array]
    scales: Scales
    bounds: Bounds
    inexact: str
    weight_bits: int
    fits: bool


def normalise(n: Neuron) -> Neuron:
    """The same neuron with its reset in the form that integers keep: a clamp of spikes is a reset to the threshold."""
    if n.fire is Fire.RELU and n.reset is Reset.SUBTRACT and np.all(n.reset_amount == 1):
        return replace(n, reset=Reset.CLAMP)
    if n.fire is Fire.NONE and n.reset is Reset.SUBTRACT and np.all(n.reset_amount == 1):
        return replace(n, reset=Reset.STATELESS)
    if n.fire is Fire.NONE and n.reset is Reset.SUBTRACT and not np.any(n.reset_amount):
        return replace(n, reset=Reset.KEEP)
    if n.spiking and n.reset is Reset.CLAMP:
        return replace(n, reset=Reset.SET, reset_value=n.theta)
    return n


def refusals(n: Neuron, target: Target) -> Iterator[Diagnostic]:
    """Everything about a neuron that the target cannot do faithfully."""
    if n.gain.shape[0] > 1 or np.any(n.gain != 1):
        yield Diagnostic(
            "SNN304",
            f"'{n.name}' multiplies its input by a factor that {'changes from step to step' if n.gain.shape[0] > 1 else 'is not 1'}",
            n.loc, ("weights on the chip are constant, and a neuron has no multiplier for its input",),
            "fold the factor into leak, bias and threshold (Form B, possible where it is positive and spikes are binary)",
        )  # fmt: skip
    if n.fire.value not in target.fire or n.reset.value not in target.reset:
        help_ = f"{target.name} fires by {', '.join(sorted(target.fire))} and resets by {', '.join(sorted(target.reset))}"
        yield Diagnostic("SNN305", f"'{n.name}' fires by {n.fire.value} and resets by {n.reset.value}", n.loc, (), help_)
    if n.fire is Fire.NONE and n.reset is Reset.SUBTRACT:
        yield Diagnostic("SNN308", f"'{n.name}' subtracts a fraction of its own membrane from it", n.loc, (), "express it as a leak")
    factors = {"current decay": n.alpha} if n.reset is Reset.STATELESS else {"leak": n.leak, "current decay": n.alpha}
    for label, value in factors.items():
        if value is not None and not target.decay.fits(_decay_codes(value, target)):
            worst = float(value.reshape(-1)[np.abs(value).argmax()])
            limit = target.decay.high / 2**target.decay_fraction
            yield Diagnostic(
                "SNN303", f"'{n.name}': {label} {worst:g} lies outside -{limit:g}..{limit:g}", n.loc,
                (target.cite("formats.decay"),), "retrain with a smaller factor, or keep this layer on the host",
            )  # fmt: skip


def _decay_codes(value: Array, target: Target) -> Array:
    return half_even(value * 2.0**target.decay_fraction)


def lower(job: Job) -> Lowered:
    """Lower one population; raises CompileError SNN302 if no guard bits at all still overflow."""
    n, target = job.neuron, job.target
    bits = target.decay_fraction
    leak = np.zeros(1, dtype=np.int64) if n.reset is Reset.STATELESS else _decay_codes(n.leak, target)
    alpha = None if n.alpha is None else _decay_codes(n.alpha, target)
    f = Factors(leak, alpha, bits, n.late_current)
    need = guard_bits_needed(f, n.reset, job.steps, starts_at_zero=not np.any(n.v_init))
    hopeless = _inexact_factors(job, leak, alpha)
    widths = [job.options.weight_bits]
    if job.options.pursue_exact == "always" and not hopeless:
        widths = list(range(job.options.weight_bits, 1, -1))
    fallback: _Attempt | None = None
    for width in widths:
        plan = _Plan(job, width, magnitudes(job.ports, 2 ** (width - 1) - 1), leak, alpha)
        base = _attempt(plan, 0, 0)
        if not base.fits:
            if width == widths[-1] and fallback is None:
                raise _overflow(job, base)
            continue
        room = max(0, int(np.log2(max(1, target.membrane.high / max(1, base.bounds.peak)))) + 1)
        if not hopeless and room >= need:
            best = _largest(plan, room, need)
            if best is not None and not best.inexact:
                return _finish(job, best)
        if fallback is None:
            fallback = _largest(plan, room, 0) or base
    assert fallback is not None
    return _finish(job, fallback)


def _largest(plan: _Plan, room: int, lattice: int) -> _Attempt | None:
    """The attempt with the most guard bits, at least those of the lattice, whose bounds fit."""
    for f in range(room, lattice - 1, -1):
        attempt = _attempt(plan, f, lattice)
        if attempt.fits:
            return attempt
    return None


def _attempt(plan: _Plan, f: int, lattice: int) -> _Attempt:
    """Everything for F guard bits and integers on multiples of 2**G."""
    job, width, leak, alpha = plan.job, plan.width, plan.leak, plan.alpha
    n, target, ndim = job.neuron, job.target, len(job.shape)
    codes = 2 ** (width - 1) - 1
    scales = choose(
        plan.measured, _channel_theta(n, job.shape), codes=codes, guard_bits=f, lattice=lattice,
        shared=n.fire is Fire.NONE and job.graded is None, cap=target.membrane.high if f else target.membrane.high // 2,
    )  # fmt: skip
    weights, accumulators = [], []
    column = (-1,) + (1,) * (ndim - 1)
    lsb = scales.lsb.reshape(column)
    bias = _field(n.bias, ndim) / lsb
    for p, delta, e in zip(job.ports, scales.deltas, scales.exponents, strict=True):
        unit = (scales.sigma * 2.0**delta).reshape((-1,) + (1,) * (p.weight.ndim - 1))
        q = np.clip(half_even(p.weight / unit), -codes, codes)
        weights.append(q)
        accumulators.append(accumulator_bound(p.port.synapse, q, p.payload, ndim))
        if p.zero is not None:
            bias = bias + offset_map(p.port.synapse, q, p.zero)[None] * 2.0**e
    fields, misses = _integers(job, lsb, lattice)
    neuron = IntNeuron(
        name=n.name, inputs=tuple(p.port.synapse.name for p in job.ports), loc=n.loc, origin=n.origin,
        fire={Fire.RELU: "relu", Fire.NONE: "none"}.get(n.fire, "step"), reset=n.reset, exponents=scales.exponents,
        decay_bits=target.decay_fraction, leak=_field(leak, ndim), bias=_on_lattice(bias, lattice), alpha=None if alpha is None else _field(alpha, ndim),
        late_current=n.late_current, v_scale=lsb, out_scale=lsb if n.fire is Fire.NONE else np.ones(()), **fields,
    )  # fmt: skip
    bounds = population_bounds(neuron, accumulators, job.steps)
    if job.graded is not None:
        neuron, bounds = scale_output(
            job.graded, neuron, bounds, accumulators=accumulators, steps=job.steps, target=target
        )
    fits = bounds.fits(target.accumulator, target.membrane) and _constants_fit(neuron, target)
    inexact = misses or _rounds(job, neuron, f)
    return _Attempt(neuron=neuron, weights=weights, scales=scales, bounds=bounds, inexact=inexact, weight_bits=width, fits=fits)


def _integers(job: Job, lsb: Array, lattice: int) -> tuple[dict[str, Any], str]:
    """Threshold, reset and initial membrane as integers; and which of those that must be exact is not."""
    n, ndim = job.neuron, len(job.shape)
    misses = ""

    def place(label: str, values: Array) -> Array:
        nonlocal misses
        exact, whole = snap(values * 2.0**-lattice)
        if not np.all(whole):
            off = float(np.abs(values - half_even(exact) * 2.0**lattice).max())
            misses = misses or f"the {label} lies {off:.3g} membrane LSB off the integers"
        return half_even(exact) << lattice

    steps_to_theta, whole = snap(_field(n.theta, ndim) / lsb)
    if n.spiking:
        above = np.floor(steps_to_theta) + 1
        threshold = np.where(whole & (n.fire is Fire.STEP_GE), steps_to_theta, above).astype(np.int64)
    elif n.fire is Fire.NONE and n.reset is not Reset.CLAMP:
        threshold = np.zeros((1,) * (ndim + 1), dtype=np.int64)
    else:
        threshold = place("threshold", steps_to_theta) if n.reset is Reset.CLAMP else half_even(steps_to_theta)
    zero = np.zeros((1,) * (ndim + 1), dtype=np.int64)
    amount, value = zero, zero
    if n.reset is Reset.SUBTRACT and n.spiking:
        amount = place("reset amount", _field(n.reset_amount, ndim) / lsb)
    elif n.reset is Reset.SUBTRACT:
        unit = 1.0 if job.graded is None or job.graded.lsb is None else job.graded.lsb
        amount = half_even(_field(n.reset_amount, ndim) * unit / lsb)
        misses = "it is reset by its rounded graded output"
    elif n.reset is Reset.SET:
        value = place("reset value", _field(n.reset_value, ndim) / lsb)
        misses = misses or ("" if n.spiking or (n.fire is Fire.NONE and job.graded is None) else "it is reset where its rounded graded output is not 0")
    v_init = place("initial membrane", n.v_init.reshape((1,) * (ndim - n.v_init.ndim) + n.v_init.shape) / lsb)
    return {"threshold": threshold, "reset_amount": amount, "reset_value": value, "v_init": v_init}, misses


def _channel_theta(n: Neuron, shape: Shape) -> Array:
    """The magnitude per channel that scales are tied to: the threshold, else the reset amount or value."""
    candidates = [n.theta] if n.fire in (Fire.STEP_GE, Fire.STEP_GT, Fire.RELU) or n.reset is Reset.CLAMP else []
    candidates += {Reset.SUBTRACT: [n.reset_amount] if n.spiking else [], Reset.SET: [n.reset_value]}.get(n.reset, [])
    for values in candidates:
        if np.any(values):
            full = np.broadcast_to(np.abs(_field(values, len(shape))), (values.shape[0], *shape))
            return np.asarray(np.moveaxis(full, 1, 0).reshape(shape[0], -1).max(axis=1))
    return np.zeros(shape[0])


def _field(values: Array, ndim: int) -> Array:
    """A per-step field with all its axes: (1 | T, ...) with ``ndim`` axes after the first."""
    return values.reshape(values.shape[0], *(1,) * (ndim + 1 - values.ndim), *values.shape[1:])


def _on_lattice(values: Array, lattice: int) -> Array:
    """The nearest multiples of 2**G, per position only where positions differ."""
    q = half_even(values * 2.0**-lattice) << lattice
    for axis in range(2, q.ndim):
        if np.all(q == q.take([0], axis=axis)):
            q = q.take([0], axis=axis)
    return q


def _constants_fit(n: IntNeuron, target: Target) -> bool:
    """A step threshold out of reach is no overflow, but it must still be a number that the chip can hold."""
    values = (n.bias, n.threshold, n.reset_amount, n.reset_value, n.v_init)
    return all(target.membrane.fits(v) for v in values)


def _inexact_factors(job: Job, leak: Array, alpha: Array | None) -> str:
    """Why no number of guard bits makes this population exact; empty if some might."""
    n, scale = job.neuron, 2.0**job.target.decay_fraction
    pairs = [("leak", n.leak, leak)] if n.reset is not Reset.STATELESS else []
    if alpha is not None and n.alpha is not None:
        pairs.append(("current decay", n.alpha, alpha))
    for label, real, code in pairs:
        off = np.abs(real * scale - code)
        if np.any(off):
            worst = float(real.reshape(-1)[off.argmax()])
            return f"{label} {worst:.6g} is not a multiple of 2**-{job.target.decay_fraction}"
    return ""


def _rounds(job: Job, neuron: IntNeuron, f: int) -> str:
    """Why the integer dynamics round somewhere; empty if they provably never do."""
    reason = _inexact_factors(job, neuron.leak, neuron.alpha)
    if reason:
        return reason
    factors = Factors(neuron.leak, neuron.alpha, neuron.decay_bits, neuron.late_current)
    short = missing_bits(factors, neuron.reset, job.steps, Lattices.of(neuron))
    return f"its bounds leave {f} guard bits, T = {job.steps} needs {f + short}" if short else ""


def _overflow(job: Job, base: _Attempt) -> CompileError:
    """The refusal, with the numbers and a width that would do."""
    b, target = base.bounds, job.target
    acc = max(abs(x) for pair in b.accumulators for x in pair)
    key, peak, limit = ("accumulator", acc, target.accumulator.high) if acc > target.accumulator.high else ("membrane", b.peak, target.membrane.high)
    constants = max(int(np.abs(getattr(base.neuron, k)).max()) for k in ("bias", "threshold", "reset_amount", "reset_value", "v_init"))
    if max(acc, b.peak) <= limit < constants:
        what = f"'{job.neuron.name}' holds a constant of {constants} membrane LSBs, beyond +-{limit}"
    else:
        what = f"'{job.neuron.name}' can reach {peak} {key} LSBs within T = {job.steps} steps, the {key} holds +-{limit}"
    drop = int(np.ceil(np.log2(max(peak, constants) / limit)))
    width = base.weight_bits - drop
    way = f"quantise with weight_bits={width}" if width >= 2 else "train with smaller weights or a leak, or run fewer steps"
    notes = (target.cite(f"formats.{key}"), f"proved for every input; accumulators {b.accumulators}, membrane {b.membrane}")
    return CompileError(Diagnostic("SNN302", what, job.neuron.loc, notes, f"{way}, or give the input fewer bits (input_bits)"))


def _finish(job: Job, a: _Attempt) -> Lowered:
    """The report of the chosen attempt."""
    n, s = a.neuron, a.scales
    error = power = 0.0
    for p, q, delta in zip(job.ports, a.weights, s.deltas, strict=True):
        unit = (s.sigma * 2.0**delta).reshape((-1,) + (1,) * (q.ndim - 1))
        error += float(((q * unit - p.weight) ** 2).sum())
        power += float((p.weight**2).sum())
    theta = _channel_theta(job.neuron, job.shape)
    ratio = theta / s.sigma if n.fire == "step" or np.any(theta) else None
    report = PopulationReport(
        name=n.name, neurons=prod(job.shape), synapses=sum(connections(p.port.synapse, job.shape) for p in job.ports),
        weight_bits=a.weight_bits, sigma=(float(s.sigma.min()), float(s.sigma.max())),
        steps_per_threshold=None if ratio is None else (float(ratio.min()), float(ratio.max())), guard_bits=s.guard_bits,
        exact=not a.inexact, reason=a.inexact, payload_lsb=float(n.out_scale.max()) if n.fire == "relu" else None,
        bounds=a.bounds.as_dict(), weight_error=float(np.sqrt(error / power)) if power else 0.0,
    )  # fmt: skip
    return Lowered(neuron=n, weights=a.weights, report=report, payload=a.bounds.payload)


__all__ = ["Job", "Lowered", "lower", "normalise", "refusals"]

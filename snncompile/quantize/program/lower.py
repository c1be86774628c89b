"""One neuron program to integers: scales of its weights, LSBs of its registers, code, bounds, report.

Weights of a current: ``w[c, :] = sigma[c] * q[c, :]`` with ``sigma = gain * 2**-gain_shift * LSB of the current``, gain a whole number:
a weight's LSB is free, so it is chosen such that the chip's multiply-and-shift has it exactly. Wherever it can be, the shift is 0
and a current is not rounded at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from snncompile.errors import CompileError, Diagnostic
from snncompile.ir.graph import Array, Shape
from snncompile.ir.program import IntProgram, NeuronProgram
from snncompile.ir.program_code import FUNCTIONS
from snncompile.numerics import Interval, half_even
from snncompile.quantize.constants import aligned as _aligned
from snncompile.quantize.graded import Graded
from snncompile.quantize.options import Options, PopulationReport
from snncompile.quantize.payload import Incoming, accumulator_bound, connections, offset_map
from snncompile.quantize.program.bounds import ProgramBounds, program_bounds, saturated
from snncompile.quantize.program.fixed import MARGIN, Fixed, translate
from snncompile.quantize.program.ranges import Range, input_range, proved
from snncompile.quantize.scales import Magnitudes, magnitudes
from snncompile.target import Target

WIDER = 64.0
"""A proved range is used unless it is this many times what the calibration data reach: then the data and ``HEADROOM`` give it."""
HEADROOM = 8.0
NEAR, ATTEMPTS = 8.0, 5
EXPLODES = 2.0**14
"""Without calibration data, a range that many times the largest current or constant is as good as none: nothing would be resolved."""
FEWEST = 2**7
"""The smallest gain: below it, choosing a whole number would coarsen the weights."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ProgramJob:
    """A program to lower. ``currents`` has the ports of every current, ``seen`` the calibrated range of every register; ``finest`` is
    the smallest payload LSB that readers can add up, for the largest value that is sent."""

    program: NeuronProgram
    currents: tuple[tuple[Incoming, ...], ...]
    shape: Shape
    steps: int
    seen: Mapping[str, Range]
    graded: Graded | None
    finest: Callable[[float], float]
    target: Target
    options: Options

    @property
    def ports(self) -> list[Incoming]:
        """All ports, in the order of the integer program's inputs."""
        return [p for ports in self.currents for p in ports]


@dataclass(frozen=True, kw_only=True, eq=False)
class LoweredProgram:
    """The integer population, its weights per port, and what is proved."""

    neuron: IntProgram
    weights: list[Array]
    report: PopulationReport
    payload: tuple[int, int]
    notes: tuple[str, ...]


def lower_program(job: ProgramJob) -> LoweredProgram:
    """Lower one program; raises CompileError SNN313 where nothing bounds a register, SNN302 where its sums overflow.

    Rounded weights may add up to a little more than the real ones: registers that leave the format by less than ``NEAR`` get a coarser LSB.
    """
    ranges, doubtful = _ranges(job)
    for _ in range(ATTEMPTS):
        attempt = _attempt(job, ranges)
        near = {name: excess for name, excess in attempt.bounds.beyond.items() if excess < NEAR}
        if not near:
            break
        for name, excess in near.items():
            low, high = ranges[name]
            ranges[name] = (low * excess * MARGIN, high * excess * MARGIN)
    _check(job, attempt)
    return _finish(job, attempt, doubtful)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Attempt:
    neuron: IntProgram
    weights: list[Array]
    accumulators: list[Interval]
    bounds: ProgramBounds
    fixed: Fixed


def _attempt(job: ProgramJob, ranges: Mapping[str, Range]) -> _Attempt:
    """Everything for registers of these ranges."""
    n, target = job.program, job.target
    fixed = translate(n, ranges, target.membrane, target.table_entries)
    column = (-1,) + (1,) * (len(job.shape) - 1)
    gains, shifts, biases, exponents, weights, accumulators = [], [], [], [], [], []
    for k, ports in enumerate(job.currents):
        lsb = 2.0 ** fixed.lsb[f"i{k}"]
        m = magnitudes(list(ports), _codes(job)[1])
        gain, shift, extra = _gain(m, float(np.abs(n.gain[k]).max()), lsb, job)
        bias = _aligned(n.bias[k], len(job.shape)) / lsb
        largest = float(np.abs(n.gain[k]).max()) or 1.0
        per_step = half_even(gain.reshape(column)[None] * _aligned(n.gain[k], len(job.shape)) / largest)
        for p, delta in zip(ports, m.deltas, strict=True):
            e = extra + delta
            sigma = gain * 2.0 ** (e - shift) * lsb
            q = np.clip(half_even(p.weight * largest / sigma.reshape((-1,) + (1,) * (p.weight.ndim - 1))), *_codes(job))
            weights.append(q)
            accumulators.append(accumulator_bound(p.port.synapse, q, p.payload, len(job.shape)))
            exponents.append(e)
            if p.zero is not None:
                bias = bias + offset_map(p.port.synapse, q, p.zero)[None] * per_step * 2.0 ** (e - shift)
        gains.append(per_step)
        shifts.append(shift)
        biases.append(half_even(bias))
    payload = _payload(job, fixed, ranges)
    made = IntProgram(
        name=n.name, inputs=tuple(p.port.synapse.name for p in job.ports), loc=n.loc, origin=n.origin, exponents=tuple(exponents),
        currents=tuple(k for k, ports in enumerate(job.currents) for _ in ports), gain=tuple(gains), gain_shift=tuple(shifts),
        bias=tuple(biases), code=tuple(map(str, fixed.code)), payload=n.payload, spiking=n.spiking, membrane=n.membrane,
        following=n.following, initial=tuple(half_even(v * 2.0 ** -fixed.lsb[f"z{k}"]) for k, v in enumerate(n.initial)),
        constants=tuple(fixed.constants), tables=tuple(t.values for t in fixed.tables), table_low=tuple(t.low for t in fixed.tables),
        table_shift=tuple(t.shift for t in fixed.tables), i_scale=tuple(2.0 ** fixed.lsb[f"i{k}"] for k in range(len(job.currents))),
        v_scale=np.asarray(2.0 ** fixed.lsb[n.membrane]), threshold=n.threshold, functions=tuple(t.function for t in fixed.tables),
        constant_scale=tuple(2.0 ** fixed.lsb[f"c{k}"] for k in range(len(fixed.constants))),
        state_scale=tuple(2.0 ** fixed.lsb[f"z{k}"] for k in range(len(n.initial))), **payload,
    )  # fmt: skip
    bounds = program_bounds(made, accumulators, job.shape, job.steps, target.membrane)
    made = saturated(made, bounds.saturating)
    return _Attempt(neuron=made, weights=weights, accumulators=accumulators, bounds=bounds, fixed=fixed)


def _ranges(job: ProgramJob) -> tuple[dict[str, Range], tuple[str, ...]]:
    """The range of every register, and those for which only calibration data know one."""
    n = job.program
    found = proved(n, [input_range(ports) for ports in job.currents], job.shape, job.steps)
    size = max(
        1.0,
        *(float(np.abs(c).max()) for c in (*n.constants, *n.initial)),
        *(abs(end) for k in range(len(n.inputs)) for end in found.ranges[f"i{k}"]),
    )
    ranges: dict[str, Range] = {}
    doubtful, unknown = [], []
    for name in dict.fromkeys((*(f"i{k}" for k in range(len(n.inputs))), *(f"z{k}" for k in range(len(n.initial))),
                               *(made.target for made in n.instructions))):  # fmt: skip
        low, high = found.ranges.get(name, (-np.inf, np.inf))
        known = job.seen.get(name)
        bounded = bool(np.isfinite(low) and np.isfinite(high)) and (found.complete or name.startswith("i"))
        reach = max(map(abs, known)) if known is not None else EXPLODES * size / WIDER
        if bounded and (name.startswith("i") or name in n.binary or max(abs(low), abs(high)) <= WIDER * reach):
            ranges[name] = (low, high)
        elif known is not None:
            doubtful.append(name)
            span = (known[1] - known[0]) * (HEADROOM - 1) / 2
            wide = (known[0] - span, known[1] + span)
            ranges[name] = (max(wide[0], low), min(wide[1], high)) if bounded else wide
        else:
            unknown.append(name)
    if unknown:
        k = next((k for k, made in enumerate(n.instructions) if made.target in unknown), 0)
        raise CompileError(Diagnostic(
            "SNN313", f"nothing bounds '{n.instructions[k]}' in the program of '{n.name}'", n.place(k),
            ("its interval grows from step to step, whatever pieces it is cut into",), "give calibration data",
        ))  # fmt: skip
    return ranges, tuple(doubtful)


def _codes(job: ProgramJob) -> tuple[int, int]:
    top = job.options.codes(job.target.weight.bits)
    return -top, top


def _gain(m: Magnitudes, factor: float, lsb: float, job: ProgramJob) -> tuple[Array, int, int]:
    """Whole gains per channel, one shift, and by how much accumulators are shifted left."""
    top, widest = _codes(job)[1], job.target.gain.high
    needed = np.where(m.grid > 0, m.grid, m.peak / top) * factor
    some = needed[needed > 0]
    needed = np.where(needed > 0, needed, float(np.median(some)) if some.size else lsb)
    ratio = needed / lsb
    shift = max(0, int(np.ceil(np.log2(FEWEST / float(ratio.min())))))
    shift = max(0, min(shift, int(np.floor(np.log2(widest / (float(ratio.max()) * (1 + 1 / FEWEST)))))))
    extra = max(0, int(np.ceil(np.log2(float(ratio.max()) * 2.0**shift * (1 + 1 / FEWEST) / widest))))
    wanted = ratio * 2.0 ** (shift - extra)
    whole = np.where(m.grid > 0, half_even(wanted), np.ceil(wanted * (1 - 1e-12))).astype(np.int64)
    return np.clip(whole, 1, widest), shift, extra


def _payload(job: ProgramJob, fixed: Fixed, ranges: Mapping[str, Range]) -> dict[str, Any]:
    """Shift, limits and scale of what is sent."""
    n, g = job.program, job.graded
    if n.spiking or g is None:
        return {"out_scale": np.ones(())} if n.spiking else {
            "payload_min": job.target.membrane.low, "payload_max": job.target.membrane.high,
            "out_scale": np.asarray(2.0 ** fixed.lsb[n.payload]),
        }  # fmt: skip
    low, high = ranges[n.payload]
    largest = max(abs(low), abs(high), 2.0 ** fixed.lsb[n.payload])
    e = fixed.lsb[n.payload]
    wanted = int(np.ceil(np.log2(max(largest / g.most, job.finest(largest))))) if g.lsb is None else round(np.log2(g.lsb))
    shift = max(0, wanted - e)
    top = int(np.ceil(largest * 2.0 ** -(e + shift)))
    return {
        "payload_shift": shift, "payload_min": -top if low < 0 else 0, "payload_max": top, "out_scale": np.asarray(2.0 ** (e + shift)),
    }  # fmt: skip


def _check(job: ProgramJob, a: _Attempt) -> None:
    """Sums of synapses, currents and constants that leave their format are errors: nothing there saturates."""
    target, made, bounds = job.target, a.neuron, a.bounds
    sums = [found.range for found in a.accumulators]
    worst = max(abs(end) for pair in sums for end in pair)
    currents = max(abs(end) for k in range(len(made.gain)) for end in bounds.registers[f"i{k}"])
    what = (
        ("accumulator", worst, target.accumulator.high) if worst > target.accumulator.high else ("membrane", currents, target.membrane.high)
    )
    if what[1] > what[2]:
        raise CompileError(Diagnostic(
            "SNN302", f"'{made.name}' can reach {what[1]} {what[0]} LSBs, the {what[0]} holds +-{what[2]}", made.loc,
            (target.cite(f"formats.{what[0]}"), "proved for every input"), "give its weights or its input fewer bits",
        ))  # fmt: skip


def _finish(job: ProgramJob, a: _Attempt, doubtful: tuple[str, ...]) -> LoweredProgram:
    """The report of the chosen attempt."""
    made, bounds, fixed, weights = a.neuron, a.bounds, a.fixed, a.weights
    n = job.program
    error = power = 0.0
    sigmas = []
    for k, p, e, q in zip(made.currents, job.ports, made.exponents, weights, strict=True):
        sigma = np.abs(made.gain[k]).max(axis=0).reshape(-1) * 2.0 ** (e - made.gain_shift[k]) * made.i_scale[k]
        scale = sigma.reshape((-1,) + (1,) * (q.ndim - 1)) / (np.abs(n.gain[k]).max() or 1.0)
        error += float(((q * scale - p.weight) ** 2).sum())
        power += float((p.weight**2).sum())
        sigmas.append(sigma)
    found = bounds.registers
    membrane = found[made.membrane]
    state = found[made.following[0]] if made.following else membrane
    sums = [found.range for found in a.accumulators]
    report = PopulationReport(
        name=n.name, neurons=prod(job.shape), synapses=sum(connections(p.port.synapse, job.shape) for p in job.ports),
        weight_bits=min(job.options.weight_bits, job.target.weight.bits),
        sigma=(min(float(s.min()) for s in sigmas), max(float(s.max()) for s in sigmas)),
        steps_per_threshold=None, guard_bits=0, exact=False, reason=_reason(n), payload_lsb=None if n.spiking else float(made.out_scale),
        bounds={
            "accumulator": (min(low for low, _ in sums), max(high for _, high in sums)), "input": bounds.inputs,
            "charge": (min(found[f"i{k}"][0] for k in range(len(made.gain))), max(found[f"i{k}"][1] for k in range(len(made.gain)))),
            "membrane": membrane, "state": state,
        },
        weight_error=float(np.sqrt(error / power)) if power else 0.0,
    )  # fmt: skip
    notes = [
        f"'{n.name}': {t.function} is a table of {t.values.size - 1} pieces over {2.0 ** fixed.lsb[made_arg]:g} * [{t.low}, "
        f"{t.low + ((t.values.size - 1) << t.shift)}], at most {t.error:.2g} off"
        for t, made_arg in zip(fixed.tables, (i.args[0] for i in fixed.code if i.op == "table"), strict=True)
    ]
    if bounds.saturating:
        where = ", ".join(f"'{i}'" for i in made.instructions if i.saturates)
        notes.append(f"'{n.name}': no bound within the format could be proved for {where}: there its registers saturate, which is counted")
    elif doubtful:
        notes.append(f"'{n.name}': the calibrated range of {', '.join(doubtful)} is proved to hold for every input")
    payload = found[n.payload]
    sent = tuple(int(np.clip(v >> made.payload_shift, made.payload_min, made.payload_max)) for v in payload)
    ends = (0, 1) if n.spiking else (min(sent[0], 0), min(max(sent[1] + 1, 0), made.payload_max))
    return LoweredProgram(neuron=made, weights=weights, report=report, payload=ends, notes=tuple(notes))


def _reason(n: NeuronProgram) -> str:
    """Why a program is never exact."""
    functions = [made.op for made in n.instructions if made.op == "mul" or made.op in FUNCTIONS]
    return f"a neuron program rounds its registers ({', '.join(dict.fromkeys(functions)) or 'sums'})"


__all__ = ["LoweredProgram", "ProgramJob", "lower_program"]

"""The whole graph: inputs, then populations in the order in which their payloads become known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from snncompile.errors import CompileError, Diagnostic, InternalError
from snncompile.ir.graph import Array, Dialect, Graph, Op, port_of, validate
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.linear_ops import Add, Delay, Input
from snncompile.ir.neuron import Fire, Neuron, Reset
from snncompile.ir.population import Port, ports
from snncompile.ir.program import IntProgram, NeuronProgram
from snncompile.quantize.admit import normalise, refusals
from snncompile.quantize.blank import BlankRun, summed
from snncompile.quantize.graded import Graded
from snncompile.quantize.inputs import quantise_input_op
from snncompile.quantize.lower import Job, Lowered, lower
from snncompile.quantize.moments import NONE, WORK, Calibration, calibrate, sample_work
from snncompile.quantize.options import Options, PopulationReport, QuantResult
from snncompile.quantize.payload import SPIKE_LSB, Incoming, Payload, incoming, initial_payload, payload_of
from snncompile.quantize.planes import fine_name, planes
from snncompile.quantize.program import LoweredProgram, ProgramJob, lower_program, program_refusals, seen_ranges
from snncompile.quantize.resolution import finest_lsb, reach
from snncompile.quantize.rounding import Hearing
from snncompile.target import Target

HEADROOM, MARGIN = 1.25, 1.02
"""How far beyond the calibration data a stream, or another graded output, may go before it saturates: rounded weights reach further."""
LEAST = 63
"""Levels to either side that a graded output keeps, even if the weights of its readers must be coarser for it."""


@dataclass(kw_only=True)
class _Work:
    """What is known so far: integer ops by name, payloads by population, delays' integer initial values."""

    graph: Graph
    target: Target
    options: Options
    heard: Calibration
    blank: BlankRun
    readers: Mapping[str, tuple[Neuron | NeuronProgram, ...]]
    notes: list[str] = field(default_factory=list)
    made: dict[str, Op] = field(default_factory=dict)
    payloads: dict[str, Payload] = field(default_factory=dict)
    reports: dict[str, PopulationReport] = field(default_factory=dict)
    fine: dict[str, list[Op]] = field(default_factory=dict)
    seen: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)


def quantize(
    graph: Graph, target: Target, *, calibration: Mapping[str, Array] | None = None, options: Options | None = None
) -> QuantResult:
    """A float graph in population form to the integers of a target.

    calibration  real samples per input, ``(N, T | 1, *size)``: they give ranges of inputs and graded outputs, and weights are rounded so
                 that errors cancel on them; without them weights are the nearest integers
    raises       CompileError SNN301..SNN311, each naming the user's line
    """
    chosen = options or Options()
    chosen.check(target.weight.bits)
    neurons = [normalise(n) if isinstance(n, Neuron) else n for n in graph.nodes if isinstance(n, (Neuron, NeuronProgram))]
    found = [d for n in neurons for d in (refusals(n, target) if isinstance(n, Neuron) else program_refusals(n, target))]
    if found:
        raise CompileError(found)
    missing = [n.name for n in graph.nodes if isinstance(n, Input) and calibration is not None and n.name not in calibration]
    if missing:
        raise CompileError([Diagnostic("SNN311", f"calibration data has nothing for input '{name}'") for name in missing])
    work = _Work(
        graph=graph,
        target=target,
        options=chosen,
        heard=NONE,
        blank=BlankRun.of(graph, affordable=sample_work(graph) <= WORK),
        readers=_readers(graph, neurons),
    )
    work.seen |= seen_ranges(graph, calibration)
    for op in graph.nodes:
        if isinstance(op, Input):
            data = None if calibration is None else calibration.get(op.name)
            made, note = quantise_input_op(op, None if data is None else np.asarray(data), chosen.input_bits)
            work.made[op.name] = made
            work.payloads[op.name] = payload_of(made, (made.low, made.high), op.size)
            work.notes.append(note)
            work.blank.begin(made)
    work.heard = calibrate(graph, [n.name for n in neurons if _is_graded(graph, n)], calibration)
    work.notes += work.heard.notes
    for n in neurons:
        if n.spiking and n.max_spikes == 1:
            work.payloads[n.name] = _spikes(work, n)
    _lower_all(work, neurons)
    _delays(work)
    return QuantResult(graph=_assemble(work), populations=tuple(work.reports[n.name] for n in neurons), notes=tuple(work.notes))


def _spikes(work: _Work, n: Neuron | NeuronProgram) -> Payload:
    """What a population of spikes sends, before its bounds are known."""
    return Payload(shape=work.graph.shape(n.name), lsb=SPIKE_LSB, offset=np.zeros(()), low=0, high=n.max_spikes)


def _is_graded(graph: Graph, n: Neuron | NeuronProgram) -> bool:
    """Whether others read real values from a population, which need a payload of their own."""
    if isinstance(n, NeuronProgram):
        return not n.spiking
    return n.fire is Fire.RELU or (n.fire is Fire.NONE and bool(graph.readers_of[n.name]))


def _lower_all(work: _Work, neurons: list[Neuron | NeuronProgram]) -> None:
    """Lower populations whose sources are known until all are; a graded cycle starts from its calibrated range."""
    waiting, problems = list(neurons), []
    while waiting:
        ready = next((n for n in waiting if all(p.source.name in work.payloads for p in ports(work.graph, n))), None)
        if ready is None:
            stuck = next((n for n in waiting if n.name not in work.payloads and n.name in work.heard.peaks), None)
            several = next((n for n in waiting if n.name not in work.payloads and 1 < n.max_spikes < 2**work.options.payload_bits), None)
            if stuck is None and several is not None:
                work.payloads[several.name] = _spikes(work, several)
                continue
            if stuck is None:
                name = waiting[0].name
                problems.append(Diagnostic(
                    "SNN301", f"'{name}' is part of a loop of graded outputs, and nothing bounds their range", waiting[0].loc, (),
                    "give calibration data",
                ))  # fmt: skip
                break
            g = _graded(work, stuck)
            assert g is not None
            shape = work.graph.shape(stuck.name)
            work.payloads[stuck.name] = Payload(shape=shape, lsb=np.asarray(g.lsb), offset=np.zeros(()), low=g.low, high=g.high)
            continue
        waiting.remove(ready)
        try:
            _lower_one(work, ready)
        except CompileError as e:
            problems += e.diagnostics
            if ready.name not in work.payloads:
                break
    if problems:
        raise CompileError(problems)


def _graded(work: _Work, n: Neuron | NeuronProgram) -> Graded | None:
    """What a graded output must be like: a trained grid, else as fine as the readers take, over the calibrated or the proved range."""
    if not _is_graded(work.graph, n):
        return None
    if isinstance(n, NeuronProgram):
        return _graded_program(work, n)
    if n.grid:  # the network was trained with this grid
        return Graded(low=0, high=n.levels, most=n.levels, lsb=n.grid, fixed=True)
    low, stream = -1 if n.fire is Fire.NONE else 0, _is_stream(n)
    most = 2 ** (work.options.stream_bits if stream else work.options.payload_bits) - 1
    calibrated = work.heard.peaks.get(n.name)
    peak = reach(work.graph, n, partial(_peak, work)) if calibrated is None else calibrated * (HEADROOM if stream else MARGIN)
    readers = work.readers[n.name]
    codes = work.options.codes(work.target.weight.bits)
    finest = finest_lsb(
        work.graph, n, lambda op: peak if op.name == n.name else _peak(work, op), codes=codes, target=work.target, readers=readers
    )
    if stream and n.fire is Fire.RELU:  # differences of payloads are counted, whatever that costs the readers
        finest = 0.0
    finest = min(finest, peak / min(most, LEAST))  # coarser than that, readers do better with coarser weights
    lsb = max(peak / most, finest)
    if stream:  # powers of two, so that streams that meet add up without rounding
        lsb = 2.0 ** float(np.ceil(np.log2(lsb)))
        lsb /= 2 if peak / lsb < LEAST and 2 * peak / lsb <= most else 1
    high = min(most, max(1, int(np.ceil(peak / lsb))))
    return Graded(low=low * high, high=high, most=most, lsb=None if calibrated is None else lsb, finest=finest)


def _graded_program(work: _Work, n: NeuronProgram) -> Graded:
    """The payload of a program: as wide as a stream's, as fine as its readers take; calibrated only where it starts a loop."""
    most = 2**work.options.stream_bits - 1
    peak = work.heard.peaks.get(n.name, 0.0)
    lsb = 2.0 ** int(np.ceil(np.log2(max(peak / most, _finest(work, n, peak))))) if peak else None
    return Graded(low=-most, high=most, most=most, lsb=lsb)


def _finest(work: _Work, n: NeuronProgram, peak: float) -> float:
    """The smallest payload LSB that the readers of a program can add up, if it sends up to ``peak``."""
    finest = finest_lsb(
        work.graph, n, lambda op: peak if op.name == n.name else _peak(work, op), codes=work.options.codes(work.target.weight.bits),
        target=work.target, readers=work.readers[n.name],
    )  # fmt: skip
    return min(finest, peak / LEAST)


def _peak(work: _Work, op: Op) -> float:
    """The largest magnitude that a source sends, in real units; 0 if nothing is known of it yet."""
    known = work.payloads.get(op.name)
    if known is not None:
        ends = [np.abs(known.lsb * k + known.offset).max() for k in (known.low, known.high)]
        return float(max(ends))
    if isinstance(op, Neuron) and op.grid:
        return op.grid * op.levels
    return work.heard.peaks.get(op.name, 0.0) * (HEADROOM if isinstance(op, Neuron) and _is_stream(op) else 1.0)


def _is_stream(n: Neuron | NeuronProgram) -> bool:
    """Whether a population only passes on a real value, or the positive part of one."""
    return isinstance(n, Neuron) and n.reset is Reset.STATELESS and (n.fire is Fire.NONE or (n.fire is Fire.RELU and not np.any(n.theta)))


def _readers(graph: Graph, neurons: list[Neuron | NeuronProgram]) -> dict[str, tuple[Neuron | NeuronProgram, ...]]:
    """By source, the populations that hear it."""
    found: dict[str, list[Neuron | NeuronProgram]] = {n.name: [] for n in graph.nodes if isinstance(n, (Input, Neuron, NeuronProgram))}
    for n in neurons:
        for name in dict.fromkeys(p.source.name for p in ports(graph, n)):
            found[name].append(n)
    return {name: tuple(readers) for name, readers in found.items()}


def _lower_one(work: _Work, n: Neuron | NeuronProgram) -> None:
    shape = work.graph.shape(n.name)
    found = ports(work.graph, n)
    graded = _graded(work, n)
    biased = next((p.synapse.name for p in found if getattr(p.synapse, "bias", None) is not None), None)
    if biased is not None:
        raise InternalError(f"'{biased}' has a bias of its own, which the passes move into the neuron")
    if isinstance(n, NeuronProgram):
        return _lower_program(work, n, graded)
    if n.fire is Fire.NONE and graded is not None and n.reset is Reset.CLAMP:
        what = f"'{n.name}' sends its membrane on and clamps it, a graded output is relative to the clamp"
        raise CompileError(Diagnostic("SNN305", what, n.loc))
    if n.name in work.payloads and graded is not None:
        graded = replace(graded, lsb=float(work.payloads[n.name].lsb), fixed=True)
    arriving = _arriving(work, n)
    job = Job(
        neuron=n, ports=arriving, heard=[_hearing(work, p) for p in arriving], blank=work.blank.hear(n, found, work.payloads), shape=shape,
        steps=work.graph.steps, graded=graded, target=work.target, options=work.options, fine_names=_fine_names(work, found),
    )  # fmt: skip
    low = lower(job)
    _keep(work, n, low, graded)
    if job.blank.arriving is not None:
        work.blank.end(low.neuron, summed(found, low.weights, low.exponents, job.blank))


def _fine_names(work: _Work, found: Sequence[Port]) -> tuple[str, ...]:
    """What second synapses would be called."""
    return tuple(fine_name(work.graph.by_name, p.synapse.name) for p in found)


def _arriving(work: _Work, n: Neuron | NeuronProgram) -> list[Incoming]:
    channels = work.graph.shape(n.name)[0]
    return [incoming(work.graph, p, work.payloads[p.source.name], channels) for p in ports(work.graph, n)]


def _lower_program(work: _Work, n: NeuronProgram, graded: Graded | None) -> None:
    """Likewise for a neuron program, whose ports belong to one current each."""
    if graded is not None:
        known = n.name in work.payloads
        graded = replace(graded, lsb=float(work.payloads[n.name].lsb) if known else None, fixed=known)
    arriving = iter(_arriving(work, n))
    roots = (work.graph.node(ref) for ref in n.inputs)
    currents = tuple(tuple(next(arriving) for _ in (root.inputs if isinstance(root, Add) else (root,))) for root in roots)
    job = ProgramJob(
        program=n, currents=currents, shape=work.graph.shape(n.name), steps=work.graph.steps, seen=work.seen.get(n.name, {}),
        graded=graded, finest=partial(_finest, work, n), target=work.target, options=work.options,
    )  # fmt: skip
    _keep(work, n, lower_program(job), graded)


def _keep(work: _Work, n: Neuron | NeuronProgram, low: Lowered | LoweredProgram, graded: Graded | None) -> None:
    found, shape = ports(work.graph, n), work.graph.shape(n.name)
    if n.name in work.payloads and graded is not None and float(low.neuron.out_scale) != graded.lsb:
        raise InternalError(f"'{n.name}' changed its payload LSB after its readers were built")
    work.reports[n.name] = low.report
    work.notes += low.notes
    work.made[n.name] = low.neuron
    for p, q, fine in zip(found, low.weights, _fine_names(work, found), strict=True):
        kind = np.min_scalar_type(-work.target.weight.high)
        made = [replace(p.synapse, weight=plane.astype(kind)) for plane, _ in planes(q, work.target.weight.bits)]
        work.made[p.synapse.name] = made[0]
        work.fine[p.synapse.name] = [replace(second, name=fine) for second in made[1:]]
    if n.name not in work.payloads:
        work.payloads[n.name] = payload_of(low.neuron, low.payload, shape)


def _hearing(work: _Work, p: Incoming) -> Hearing | None:
    heard = work.heard.moments.get(p.port.synapse.name)
    return None if heard is None else Hearing.of(p, heard)


def _delays(work: _Work) -> None:
    """Initial values of delays as payloads of what they delay."""
    problems = []
    for d in work.graph.nodes:
        if not isinstance(d, Delay):
            continue
        source: Op = d
        while isinstance(source, Delay):
            source = work.graph.node(source.inputs[0])
        initial = initial_payload(d.initial, work.payloads[source.name])
        if initial is None:
            problems.append(Diagnostic(
                "SNN307", f"'{d.name}' starts at a value that no payload of '{source.name}' stands for", d.loc, (),
                "start it at 0, or give the input a grid that contains the value",
            ))  # fmt: skip
        else:
            work.made[d.name] = replace(d, initial=initial)
    if problems:
        raise CompileError(problems)


def _assemble(work: _Work) -> Graph:
    """The integer graph: sums dissolve into their population's ports, everything keeps its name."""
    kept = (n for n in work.graph.nodes if not isinstance(n, Add))
    nodes = [op for n in kept for op in (work.made.get(n.name, n), *work.fine.get(n.name, ()))]
    known = {n.name for n in nodes}
    for n in nodes:
        if not n.inputs or all(r.partition(".")[0] in known for r in n.inputs):
            continue
        raise InternalError(f"'{n.name}' reads a sum outside a population")
    t = work.target
    meta = {
        **work.graph.meta, "target": t.name, "weight_bits": work.options.weight_bits,
        "accumulator": [t.accumulator.low, t.accumulator.high], "membrane": [t.membrane.low, t.membrane.high],
        "payload": [t.payload.low, t.payload.high], "hop_limit": t.hop_limit,
    }  # fmt: skip
    for label, ref in work.graph.outputs.items():
        if port_of(ref) not in ("", "m", "v") or not isinstance(work.made.get(ref.partition(".")[0]), (IntNeuron, IntProgram, IntInput)):
            raise InternalError(f"output '{label}' is not a population")
    graph = replace(work.graph, dialect=Dialect.INTEGER, meta=meta).rebuild(nodes)
    validate(graph)
    return graph


__all__ = ["quantize"]

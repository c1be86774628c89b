"""Verification as one function: the program against the float graph it came from, and against every executor asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from snncompile.errors import Diagnostic, InternalError, fail
from snncompile.ir import reference
from snncompile.ir.graph import Array, Graph, Readout
from snncompile.ir.integer import IntInput
from snncompile.ir.interpret import interpret
from snncompile.ir.population import INTEGER_POPULATIONS
from snncompile.mapping.schedule import Schedule
from snncompile.passes import PassRecord
from snncompile.quantize import PopulationReport, QuantResult, dequantise
from snncompile.quantize.dequantise import payload_values
from snncompile.verify.backends import BackendRecord, compare_bits, run_lava, run_onnxruntime, run_scheduled
from snncompile.verify.divergence import Divergence
from snncompile.verify.dynamics import Dynamics, compare, input_values
from snncompile.verify.readout import accuracy, agreement, decide, logits, relative_rms
from snncompile.verify.saturation import Saturation, clipped_inputs, saturation_ports
from snncompile.verify.saturation import count as count_saturated
from snncompile.verify.weights import foreign, other_synapses

BACKENDS = ("lava", "onnx", "reference")
TIED_SAMPLES = 0.02
TRACE_BYTES = 1_500_000_000
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Program:
    """An integer program: its graph, its schedule, and what was claimed of each population."""

    graph: Graph
    schedule: Schedule
    populations: tuple[PopulationReport, ...]
    plan_folder: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Original:
    """The network that a program is judged against: its float graph in population form, and its outputs in PyTorch (N, T, ...)."""

    float_graph: Graph
    outputs: Mapping[str, Array]
    capture: Mapping[str, Any] | None
    passes: tuple[PassRecord, ...]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was compared and what was found; ``failures`` is empty if every claim holds."""

    samples: int
    steps: int
    integer_accuracy: float | None
    float_accuracy: float | None
    capture: Mapping[str, Any] | None
    passes: tuple[PassRecord, ...]
    dynamics: Dynamics | None
    split: Mapping[str, Any] | None
    backends: tuple[BackendRecord, ...]
    failures: tuple[Diagnostic, ...]
    saturation: Saturation = field(default_factory=Saturation)
    evidence: Mapping[str, Array] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every claim that was checked holds."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """The object that ``verify --json`` prints."""
        out: dict[str, Any] = {"ok": self.ok, "samples": self.samples, "steps": self.steps}
        if self.capture is not None:
            out["capture"] = dict(self.capture)
        if self.passes:
            out["passes"] = {
                "membrane_error": max(r.membrane_error for r in self.passes),
                "output_error": max(r.output_error for r in self.passes),
                "differing_spikes": sum(r.differing_spikes for r in self.passes),
            }
        out["quantize"] = {"float_accuracy": self.float_accuracy, "integer_accuracy": self.integer_accuracy}
        if self.dynamics is not None:
            out["quantize"]["dynamics"] = self.dynamics.to_json()
        if self.split is not None:
            out["quantize"]["error_split"] = dict(self.split)
        out["saturation"] = self.saturation.to_json()
        out["backend"] = {r.backend: r.to_json() for r in self.backends}
        out["failures"] = [{"code": d.code, "message": d.message} for d in self.failures]
        return out


def verify(
    program: Program,
    x: Mapping[str, Array],
    *,
    y: Array | None = None,
    original: Original | None = None,
    backends: Sequence[str] = ("lava",),
    samples: int | None = None,
    timeout_s: float = 600.0,
    readout: Readout = "sum",
    batch: int = 32,
    progress: Progress | None = None,
    preparing: Callable[[str], None] | None = None,
) -> Verification:
    """Run the program on every sample of ``x`` (by input, (N, T | 1, *shape)) and check every claim that can be checked.

    samples  how many run on the executors (all by default, within the memory for traces)
    raises   CompileError where an executor cannot run at all; a failed claim is no exception but a failure in the result
    """
    unknown = [b for b in backends if b not in BACKENDS]
    if unknown:
        raise fail("SNN601", f"no executor is called '{unknown[0]}'", help=f"choose from {', '.join(BACKENDS)}")
    graph = program.graph
    difference = None if original is None or original.float_graph is None else other_synapses(original.float_graph, graph)
    if difference is not None:
        raise fail("SNN040", f"the program was not made from this network: {difference}", help="give the network that it was made from")
    count = len(next(iter(x.values())))
    payloads = input_values(graph, x)
    traced = _traced_samples(graph, count, samples) if backends else 0
    result = QuantResult(graph=graph, populations=program.populations)
    run = _Run(result, original, payloads, x, readout, batch, traced, progress or (lambda *_: None))
    run.saturation.inputs = clipped_inputs(graph, x)
    run.over_all_samples(count)
    records = []
    for name in backends:
        given = {k: v[:traced] for k, v in payloads.items()}
        kept = {k: v[:traced] for k, v in run.kept.items()}
        records.append(_execute(name, program, given, kept, timeout_s, progress, preparing))
    failures, evidence = [], {}
    for record in records:
        if record.differing_bits:
            failures.append(
                _diverged("SNN603", f"{record.backend} differs from the reference in {record.differing_bits} bits", record.first)
            )
    if original is not None and not run.dynamics.ok:
        d = run.dynamics
        failures.append(_diverged(
            "SNN602", f"{d.differing_exact} spikes differ beyond ties in populations declared exact, {d.inexact_rate:.2e} of all elsewhere "
            f"(allowed: 0, and {d.limit:g})", d.first))  # fmt: skip
    if original is not None and run.float_graph is not None and run.dequantised is not None:
        strange = foreign(run.float_graph, run.dequantised, result)
        if strange is not None:
            failures.append(strange.diagnostic())
    if original is not None:
        apart = run.apart(original)
        if apart > max(1, count * TIED_SAMPLES):
            failures.append(Diagnostic(
                "SNN605", f"the outputs of the captured network differ from PyTorch's on {apart} of {count} samples", None,
                (f"ties may change single samples; up to {TIED_SAMPLES:.0%} are put down to them",),
                "please report this network: the capture does not compute what it computes",
            ))  # fmt: skip
    first = next((r.first for r in records if r.first is not None), None)
    if first is not None:
        evidence = {k: v[first.sample] for k, v in run.kept.items() if k.partition(".")[0] == first.population}
    label = next(iter(graph.outputs))
    return Verification(
        samples=count, steps=graph.steps,
        integer_accuracy=accuracy(decide(run.integer, readout), y),
        float_accuracy=None if original is None else accuracy(decide(original.outputs[label], readout), y),
        capture=None if original is None else original.capture, passes=() if original is None else original.passes,
        dynamics=None if original is None else run.dynamics, split=None if original is None else run.split(),
        backends=tuple(records), failures=tuple(failures), saturation=run.saturation, evidence=evidence,
    )  # fmt: skip


def _diverged(code: str, message: str, first: Divergence | None) -> Diagnostic:
    return Diagnostic(code, message, notes=() if first is None else (str(first),))


def _traced_samples(graph: Graph, count: int, wanted: int | None) -> int:
    """How many samples' traces fit in memory: payload and membranes of every population, once here and once from the executor."""
    per_sample = sum(24 * graph.steps * int(np.prod(graph.shape(n.name))) for n in graph.of(*INTEGER_POPULATIONS))
    return max(1, min(count, wanted or count, TRACE_BYTES // max(per_sample, 1)))


class _Run:
    """The reference over all samples in batches, and on the way the comparison with the float graph."""

    def __init__(
        self, result: QuantResult, original: Original | None, payloads: dict[str, Array], x: Mapping[str, Array], readout: Readout,
        batch: int, traced: int, progress: Progress,
    ) -> None:  # fmt: skip
        self.result, self.original, self.payloads, self.x, self.readout = result, original, payloads, x, readout
        self.batch, self.traced, self.progress = batch, traced, progress
        self.dynamics, self.saturation = Dynamics(), Saturation()
        self.kept: dict[str, Array] = {}
        self.float_graph = None if original is None else original.float_graph
        self.dequantised = None if self.float_graph is None else dequantise(self.float_graph, result)
        self.stages: dict[str, list[Array]] = {"float": [], "weights": [], "payloads": [], "integer": []}

    def over_all_samples(self, count: int) -> None:
        graph = self.result.graph
        names = [n.name for n in graph.of(*INTEGER_POPULATIONS)]
        counted = saturation_ports(self.result)
        outputs: list[Array] = []
        parts: dict[str, list[Array]] = {}
        for start in range(0, count, self.batch):
            self.progress("reference", start, count)
            chunk = {k: v[start : start + self.batch] for k, v in self.payloads.items()}
            keep = start < self.traced
            record = list(dict.fromkeys((*(reference.references(graph) if keep else names), *counted)))
            traces = reference.run(graph, chunk, record=record, batch=self.batch)
            if keep:
                for ref in reference.references(graph):
                    parts.setdefault(ref, []).append(traces[ref])
            outputs.append(self._value(traces))
            count_saturated(self.result, traces, self.saturation)
            if self.dequantised is not None:
                compare(self.result, self.dequantised, chunk, {n: traces[n] for n in names}, self.dynamics, start)
                self._stages({k: v[start : start + self.batch] for k, v in self.x.items()}, chunk, outputs[-1])
        self.progress("reference", count, count)
        self.kept = {ref: np.concatenate(v) for ref, v in parts.items()}
        self.integer = np.concatenate(outputs)

    def _value(self, traces: Mapping[str, Array]) -> Array:
        """The first output in real units, summed for the readout."""
        label, ref = next(iter(self.result.graph.outputs.items()))
        n = self.result.graph.node(ref)
        if not isinstance(n, INTEGER_POPULATIONS):
            raise InternalError(f"output '{label}' is no population")
        scale = n.v_scale if "." in ref else n.out_scale
        return np.asarray(traces[label] * scale)

    def _stages(self, x: Mapping[str, Array], payloads: Mapping[str, Array], integer: Array) -> None:
        assert self.float_graph is not None
        assert self.dequantised is not None
        label = next(iter(self.float_graph.outputs))
        given = payload_values(self.result, payloads)
        self.stages["float"].append(interpret(self.float_graph, x)[label])
        self.stages["weights"].append(interpret(self.dequantised, x)[label])
        self.stages["payloads"].append(interpret(self.dequantised, given)[label])
        self.stages["integer"].append(integer)

    def apart(self, original: Original) -> int:
        """On how many samples the float graph's readout differs from PyTorch's by more than rounding."""
        label = next(iter(self.result.graph.outputs))
        graph_outputs, outputs = np.concatenate(self.stages["float"]), original.outputs[label]
        theirs = logits(outputs, self.readout)
        whole = outputs.shape[1] == graph_outputs.shape[1]  # else the network returns a mean, a sum or its last step
        kinds: tuple[Readout, ...] = (self.readout,) if whole or self.readout == "last" else ("sum", "mean")
        limit = 1e-3 * float(np.abs(theirs).max(initial=1e-30))
        return min(int(np.count_nonzero(np.abs(logits(graph_outputs, k) - theirs).max(axis=1) > limit)) for k in kinds)

    def split(self) -> dict[str, Any]:
        """Relative rms error and agreement of decisions of the readout, as each kind of rounding is added to the float network."""
        total = {k: np.concatenate(v) for k, v in self.stages.items()}
        rows = (("weight_rounding", "float", "weights"), ("payload_rounding", "weights", "payloads"), ("dynamics", "payloads", "integer"))
        return {
            name: {"logit_error": relative_rms(total[a], total[b], self.readout), "agreement": agreement(total[a], total[b], self.readout)}
            for name, a, b in rows
        }


def _execute(
    name: str, program: Program, payloads: Mapping[str, Array], kept: Mapping[str, Array], timeout_s: float, progress: Progress | None,
    preparing: Callable[[str], None] | None,
) -> BackendRecord:  # fmt: skip
    if name == "lava":
        steps = None if progress is None else (lambda done, of: progress("lava", done, of))
        found, seconds = run_lava(
            program.graph,
            program.schedule,
            payloads,
            timeout_s=timeout_s,
            progress=steps,
            preparing=preparing,
            plan_folder=program.plan_folder,
        )
    elif name == "onnx":
        samples = None if progress is None else (lambda done, of: progress("onnx", done, of))
        found, seconds = run_onnxruntime(program.graph, payloads, progress=samples)
    else:
        found, seconds = run_scheduled(program.graph, program.schedule, payloads), 0.0
    return compare_bits(name, program.graph, program.schedule, kept, found, seconds)


def default_input(graph: Graph, x: Array | Mapping[str, Array]) -> dict[str, Array]:
    """The samples by input; those of a network with one input need no name."""
    inputs = graph.of(IntInput)
    if isinstance(x, Mapping):
        return {n.name: x[n.name] for n in inputs}
    if len(inputs) != 1:
        raise fail("SNN604", f"the network has {len(inputs)} inputs: {', '.join(n.name for n in inputs)}", help="give every input by name")
    return {inputs[0].name: x}

"""The fourth level of equivalence: an executor against the integer reference, bit for bit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snncompile.backends.lava.backend import run_plan
from snncompile.backends.lava.interpreter import LavaInterpreter
from snncompile.backends.lava.plan import write_plan
from snncompile.ir.graph import Array, Graph
from snncompile.ir.integer import IntNeuron
from snncompile.ir.population import INTEGER_POPULATIONS
from snncompile.ir.reference import references
from snncompile.mapping.hops import run_hops
from snncompile.mapping.schedule import Schedule
from snncompile.verify.divergence import Divergence, first_difference

Steps = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class BackendRecord:
    """An executor's run: how many bits of payloads and membranes differ from the reference, and where first."""

    backend: str
    samples: int
    steps: int
    populations: int
    differing_bits: int
    compared_bits: int
    seconds: float
    first: Divergence | None = None

    def to_json(self) -> dict[str, Any]:
        """The object under ``backend`` of ``verify --json``."""
        plain = {k: getattr(self, k) for k in ("differing_bits", "compared_bits", "samples", "steps", "populations", "seconds")}
        return {**plain, "first_divergence": None if self.first is None else self.first.to_json()}


def run_lava(
    graph: Graph, schedule: Schedule, payloads: Mapping[str, Array], *, timeout_s: float, interpreter: LavaInterpreter | None = None,
    progress: Steps | None = None, preparing: Callable[[str], None] | None = None, plan_folder: Path | None = None,
) -> tuple[dict[str, Array], float]:  # fmt: skip
    """Payloads and membranes (``name`` and ``name.v``) of a run on Lava's simulator, and its wall time in seconds."""
    with tempfile.TemporaryDirectory(prefix="snncompile-") as scratch:
        folder = plan_folder
        if folder is None:
            folder = Path(scratch)
            write_plan(folder, graph, schedule)
        traces = run_plan(folder, payloads, timeout_s=timeout_s, interpreter=interpreter, progress=progress, preparing=preparing)
        out = {}
        for name, trace in traces.items():
            out[name], out[f"{name}.v"] = np.asarray(trace.payload), np.asarray(trace.membrane)
    return out, traces.seconds


def run_onnxruntime(graph: Graph, payloads: Mapping[str, Array], *, progress: Steps | None = None) -> tuple[dict[str, Array], float]:
    """Payloads and membranes (``name``, ``name.m``, ``name.v``) of a run of the step model on ONNX Runtime, and its wall time."""
    from snncompile.backends.onnx.runtime import run_onnx  # noqa: PLC0415 - the others do without onnx

    found, seconds = run_onnx(graph, payloads, progress=progress)
    return {ref: found[ref] for ref in references(graph)}, seconds


def run_scheduled(graph: Graph, schedule: Schedule, payloads: Mapping[str, Array]) -> dict[str, Array]:
    """Payloads and membranes of the reference's hop-accurate mode."""
    return run_hops(graph, schedule, payloads)


def compare_bits(
    backend: str, graph: Graph, schedule: Schedule, reference: Mapping[str, Array], found: Mapping[str, Array], seconds: float
) -> BackendRecord:
    """Compare every payload and every membrane of every population at every step: after the reset, and before it if the executor tells."""
    populations = sorted((n.name for n in graph.of(*INTEGER_POPULATIONS)), key=lambda name: schedule.depth[name])
    differing, compared = 0, 0
    firsts: list[Divergence] = []
    for name in populations:
        neuron = graph.by_name[name]
        assert isinstance(neuron, INTEGER_POPULATIONS)
        for ref, what in ((name, "payload"), (f"{name}.m", "membrane before the reset"), (f"{name}.v", "membrane")):
            if ref.endswith(".m") and (ref not in found or ref not in reference):
                continue
            theirs = found[ref].astype(np.int32)
            ours = reference[ref][: len(theirs)]
            flipped = ours ^ theirs
            differing += int(np.unpackbits(flipped[flipped != 0].view(np.uint8)).sum())
            compared += ours.size * (1 if neuron.fire == "step" and what == "payload" else 32)
            threshold = neuron.threshold if isinstance(neuron, IntNeuron) and neuron.fire == "step" else None
            first = first_difference(name, what, ours, theirs, threshold=threshold)
            if first is not None:
                firsts.append(first)
    first = min(firsts, key=lambda d: d.step) if firsts else None
    samples, steps = next(iter(found.values())).shape[:2]
    return BackendRecord(
        backend=backend, samples=samples, steps=steps, populations=len(populations), differing_bits=differing, compared_bits=compared,
        seconds=seconds, first=first,
    )  # fmt: skip

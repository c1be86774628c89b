"""The first level of equivalence: PyTorch against the captured float graph, population by population."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from snncompile.capture.capture import Captured
from snncompile.capture.driver import Driver, run
from snncompile.capture.roll import execute_rolled
from snncompile.errors import fail
from snncompile.ir.graph import Array
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Input
from snncompile.ir.neuron import Neuron, at_step

TOLERANCE = 1e-5


@dataclass(frozen=True, kw_only=True)
class CaptureRecord:
    """What the comparison found. Errors are relative to the largest membrane of the population; every population is fed with the
    spikes of the PyTorch run, so that one difference does not cascade. ``ties`` are spikes that differ where the membrane lies within
    float32 rounding of the threshold."""

    samples: int
    populations: int
    membrane_error: float
    output_error: float
    spikes: int
    differing_spikes: int
    ties: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def check_capture(captured: Captured, model: torch.nn.Module, x: Array) -> CaptureRecord:
    """Run samples ``x`` (N, T | 1, *shape) through both; raises CompileError SNN122 if they are not the same network."""
    graph, steps = captured.graph, captured.graph.steps
    ports = [
        (node, f"{captured.neuron_names[p.node]}{'.' if port else ''}{port}", factor, shift)
        for p in captured.populations
        for node, (port, factor, shift) in p.ports.items()
        if node in captured.rolled.nodes and factor != 0
    ]
    ports = [port for port in ports if port[1].partition(".")[0] in graph.by_name]
    seen = _torch_values(captured, x, [node for node, *_ in ports])
    values = {ref: (seen[node] - shift) / factor for node, ref, factor, shift in ports}
    values = {ref: v.reshape((*v.shape[:2], *graph.shape(ref))) for ref, v in values.items()}
    (source,) = graph.of(Input)
    payloads = {ref: v for ref, v in values.items() if "." not in ref}
    mine = interpret(graph, {source.name: x}, record=[*values, *(f"{n.name}.m" for n in graph.of(Neuron))], overrides=payloads)
    worst, spikes, differing, ties = 0.0, 0, 0, 0
    for ref, theirs in values.items():
        n = graph.node(ref)
        assert isinstance(n, Neuron)
        m = mine[f"{n.name}.m"]
        theta = np.stack([np.broadcast_to(at_step(n.theta, t), m.shape[2:]) for t in range(steps)])
        scale = float(max(np.abs(m).max(initial=0), np.abs(theta).max(initial=0), 1e-30))
        near = np.abs(m - theta) <= TOLERANCE * scale
        if n.grid:  # what rounding decides
            level = (m - theta) / n.grid
            near = np.abs(level - np.floor(level) - 0.5) <= TOLERANCE * scale / n.grid
        apart = mine[ref] - theirs
        if "." not in ref and n.spiking:
            spikes += apart.size
            differing += int(np.count_nonzero((apart != 0) & ~near))
            ties += int(np.count_nonzero((apart != 0) & near))
        else:
            ties += int(np.count_nonzero((apart != 0) & near)) if n.grid and "." not in ref else 0
            error = np.abs(np.where(near & (n.spiking or bool(n.grid)), 0.0, apart))
            worst = max(worst, float(error.max(initial=0)) / scale)
    record = CaptureRecord(
        samples=len(x), populations=len(payloads), membrane_error=worst, output_error=_output_error(captured, model, x, mine),
        spikes=spikes, differing_spikes=differing, ties=ties,
    )  # fmt: skip
    if worst > TOLERANCE or differing or (ties == 0 and record.output_error > TOLERANCE * 10):
        raise fail(
            "SNN122",
            "the captured graph does not compute what PyTorch computes",
            notes=[
                f"membrane error {worst:.3g} (allowed {TOLERANCE:g}), output error {record.output_error:.3g}, {differing} spikes differ"
            ],
            help="please report this network: a capture must be exact, or refused",
        )
    return record


def _torch_values(captured: Captured, x: Array, nodes: list[str]) -> dict[str, Array]:
    """The rolled operations in torch, sample by sample: ``{node: (N, T, ...)}``."""
    steps, driver = captured.graph.steps, captured.driver
    traces: dict[str, list[Array]] = {node: [] for node in nodes}
    for sample in x:
        frames = [driver.frame(torch.as_tensor(sample[t if len(sample) > 1 else 0], dtype=torch.float32)[None]) for t in range(steps)]
        history = execute_rolled(captured.rolled, frames, nodes)
        for node in nodes:
            traces[node].append(np.stack([now[node].double().numpy() for now in history]))
    return {node: np.stack(values) for node, values in traces.items()}


def _output_error(captured: Captured, model: torch.nn.Module, x: Array, mine: dict[str, Array]) -> float:
    """Largest error of an output of the whole network (payloads of PyTorch's run inside), relative to the output's largest value."""
    outs = predict(model, captured.driver, x, captured.graph.steps)
    worst = 0.0
    for k, (label, theirs) in enumerate(zip(captured.graph.outputs, outs, strict=True)):
        scale = float(np.abs(theirs).max(initial=1e-30))
        ours = mine[label]
        kind = captured.driver.reduced[k] if captured.driver.reduced else ""
        ours = ours.mean(axis=1) if kind == "mean" else ours.sum(axis=1) if kind == "sum" else ours
        worst = max(worst, float(np.abs(ours - theirs.reshape(ours.shape)).max(initial=0)) / scale)
    return worst


def predict(model: torch.nn.Module, driver: Driver, x: Array, steps: int, batch: int = 64) -> list[Array]:
    """Outputs of the PyTorch model on ``x`` (N, T | 1, *shape), as (N, T, ...)."""
    parts: list[list[Array]] = []
    for start in range(0, len(x), batch):
        chunk = torch.as_tensor(np.asarray(x[start : start + batch]), dtype=torch.float32)
        frames = chunk.transpose(0, 1).expand(steps, *chunk.shape[:1], *chunk.shape[2:])
        parts.append([y.transpose(0, 1).numpy() for y in run(model, driver, frames)])
    return [np.concatenate(ys) for ys in zip(*parts, strict=True)]

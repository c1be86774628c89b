"""The first level of equivalence: PyTorch against the captured float graph, population by population."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from snncompile.capture.capture import Captured
from snncompile.capture.driver import run
from snncompile.capture.observe import observe, tensors
from snncompile.capture.pristine import as_module
from snncompile.capture.replay import reduce
from snncompile.errors import fail
from snncompile.ir.graph import Array, node_of
from snncompile.ir.interpret import walk
from snncompile.ir.neuron import Neuron
from snncompile.ir.program import NeuronProgram

TOLERANCE = 1e-5
Model = torch.nn.Module | Callable[..., Any]
Samples = Array | Mapping[str, Array]


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


def check_capture(captured: Captured, model: Model, x: Samples) -> CaptureRecord:
    """Run samples ``x`` (by input, N, T | 1, *shape) through both; raises CompileError SNN122 if they are not the same network."""
    graph, x = captured.graph, by_input(captured, x)
    values = observe(captured, x)
    payloads = {ref: v for ref, v in values.items() if "." not in ref}
    judged = {f"{node_of(ref)}.{port}" for ref in values for port in ("m", "threshold")}
    outputs: dict[str, Array] = {}
    worst, spikes, differing, ties = 0.0, 0, 0, 0
    for mine in walk(graph, x, {*values, *judged, *graph.outputs.values()}, overrides=payloads):  # one population after the other
        outputs |= {label: mine[ref] for label, ref in graph.outputs.items() if ref in mine}
        for ref in [ref for ref in values if ref in mine]:
            theirs = values.pop(ref)
            n = graph.node(ref)
            assert isinstance(n, (Neuron, NeuronProgram))
            m, theta = mine[f"{n.name}.m"], mine[f"{n.name}.threshold"]
            scale = float(max(np.abs(m).max(initial=0), np.abs(theta).max(initial=0), 1e-30))
            near = np.abs(m - theta) <= TOLERANCE * scale
            grid = n.grid if isinstance(n, Neuron) else 0.0
            if grid:  # what rounding decides
                level = (m - theta) / grid
                near = np.abs(level - np.floor(level) - 0.5) <= TOLERANCE * scale / grid
            elif n.max_spikes > 1:  # any multiple of the threshold
                near = np.abs(m - np.rint(m / theta) * theta) <= TOLERANCE * scale
            apart = mine[ref] - theirs
            if "." not in ref and n.spiking:
                spikes += apart.size
                differing += int(np.count_nonzero((apart != 0) & ~near))
                ties += int(np.count_nonzero((apart != 0) & near))
            else:
                ties += int(np.count_nonzero((apart != 0) & near)) if grid and "." not in ref else 0
                error = np.abs(np.where(near & (n.spiking or bool(grid)), 0.0, apart))
                worst = max(worst, float(error.max(initial=0)) / scale)
    record = CaptureRecord(
        samples=len(next(iter(x.values()))), populations=len(payloads), membrane_error=worst,
        output_error=_output_error(captured, model, x, outputs), spikes=spikes, differing_spikes=differing, ties=ties,
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


def by_input(captured: Captured, x: Samples) -> dict[str, Array]:
    """Samples by input, in the network's order; a network with one input needs no name."""
    if not isinstance(x, Mapping):
        x = {captured.inputs[0]: x}
    missing = [name for name in captured.inputs if name not in x]
    if missing:
        raise fail(
            "SNN127", f"there are no samples for the network's input {missing[0]!r}",
            help=f"give one array for each of {', '.join(captured.inputs)}, by name",
        )  # fmt: skip
    return {name: np.asarray(x[name]) for name in captured.inputs}


def _output_error(captured: Captured, model: Model, x: Mapping[str, Array], mine: dict[str, Array]) -> float:
    """Largest error of an output of the whole network (payloads of PyTorch's run inside), relative to the output's largest value."""
    worst = 0.0
    for k, (label, theirs) in enumerate(zip(captured.graph.outputs, predict(captured, model, x), strict=True)):
        scale = float(np.abs(theirs).max(initial=1e-30))
        ours = reduce(mine[label], captured.driver.reduced[k] if captured.driver.reduced else "", axis=1)
        worst = max(worst, float(np.abs(ours - theirs.reshape(ours.shape)).max(initial=0)) / scale)
    return worst


def predict(captured: Captured, model: Model, x: Samples, batch: int = 64) -> list[Array]:
    """Outputs of the PyTorch model on ``x`` (by input, N, T | 1, *shape), as (N, T, ...).

    A network whose states are made for one sample (a buffer of batch 1) is run sample by sample.
    """
    given, module = by_input(captured, x), as_module(model)
    count = len(next(iter(given.values())))

    def outputs(start: int, stop: int) -> list[Array]:
        chunk = {name: v[start:stop] for name, v in given.items()}
        return [y.transpose(0, 1).double().numpy() for y in run(module, captured.driver, tensors(captured, chunk))]

    if count > 1:
        alone = [outputs(k, k + 1) for k in range(2)]
        if count == 2:
            return [np.concatenate(ys) for ys in zip(*alone, strict=True)]
        try:
            together = outputs(0, 2)
        except Exception:
            together = []
        alike = len(together) == len(alone[0]) and all(
            y.shape[0] == 2 and np.allclose(y, np.concatenate(pair), rtol=1e-3, atol=1e-4)
            for y, *pair in zip(together, *alone, strict=True)
        )
        batch = batch if alike else 1
    parts = [outputs(start, start + batch) for start in range(0, count, batch)]
    return [np.concatenate(ys) for ys in zip(*parts, strict=True)]

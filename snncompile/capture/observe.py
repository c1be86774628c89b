"""PyTorch's own values of every population: the recorded operations run in torch, step by step, and read where the neurons are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from snncompile.capture.capture import Captured
from snncompile.capture.driver import Inputs
from snncompile.capture.roll import execute_rolled
from snncompile.ir.graph import Array


def observe(captured: Captured, x: Mapping[str, Array], *, with_outputs: bool = False) -> dict[str, Array]:
    """Payloads and membranes by reference, ``(N, T, *shape)``, as far as PyTorch computes them somewhere: spikes as booleans.

    x             samples by input, (N, T | 1, *shape)
    with_outputs  also what the network's outputs refer to, if that is no population
    """
    graph = captured.graph
    ports = [
        (node, f"{captured.neuron_names[p.node]}{'.' if port else ''}{port}", factor, shift)
        for p in captured.populations
        for node, (port, factor, shift) in p.ports.items()
        if node in captured.rolled.nodes and factor != 0
    ]
    ports = [port for port in ports if port[1].partition(".")[0] in graph.by_name]
    outputs = list(zip(captured.rolled.outputs, graph.outputs.values(), strict=True)) if with_outputs else []
    seen = _values(captured, x, [node for node, *_ in ports] + [node for node, _ in outputs])
    values = {ref: seen[node] for node, ref in outputs}
    own: dict[str, Array] = {}
    for node, ref, factor, shift in ports:
        if "." in ref or ref not in own:  # the spike itself, and not what a straight-through estimator makes of it
            own[ref] = seen[node] if (factor, shift) == (1.0, 0.0) else (seen[node].astype(np.float64) - shift) / factor
    values |= own
    return {ref: v.reshape((*v.shape[:2], *graph.shape(ref))) for ref, v in values.items()}


def tensors(captured: Captured, chunk: Mapping[str, Array]) -> Inputs:
    """Samples ``(N, T | 1, *shape)`` as the driver takes them: ``(T, N, *shape)``."""
    steps, out = captured.graph.steps, []
    for values in chunk.values():
        y = torch.as_tensor(values, dtype=captured.driver.dtype).transpose(0, 1)
        out.append(y.expand(steps, *y.shape[1:]))
    return tuple(out)


def _values(captured: Captured, x: Mapping[str, Array], nodes: list[str]) -> dict[str, Array]:
    """The rolled operations in torch, sample by sample: ``{node: (N, T, ...)}``."""
    nodes = list(dict.fromkeys(nodes))  # a population may be an output, too
    traces: dict[str, list[Array]] = {node: [] for node in nodes}
    for k in range(len(next(iter(x.values())))):
        frames = captured.driver.frames(tensors(captured, {name: v[k : k + 1] for name, v in x.items()}))
        steps: dict[str, list[Array]] = {node: [] for node in nodes}
        for now in execute_rolled(captured.rolled, frames, nodes):
            for node in nodes:
                steps[node].append(_small(now[node].numpy()))
        for node in nodes:
            traces[node].append(np.stack(steps.pop(node)))
    return {node: np.stack(traces.pop(node)) for node in nodes}


def _small(value: Array) -> Array:
    """Zeros and ones as booleans, which hold them exactly; anything else as it is."""
    return value.astype(np.bool_) if not np.any((value != 0) & (value != 1)) else value


__all__ = ["observe", "tensors"]

"""The ranges of a program's registers in real numbers: proved for every input, and seen on calibration data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from snncompile.ir.graph import Array, Graph, Shape
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Diagonal
from snncompile.ir.neuron import at_step
from snncompile.ir.program import NeuronProgram
from snncompile.ir.program_steps import float_step
from snncompile.quantize.payload import Incoming
from snncompile.quantize.program.intervals import Found, Pair, Task, analyse, real_bounds, together

Range = tuple[float, float]


def lanes(array: Array, shape: Shape) -> Pair:
    """Smallest and largest value per channel of an array that broadcasts to the shape, each ``(C,)``."""
    full = np.broadcast_to(array, np.broadcast_shapes(array.shape, (1,) * len(shape)))
    rows = full.reshape(full.shape[0], -1)
    return rows.min(axis=1), rows.max(axis=1)


def input_range(ports: Sequence[Incoming]) -> Pair:
    """What the synapses of one current add up to at a step, in real units, per channel: for every payload."""
    low, high = np.zeros(1), np.zeros(1)
    for p in ports:
        zero = 0.0 if p.zero is None else p.zero
        ends: tuple[float, float] = (p.payload.low, p.payload.high)
        rows = p.weight.reshape(len(p.weight), -1)
        up, down = np.maximum(rows, 0.0), np.minimum(rows, 0.0)
        if p.zero is not None:
            reach = (min(ends) + float(np.min(zero)), max(ends) + float(np.max(zero)))
            ends = (min(reach[0], 0.0), max(reach[1], 0.0))  # padding is 0
        if isinstance(p.port.synapse, Diagonal):
            low = low + (up * ends[0] + down * ends[1]).min(axis=1)
            high = high + (up * ends[1] + down * ends[0]).max(axis=1)
        else:
            low = low + up.sum(axis=1) * ends[0] + down.sum(axis=1) * ends[1]
            high = high + up.sum(axis=1) * ends[1] + down.sum(axis=1) * ends[0]
    return low, high


def proved(n: NeuronProgram, inputs: Sequence[Pair], shape: Shape, steps: int) -> Found:
    """Bounds of every register for every input."""

    def given(t: int) -> dict[str, Pair]:
        env = {f"c{k}": lanes(at_step(c, t), shape) for k, c in enumerate(n.constants)}
        for k, ((low, high), gain, bias) in enumerate(zip(inputs, n.gain, n.bias, strict=True)):
            ends = [g * end for g in lanes(at_step(gain, t), shape) for end in (low, high)]
            shift = lanes(at_step(bias, t), shape)
            env[f"i{k}"] = (np.min(np.broadcast_arrays(*ends), axis=0) + shift[0], np.max(np.broadcast_arrays(*ends), axis=0) + shift[1])
        return together(env)

    return analyse(Task(
        code=n.instructions, given=given, states=tuple(lanes(v.astype(np.float64), shape) for v in n.initial), following=n.following,
        binary=n.binary, steps=steps, periodic=n.steps == 1, whole=False, apply=real_bounds,
    ))  # fmt: skip


def seen_ranges(graph: Graph, calibration: Mapping[str, Array] | None) -> dict[str, dict[str, Range]]:
    """Smallest and largest value of every register on the calibration data, by program; nothing without data."""
    programs = graph.of(NeuronProgram)
    if not programs or calibration is None:
        return {}
    found: dict[str, dict[str, Range]] = {n.name: {} for n in programs}
    samples = len(next(iter(calibration.values())))
    for start in range(0, samples, 32):
        refs = [ref for n in programs for ref in n.inputs]
        traces = interpret(graph, {k: v[start : start + 32] for k, v in calibration.items()}, record=refs)
        for n in programs:
            state: dict[str, Array] = {}
            ranges = found[n.name]
            for t in range(graph.steps):
                for name, value in float_step(n, [traces[ref][:, t] for ref in n.inputs], state, t).items():
                    a, b = ranges.get(name, (np.inf, -np.inf))
                    ranges[name] = (min(a, float(value.min())), max(b, float(value.max())))
    return found


__all__ = ["Range", "input_range", "lanes", "proved", "seen_ranges"]

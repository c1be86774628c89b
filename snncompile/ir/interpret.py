"""The float interpreter: what a float graph means, in float64.

It judges the passes (a graph before and after), the capture (graph against PyTorch) and the dynamics of a quantised program.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from snncompile.errors import InternalError
from snncompile.ir.conv import correlate
from snncompile.ir.graph import Array, Graph, Op, node_of, port_of
from snncompile.ir.linear_ops import Add, Affine, AvgPool2d, Conv2d, Delay, Diagonal, Gather, Input, Linear
from snncompile.ir.max_pool import MaxPool2d, maximum
from snncompile.ir.neuron import Fire, Neuron, Reset, at_step
from snncompile.ir.program import NeuronProgram
from snncompile.ir.program_steps import float_ports, float_step


def interpret(
    graph: Graph,
    inputs: Mapping[str, Array],
    *,
    record: Collection[str] = (),
    overrides: Mapping[str, Array] | None = None,
    steps: int | None = None,
) -> dict[str, Array]:
    """Run a float graph on a batch of samples, all states at their initial values.

    inputs     by input name, ``(N, T, *shape)``, or ``(N, 1, *shape)`` for a value that is constant over the steps
    record     value references to return beside the outputs
    overrides  by value reference, ``(N, T, *shape)``: readers see these values in place of the computed ones, and a population
               that spikes resets by them, while ``record`` still returns the computed ones; this makes every population follow
               another run's spikes, its own included, so that one difference does not cascade
    returns    ``{label or reference: (N, T, *shape)}`` in float64
    """
    total = graph.steps if steps is None else steps
    over = overrides or {}
    wanted = {**{r: r for r in record}, **graph.outputs}
    traces: dict[str, list[Array]] = {key: [] for key in wanted}
    batch = len(next(iter(inputs.values())))
    state: dict[str, Array] = {}
    for t in range(total):
        env: dict[str, Array] = {}
        seen: dict[str, Array] = {}
        for n in graph.nodes:
            forced = np.asarray(over[n.name][:, t], dtype=np.float64) if n.name in over else None
            for ref, value in _evaluate(n, graph, inputs, seen, state, t, batch, forced).items():
                env[ref] = value
                seen[ref] = np.asarray(over[ref][:, t], dtype=np.float64) if ref in over else value
        for n in graph.of(Delay):
            state[n.name] = seen[n.inputs[0]]
        for key, ref in wanted.items():
            traces[key].append(env[ref])
    return {key: np.stack(values, axis=1) for key, values in traces.items()}


def _evaluate(
    n: Op,
    graph: Graph,
    inputs: Mapping[str, Array],
    env: Mapping[str, Array],
    state: dict[str, Array],
    t: int,
    batch: int,
    forced: Array | None,
) -> dict[str, Array]:
    """All outputs of one node at step ``t``; a population of spikes resets by ``forced`` if given."""
    if isinstance(n, Input):
        data = inputs[n.name]
        return {n.name: np.asarray(data[:, t if data.shape[1] > 1 else 0], dtype=np.float64)}
    if isinstance(n, Delay):
        value = state.get(n.name)
        return {n.name: np.broadcast_to(n.initial, (batch, *n.size)).astype(np.float64) if value is None else value}
    args = [env[r] for r in n.inputs]
    if isinstance(n, Neuron):
        s, m, v, h = _step(n, args[0], state, t, forced if n.spiking else None)
        return {n.name: s, f"{n.name}.m": m, f"{n.name}.v": v, f"{n.name}.threshold": h}
    if isinstance(n, NeuronProgram):
        return float_ports(n, float_step(n, args, state, t, forced if n.spiking else None), args[0].shape)
    return {n.name: evaluate_stateless(n, args, t)}


def evaluate_stateless(n: Op, args: list[Array], t: int) -> Array:
    """The value of a node without state, on batched arguments."""
    if isinstance(n, Conv2d):
        y = correlate(args[0], n)
        return y if n.bias is None else y + at_step(n.bias, t)
    if isinstance(n, Linear):
        y = args[0].reshape(len(args[0]), -1) @ n.weight.T
        return y if n.bias is None else y + at_step(n.bias, t)
    if isinstance(n, Diagonal):
        return np.asarray(args[0] * n.weight)
    if isinstance(n, Affine):
        return np.asarray(at_step(n.factor, t) * args[0] + at_step(n.shift, t))
    if isinstance(n, Add):
        return np.asarray(sum(args[1:], start=args[0]))
    if isinstance(n, Gather):
        flat = args[0].reshape(len(args[0]), -1)
        return np.where(n.index < 0, 0, flat[:, np.maximum(n.index, 0)])
    if isinstance(n, AvgPool2d):
        return average(args[0], n)
    if isinstance(n, MaxPool2d):
        return maximum(args[0], n)
    raise InternalError(f"no float meaning for '{n.name}' ({n.kind})")


def average(x: Array, n: AvgPool2d) -> Array:
    """Window means of a batch ``(N, C, H, W)``."""
    pads = [(0, 0), (0, 0), (n.padding[0],) * 2, (n.padding[1],) * 2]

    def window_sums(values: Array) -> Array:
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, pads), n.kernel, axis=(2, 3))
        out: Array = windows[:, :, :: n.stride[0], :: n.stride[1]].sum(axis=(-1, -2))
        return out

    if n.count_include_pad:
        return window_sums(x) / (n.kernel[0] * n.kernel[1])
    return window_sums(x) / window_sums(np.ones_like(x[:1, :1]))


def _step(n: Neuron, current: Array, state: dict[str, Array], t: int, forced: Array | None) -> tuple[Array, Array, Array, Array]:
    """Equations of ``Neuron``, one step: payload, membrane before and after the reset, threshold in force."""
    v = state.get(n.name)
    if v is None:
        v = np.broadcast_to(n.v_init, current.shape).astype(np.float64)
    i = current
    if n.alpha is not None:
        before = state.get(f"{n.name}/i", np.zeros_like(current))
        now = at_step(n.alpha, t) * before + current
        state[f"{n.name}/i"] = now
        i = before if n.late_current else now
    m = at_step(n.leak, t) * v + at_step(n.gain, t) * i + at_step(n.bias, t)
    w = np.zeros_like(m) if n.adapt_jump is None else state.get(f"{n.name}/w", np.zeros_like(m))
    h = at_step(n.theta, t) + w
    s = fire(n, m, h)
    sent = s if forced is None else forced
    v = reset(n, m, sent, h, w, t)
    state[n.name] = v if n.v_min is None else np.maximum(v, at_step(n.v_min, t))
    if n.adapt_jump is not None and n.adapt_decay is not None:
        state[f"{n.name}/w"] = at_step(n.adapt_decay, t) * w + at_step(n.adapt_jump, t) * sent
    return s, m, state[n.name], h


def fire(n: Neuron, m: Array, h: Array) -> Array:
    """Payload of the membrane ``m`` before the reset, for the threshold ``h`` in force."""
    if n.max_spikes > 1:
        reached = np.floor(m / h) if n.fire is Fire.STEP_GE else np.ceil(m / h) - 1
        return np.asarray(np.clip(reached, 0, n.max_spikes))
    if n.fire is Fire.STEP_GE:
        return np.asarray(m >= h, dtype=np.float64)
    if n.fire is Fire.STEP_GT:
        return np.asarray(m > h, dtype=np.float64)
    if n.fire is Fire.RELU and n.grid:
        return np.asarray(np.clip(np.rint((m - h) / n.grid), 0, n.levels) * n.grid)
    return np.asarray(np.maximum(m - h, 0.0)) if n.fire is Fire.RELU else m


def reset(n: Neuron, m: Array, s: Array, h: Array, w: Array, t: int) -> Array:
    """Membrane after the reset."""
    if n.reset is Reset.SUBTRACT:
        return np.asarray(m - (at_step(n.reset_amount, t) + (w if n.adapt_reset else 0.0)) * s)
    if n.reset is Reset.SET:
        kept = 0.0 if n.reset_keep is None else at_step(n.reset_keep, t) * m
        return np.where(s > 0, kept + at_step(n.reset_value, t), m)
    if n.reset is Reset.CLAMP:
        return np.minimum(m, h)
    return m if n.reset is Reset.KEEP else np.zeros_like(m)


__all__ = ["average", "evaluate_stateless", "fire", "interpret", "node_of", "port_of", "reset"]

"""The float interpreter: what a float graph means, in float64.

It judges the passes (a graph before and after), the capture (graph against PyTorch) and the dynamics of a quantised program.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

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
    wanted = {**{r: r for r in record}, **graph.outputs}
    found: dict[str, Array] = {}
    for values in walk(graph, inputs, set(wanted.values()), overrides=overrides, steps=steps):
        found.update(values)
    return {key: found[ref] for key, ref in wanted.items()}


def walk(
    graph: Graph, inputs: Mapping[str, Array], wanted: Collection[str], *, overrides: Mapping[str, Array] | None = None,
    steps: int | None = None,
) -> Iterator[dict[str, Array]]:  # fmt: skip
    """As ``interpret``: the ``wanted`` values by reference, those of one node at a time, so that not all must be held at once."""
    total, over = graph.steps if steps is None else steps, overrides or {}
    order = _feedforward(graph, over)
    return _step_by_step(graph, inputs, wanted, over, total) if order is None else _node_by_node(order, inputs, wanted, over, total)


def _feedforward(graph: Graph, over: Mapping[str, Array]) -> list[Op] | None:
    """The nodes in an order in which each follows all that it reads, earlier steps included; None if there is feedback."""
    order: list[Op] = []
    done: set[str] = set()
    waiting = list(graph.nodes)
    while waiting:
        later = []
        for n in waiting:
            if all(r in over or node_of(r) in done for r in n.inputs):
                order.append(n)
                done.add(n.name)
            else:
                later.append(n)
        if len(later) == len(waiting):
            return None
        waiting = later
    return order


def _step_by_step(
    graph: Graph, inputs: Mapping[str, Array], wanted: Collection[str], over: Mapping[str, Array], total: int
) -> Iterator[dict[str, Array]]:
    """All nodes at step 0, at step 1, and so on: a graph with feedback."""
    traces: dict[str, list[Array]] = {ref: [] for ref in wanted}
    batch = len(next(iter(inputs.values())))
    state: dict[str, Array] = {}
    for t in range(total):
        env: dict[str, Array] = {}
        seen: dict[str, Array] = {}
        for n in graph.nodes:
            forced = np.asarray(over[n.name][:, t], dtype=np.float64) if n.name in over else None
            for ref, value in _evaluate(n, inputs, seen, state, t, batch, forced).items():
                env[ref] = value
                seen[ref] = np.asarray(over[ref][:, t], dtype=np.float64) if ref in over else value
        for n in graph.of(Delay):
            state[n.name] = seen[n.inputs[0]]
        for ref in wanted:
            traces[ref].append(env[ref])
    yield {ref: np.stack(values, axis=1) for ref, values in traces.items()}


def _node_by_node(
    order: list[Op], inputs: Mapping[str, Array], wanted: Collection[str], over: Mapping[str, Array], total: int
) -> Iterator[dict[str, Array]]:
    """Every node at all steps at once, ``(T, N, ...)``, or once, ``(1, N, ...)``, where all it depends on is constant over the steps."""
    batch = len(next(iter(inputs.values())))
    last = {ref: n.name for n in order for ref in n.inputs}
    env: dict[str, Array] = {}
    for n in order:
        args = [np.swapaxes(over[r][:, :total], 0, 1) if r in over else env[r] for r in n.inputs]
        for ref in {r for r in n.inputs if last[r] == n.name}:
            env.pop(ref, None)
        if isinstance(n, Input):
            data = np.asarray(inputs[n.name][:, :total], dtype=np.float64)
            values = {n.name: np.swapaxes(data, 0, 1)}
        elif isinstance(n, Delay):
            later = np.broadcast_to(args[0], (total, batch, *n.size))[: total - 1]
            values = {n.name: np.concatenate([np.broadcast_to(n.initial, (1, batch, *n.size)), later]).astype(np.float64)}
        elif isinstance(n, (Neuron, NeuronProgram)):
            values = _population(n, args, total, over.get(n.name), {*wanted, *(r for r in last if r not in over)})
        else:
            values = {n.name: _stateless(n, args, total)}
        yield {ref: np.swapaxes(np.broadcast_to(value, (total, *value.shape[1:])), 0, 1) for ref, value in values.items() if ref in wanted}
        env.update({ref: value for ref, value in values.items() if ref in last and ref not in over})


def _population(n: Neuron | NeuronProgram, args: list[Array], total: int, sent: Array | None, used: Collection[str]) -> dict[str, Array]:
    """The values of a population at all steps, as far as they are used."""
    found: dict[str, Array] = {}
    state: dict[str, Array] = {}
    for t in range(total):
        now = [np.asarray(a[t if len(a) > 1 else 0], dtype=np.float64) for a in args]
        forced = None if sent is None else np.asarray(sent[:, t], dtype=np.float64)
        for ref, value in _advance(n, now, state, t, forced).items():
            if ref in used:
                if t == 0:
                    found[ref] = np.empty((total, *value.shape))
                found[ref][t] = value
    return found


def _advance(n: Neuron | NeuronProgram, args: list[Array], state: dict[str, Array], t: int, forced: Array | None) -> dict[str, Array]:
    """All outputs of a population at step ``t``; one that spikes resets by ``forced`` if given."""
    forced = forced if n.spiking else None
    if isinstance(n, NeuronProgram):
        return float_ports(n, float_step(n, args, state, t, forced), args[0].shape)
    return {
        f"{n.name}{port}": value for port, value in zip(("", ".m", ".v", ".threshold"), _step(n, args[0], state, t, forced), strict=True)
    }


def _stateless(n: Op, args: list[Array], total: int) -> Array:
    """A node without state at all steps, or once."""
    if isinstance(n, Add):
        return evaluate_stateless(n, [np.asarray(a, dtype=np.float64) for a in args], 0)
    steps, batch = args[0].shape[:2]
    if isinstance(n, (Conv2d, Linear)) and n.bias is not None:
        sums = _stateless(replace(n, bias=None), args, total)
        return np.asarray(sums + n.bias[: total if len(n.bias) > 1 else 1, None])
    if n.steps > 1:
        return np.stack([evaluate_stateless(n, [np.asarray(args[0][t if steps > 1 else 0], dtype=np.float64)], t) for t in range(total)])
    x = args[0].reshape(steps * batch, *args[0].shape[2:])
    y = evaluate_stateless(n, [x if isinstance(n, Conv2d) else np.asarray(x, dtype=np.float64)], 0)
    return y.reshape(steps, batch, *y.shape[1:])


def _evaluate(
    n: Op,
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
    if isinstance(n, (Neuron, NeuronProgram)):
        return _advance(n, args, state, t, forced)
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


__all__ = ["average", "evaluate_stateless", "fire", "interpret", "node_of", "port_of", "reset", "walk"]

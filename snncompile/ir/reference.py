"""The integer reference: what an integer graph means, in plain NumPy. Every executor must agree with it bit for bit.

It trusts nothing: accumulators and membranes are checked against the formats that the graph's ``meta`` records
(``accumulator`` and ``membrane``, each ``[low, high]``), whatever the compiler proved. Matrix products run in floating point,
where whole numbers below 2**24 (float32) and 2**53 (float64) are exact; the bound is checked before every product.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from snncompile.errors import InternalError
from snncompile.ir.graph import Array, Graph, Op
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.linear_ops import Add, Conv2d, Delay, Diagonal, Gather, Linear
from snncompile.ir.neuron import Reset, at_step
from snncompile.ir.program import IntProgram
from snncompile.ir.program_steps import integer_step

State = dict[str, Array]


def run(
    graph: Graph,
    inputs: Mapping[str, Array],
    *,
    record: Collection[str] = (),
    steps: int | None = None,
    batch: int = 16,
) -> dict[str, Array]:
    """Run an integer graph on a batch of samples, each from the initial state.

    inputs   by input name, ``(N, T | 1, *shape)``: real values (floating dtype), or payloads (integer dtype)
    record   value references to return beside the outputs: ``("lif1", "lif1.m", "lif1.v")``; ``references(graph)`` for all
    batch    how many samples are in memory at a time
    returns  ``{label or reference: (N, T, *shape)}``, int32
    """
    total = graph.steps if steps is None else steps
    wanted = {**{ref: ref for ref in record}, **graph.outputs}
    samples = len(next(iter(inputs.values())))
    result = {key: np.empty((samples, total, *graph.shape(ref)), dtype=np.int32) for key, ref in wanted.items()}
    for start in range(0, samples, batch):
        chunk = {}
        for op in graph.nodes:
            if isinstance(op, IntInput):
                data = inputs[op.name][start : start + batch]
                chunk[op.name] = [quantise_input(op, data[:, t]) for t in range(data.shape[1])]
        state: State = {}
        for t in range(total):
            env = step(graph, {k: v[t if len(v) > 1 else 0] for k, v in chunk.items()}, state, t)
            for key, ref in wanted.items():
                result[key][start : start + batch, t] = env[ref]
    return result


def references(graph: Graph) -> list[str]:
    """Every population's payload, membrane before and after the reset."""
    return [ref for n in graph.of(IntNeuron, IntProgram) for ref in (n.name, f"{n.name}.m", f"{n.name}.v")]


def quantise_input(op: IntInput, x: Array) -> Array:
    """Payloads of real values:  clip(rint((x - offset) / lsb), low, high). Integer arrays are payloads already and are checked."""
    if np.issubdtype(x.dtype, np.integer) or x.dtype == np.bool_:
        payload = x.astype(np.int64)
        _check(payload, (op.low, op.high), f"payload of input '{op.name}'")
        return payload
    scaled = np.rint((x.astype(np.float64) - op.offset) / op.lsb)
    return np.clip(scaled, op.low, op.high).astype(np.int64)


def step(graph: Graph, payloads: Mapping[str, Array], state: State, t: int) -> dict[str, Array]:
    """One model step of the whole graph: all values by reference. ``state`` is changed; an empty one means step 0."""
    env: dict[str, Array] = {}
    for n in graph.nodes:
        if isinstance(n, IntInput):
            env[n.name] = payloads[n.name]
        elif isinstance(n, Delay):
            env[n.name] = state[n.name] if n.name in state else np.broadcast_to(n.initial, (_batch(payloads), *n.size)).astype(np.int64)
        elif isinstance(n, (IntNeuron, IntProgram)):
            env |= population_step(n, [env[r] for r in n.inputs], state, t, limits(graph))
        else:
            env[n.name] = _reuse_or_evaluate(n, [env[r] for r in n.inputs], state, limits(graph))
    for d in graph.of(Delay):
        state[d.name] = env[d.inputs[0]]
    return env


def limits(graph: Graph) -> dict[str, tuple[int, int]]:
    """The ranges of accumulators and membranes."""
    widest = (-(2**31) + 1, 2**31 - 1)
    return {key: (int(low), int(high)) for key in ("accumulator", "membrane") for low, high in [graph.meta.get(key, widest)]}


def population_step(
    n: IntNeuron | IntProgram, accumulators: list[Array], state: State, t: int, ranges: Mapping[str, tuple[int, int]]
) -> dict[str, Array]:
    """What a population sends and holds, by reference; programs: ``program_steps.integer_step``."""
    if isinstance(n, IntProgram):
        return integer_step(n, accumulators, state, t, ranges)
    return dict(zip((n.name, f"{n.name}.m", f"{n.name}.v"), neuron_step(n, accumulators, state, t, ranges), strict=True))


def neuron_step(
    n: IntNeuron, accumulators: list[Array], state: State, t: int, ranges: Mapping[str, tuple[int, int]]
) -> tuple[Array, Array, Array]:
    """Payload, membrane before and after the reset: the equations of ``IntNeuron``, one line each."""
    shape = accumulators[0].shape
    v = state[f"{n.name}/v"] if f"{n.name}/v" in state else np.broadcast_to(n.v_init, shape).astype(np.int64)
    a = sum((x << e for x, e in zip(accumulators[1:], n.exponents[1:], strict=True)), start=accumulators[0] << n.exponents[0])
    i = a
    if n.alpha is not None:
        before = state.get(f"{n.name}/i", np.zeros_like(a))
        state[f"{n.name}/i"] = now = decay(before, at_step(n.alpha, t), n.decay_bits) + a
        _check(now, ranges["membrane"], f"current of '{n.name}' at step {t}")
        i = before if n.late_current else now
    if n.gain is not None and n.gain_shift is not None:
        i = round_shift(i * at_step(n.gain, t), n.gain_shift)
    charge = decay(v, at_step(n.leak, t), n.decay_bits) + i
    m = charge + at_step(n.bias, t)
    w = state.get(f"{n.name}/w", np.zeros_like(m))
    h = at_step(n.threshold, t) + w
    if n.fire == "step" and n.spike_step is not None:
        payload = np.clip((m - h) // (at_step(n.spike_step, t) + w) + 1, 0, n.max_spikes)
    elif n.fire == "step":
        payload = (m >= h).astype(np.int64)
    elif n.fire == "relu":
        assert n.multiplier is not None
        assert n.shift is not None
        payload = np.clip(round_shift((m - h) * n.multiplier, n.shift), n.payload_min, n.payload_max)
    else:
        payload = m
    if n.reset is Reset.SUBTRACT:
        v = m - (at_step(n.reset_amount, t) + (w if n.adapt_reset else 0)) * payload
    elif n.reset is Reset.SET:
        kept = 0 if n.reset_keep is None else decay(m, at_step(n.reset_keep, t), n.decay_bits)
        v = np.where(payload > 0, kept + at_step(n.reset_value, t), m)
    elif n.reset is Reset.CLAMP:
        v = np.minimum(m, h)
    elif n.reset is Reset.KEEP:
        v = m
    else:
        v = np.zeros_like(m)
    if n.v_min is not None:
        v = np.maximum(v, at_step(n.v_min, t))
    if n.adapt_jump is not None and n.adapt_decay is not None:
        state[f"{n.name}/w"] = after = decay(w, at_step(n.adapt_decay, t), n.decay_bits) + at_step(n.adapt_jump, t) * payload
        _check(after, ranges["membrane"], f"threshold's adaptation of '{n.name}' at step {t}")
    for label, value in (("input", a), ("charge", charge), ("membrane before reset", m), ("membrane", v)):
        _check(value, ranges["membrane"], f"{label} of '{n.name}' at step {t}")
    state[f"{n.name}/v"] = v
    return payload, m, v


def decay(x: Array, q: Array, bits: int) -> Array:
    """x * q / 2**bits, truncated toward zero."""
    return np.asarray(np.sign(x) * np.sign(q) * ((np.abs(x) * np.abs(q)) >> bits))


def round_shift(x: Array, shift: Array) -> Array:
    """x / 2**shift, nearest, ties to even; a shift of 0 leaves x."""
    floor = x >> shift
    twice_rest, unit = (x - (floor << shift)) << 1, np.left_shift(1, shift)
    return np.asarray(floor + ((twice_rest > unit) | ((twice_rest == unit) & (floor & 1 == 1))))


def _reuse_or_evaluate(n: Op, args: list[Array], state: State, ranges: Mapping[str, tuple[int, int]]) -> Array:
    """A static image passes the same arrays at every step, so the first layer's sums need computing only once."""
    keys = [f"{n.name}/arg{k}" for k in range(len(args))]
    if f"{n.name}/out" in state and all(state[k] is a for k, a in zip(keys, args, strict=True)):
        return state[f"{n.name}/out"]
    out = synapse(n, args, ranges)
    state.update(zip(keys, args, strict=True))
    state[f"{n.name}/out"] = out
    return out


def synapse(n: Op, args: list[Array], ranges: Mapping[str, tuple[int, int]]) -> Array:
    """Accumulators (or wired payloads) of one node, on batched payloads."""
    x = args[0]
    if isinstance(n, Gather):
        return np.where(n.index < 0, 0, x.reshape(len(x), -1)[:, np.maximum(n.index, 0)])
    if isinstance(n, Conv2d):
        y = _convolve(x, n)
    elif isinstance(n, Linear):
        kind = _float_for(n.weight, x)
        y = (x.reshape(len(x), -1).astype(kind) @ n.weight.T.astype(kind)).astype(np.int64)
    elif isinstance(n, Diagonal):
        y = x * n.weight.astype(np.int64)
    elif isinstance(n, Add):
        y = np.asarray(sum(args[1:], start=args[0]))
    else:
        raise InternalError(f"no integer meaning for '{n.name}' ({n.kind})")
    _check(y, ranges["accumulator"], f"accumulator of '{n.name}'")
    return y


def _convolve(x: Array, n: Conv2d) -> Array:
    """Cross-correlation: gather each kernel tap's pixels, then one matrix product per group."""
    top, bottom, left, right = n.padding
    x = x[:, :, max(-top, 0) : x.shape[2] - max(-bottom, 0), max(-left, 0) : x.shape[3] - max(-right, 0)]
    x = np.pad(x, [(0, 0), (0, 0), (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))]).swapaxes(0, 1)
    out, per_group, kh, kw = n.weight.shape
    (sh, sw), (dh, dw) = n.stride, n.dilation
    p, q = (x.shape[2] - dh * (kh - 1) - 1) // sh + 1, (x.shape[3] - dw * (kw - 1) - 1) // sw + 1
    weight = n.weight.reshape(n.groups, out // n.groups, -1)
    taps = np.empty((x.shape[0], kh * kw, x.shape[1], p, q), dtype=_float_for(weight, x))
    for h in range(kh):
        for w in range(kw):
            taps[:, h * kw + w] = x[:, :, h * dh : h * dh + sh * (p - 1) + 1 : sh, w * dw : w * dw + sw * (q - 1) + 1 : sw]
    y = np.matmul(weight.astype(taps.dtype), taps.reshape(n.groups, per_group * kh * kw, -1))
    return np.asarray(y.reshape(out, x.shape[1], p, q).swapaxes(0, 1).astype(np.int64, order="C"))


def _float_for(weight: Array, x: Array) -> type[np.floating[Any]]:
    """The narrowest float that holds every partial sum of products exactly."""
    bound = float(np.abs(weight.astype(np.float64)).sum(axis=-1).max(initial=0)) * float(np.abs(x).max(initial=0))
    if bound >= 2**53:
        raise InternalError(f"a sum of up to {bound:g} is not exact in float64")
    return np.float32 if bound < 2**24 else np.float64


def _check(values: Array, allowed: tuple[int, int], what: str) -> None:
    if values.size and (values.min() < allowed[0] or values.max() > allowed[1]):
        raise InternalError(f"{what} reaches {values.min()}..{values.max()}, its format holds {allowed[0]}..{allowed[1]}")


def _batch(payloads: Mapping[str, Array]) -> int:
    return len(next(iter(payloads.values())))


__all__ = ["decay", "limits", "neuron_step", "population_step", "quantise_input", "references", "round_shift", "run", "step", "synapse"]

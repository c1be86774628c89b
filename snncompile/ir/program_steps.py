"""One step of a neuron program: real numbers for the float interpreter, integers for the reference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from snncompile.errors import InternalError
from snncompile.ir.graph import Array
from snncompile.ir.neuron import at_step
from snncompile.ir.program import IntProgram, NeuronProgram
from snncompile.ir.program_code import OPERATIONS, Instruction, evaluate, registers
from snncompile.numerics import multiply_shift

State = dict[str, Array]


def float_step(n: NeuronProgram, inputs: list[Array], state: State, t: int, forced: Array | None = None) -> dict[str, Array]:
    """All registers of a step in float64, by name; ``state`` is changed, and an empty one means step 0.

    forced  what everything but the payload's own port sees as the spike
    """
    shape = inputs[0].shape
    currents = [at_step(g, t) * x + at_step(b, t) for x, g, b in zip(inputs, n.gain, n.bias, strict=True)]
    states = [state.get(f"{n.name}/z{k}", np.broadcast_to(v, shape).astype(np.float64)) for k, v in enumerate(n.initial)]
    env = registers(currents, states, [at_step(c, t) for c in n.constants])
    computed = env.get(n.payload)
    for made in n.instructions:
        env[made.target] = evaluate(made, [env[a] for a in made.args])
        if made.target == n.payload:
            computed = env[made.target]
            if forced is not None:
                env[made.target] = forced
    for k, name in enumerate(n.following):
        state[f"{n.name}/z{k}"] = np.broadcast_to(env[name], shape)
    assert computed is not None
    return {**env, n.payload: np.broadcast_to(computed, shape)}


def float_ports(n: NeuronProgram, env: Mapping[str, Array], shape: tuple[int, ...]) -> dict[str, Array]:
    """The values that readers of a population see, and the threshold in force."""
    m = np.broadcast_to(env[n.membrane], shape)
    v = np.broadcast_to(env[n.following[0]], shape) if n.following else m
    h = np.broadcast_to(env[n.threshold], shape) if n.threshold else np.zeros(shape)
    return {n.name: env[n.payload], f"{n.name}.m": m, f"{n.name}.v": v, f"{n.name}.threshold": h}


def integer_step(n: IntProgram, accumulators: list[Array], state: State, t: int, ranges: Mapping[str, tuple[int, int]]) -> dict[str, Array]:
    """Payload, membrane, first state and saturations of a step, by reference; ``state`` is changed, and an empty one means step 0."""
    shape, low_high = accumulators[0].shape, ranges["membrane"]
    currents = []
    for k, (gain, shift, bias) in enumerate(zip(n.gain, n.gain_shift, n.bias, strict=True)):
        parts = [x << e for x, e, c in zip(accumulators, n.exponents, n.currents, strict=True) if c == k]
        currents.append(multiply_shift(sum(parts[1:], start=parts[0]), at_step(gain, t), shift) + at_step(bias, t))
        _check(currents[-1], low_high, f"current {k} of '{n.name}' at step {t}")
    states = [state.get(f"{n.name}/z{k}", np.broadcast_to(v, shape).astype(np.int64)) for k, v in enumerate(n.initial)]
    env = registers(currents, states, [at_step(c, t).astype(np.int64) for c in n.constants])
    saturated = np.zeros(shape, dtype=np.int64)
    for made in n.instructions:
        args = [env[a] for a in made.args]
        value = execute(n, made, args)
        if made.saturates:
            limited = np.clip(value, *low_high)
            saturated = saturated + ((limited != value) | beyond(n, made, args[0], low_high))
            value = limited
        _check(value, low_high, f"'{made}' of '{n.name}' at step {t}")
        env[made.target] = value
    for k, name in enumerate(n.following):
        state[f"{n.name}/z{k}"] = np.broadcast_to(env[name], shape)
    payload = np.clip(multiply_shift(env[n.payload], 1, n.payload_shift), n.payload_min, n.payload_max)
    m = np.broadcast_to(env[n.membrane], shape)
    v = np.broadcast_to(env[n.following[0]], shape) if n.following else m
    return {n.name: np.broadcast_to(payload, shape), f"{n.name}.m": m, f"{n.name}.v": v, f"{n.name}.saturated": saturated}


def execute(n: IntProgram, made: Instruction, args: list[Array]) -> Array:
    """One instruction on integers, before any saturation."""
    a, *rest = [x << k for x, k in zip(args, made.lefts, strict=True)]
    if made.op == "table":
        return interpolate(n, made.table, a)
    value = np.asarray(OPERATIONS[made.op](a, *rest), dtype=np.int64)
    return multiply_shift(value, 1, made.right) if made.right else value


def beyond(n: IntProgram, made: Instruction, x: Array, low_high: tuple[int, int]) -> Array:
    """Where a table is read beyond its ends, or at values that had no room in the format."""
    if made.op != "table":
        return np.zeros((), dtype=bool)
    low, high = n.table_low[made.table], n.table_low[made.table] + ((n.tables[made.table].size - 1) << n.table_shift[made.table])
    return np.asarray((x < low) | (x > high) | (np.abs(interpolate(n, made.table, x)) >= low_high[1]))


def interpolate(n: IntProgram, k: int, x: Array) -> Array:
    """A table between its knots, as a straight line; beyond its ends the value at the end."""
    y, low, shift = n.tables[k].astype(np.int64), n.table_low[k], n.table_shift[k]
    entries = y.size - 1
    p = np.clip(x - low, 0, entries << shift)
    j = np.minimum(p >> shift, entries - 1)
    return np.asarray(y[j] + multiply_shift((y[j + 1] - y[j]) * (p - (j << shift)), 1, shift))


def _check(values: Array, allowed: tuple[int, int], what: str) -> None:
    if values.size and (values.min() < allowed[0] or values.max() > allowed[1]):
        raise InternalError(f"{what} reaches {values.min()}..{values.max()}, its format holds {allowed[0]}..{allowed[1]}")


__all__ = ["execute", "float_ports", "float_step", "integer_step", "interpolate"]

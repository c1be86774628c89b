"""From an integer graph and its schedule to the plan that the Lava runner executes.

The plan is data only: ``plan.json`` names shapes, synapses, neurons and hardware delays, tensors lie in ``.npy`` files. Its meaning
is written down in the runner's ``snn_processes/plan.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from snncompile.errors import InternalError, fail
from snncompile.ir.graph import Array, Graph, Shape, port_of
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.linear_ops import Conv2d, Linear
from snncompile.ir.population import INTEGER_POPULATIONS, Port, ports
from snncompile.ir.program import IntProgram
from snncompile.ir.reference import limits, synapse
from snncompile.mapping.schedule import Schedule

Store = Callable[[str, Array], str]
FIELDS = ("leak", "bias", "threshold", "reset_amount", "reset_value")
OPTIONAL = (
    "alpha", "v_init", "gain", "gain_shift", "multiplier", "shift", "spike_step", "reset_keep", "v_min", "adapt_decay", "adapt_jump",
)  # fmt: skip
SCHEMA = 4


def write_plan(folder: Path, graph: Graph, schedule: Schedule, store: Store | None = None) -> None:
    """Write ``plan.json`` and its tensors into ``folder``.

    ``store(key, array)`` keeps a tensor called ``<node>.<field>`` and returns its path relative to ``folder``; by default the
    tensors are written into ``folder`` itself, in the smallest integer type that holds them.
    """
    keep = store or _store_in(folder)
    populations = [n for n in graph.nodes if isinstance(n, INTEGER_POPULATIONS)]
    decay_bits = {n.decay_bits for n in populations if isinstance(n, IntNeuron)} or {0}
    if len(decay_bits) != 1:
        raise InternalError(f"populations disagree on the fraction bits of a leak: {sorted(decay_bits)}")
    plan = {
        "schema": SCHEMA,
        "steps": graph.steps,
        "initiation_interval": schedule.initiation_interval,
        "decay_bits": decay_bits.pop(),
        "membrane": _range(graph, "membrane"),
        "payload": _range(graph, "payload"),
        "inputs": [
            {"name": n.name, "shape": list(n.size), "depth": schedule.depth[n.name]} for n in graph.nodes if isinstance(n, IntInput)
        ],
        "populations": [
            program_row(graph, schedule, n, keep) if isinstance(n, IntProgram) else _population(graph, schedule, n, keep)
            for n in populations
        ],
        "outputs": sorted({ref.partition(".")[0] for ref in graph.outputs.values()}),
    }
    (folder / "plan.json").write_text(json.dumps(plan, indent=1, sort_keys=True) + "\n")


def smallest(array: Array) -> Array:
    """The same integers in the smallest type that holds them."""
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    for kind in (np.int8, np.uint8, np.int16, np.uint16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return array.astype(kind)
    return array.astype(np.int64)


def _store_in(folder: Path) -> Store:
    def store(key: str, array: Array) -> str:
        np.save(folder / f"{key}.npy", smallest(array), allow_pickle=False)
        return f"{key}.npy"

    return store


def _range(graph: Graph, key: str) -> dict[str, int]:
    low, high = graph.meta[key]
    return {"low": int(low), "high": int(high)}


def _population(graph: Graph, schedule: Schedule, n: IntNeuron, keep: Store) -> dict[str, Any]:
    shape = graph.shape(n.name)
    incoming = ports(graph, n)
    bias = _with_initial_payloads(graph, n, incoming, shape)
    fields = {f: keep(f"{n.name}.{f}", bias if f == "bias" else getattr(n, f)) for f in FIELDS}
    optional = {f: None if (value := getattr(n, f)) is None else keep(f"{n.name}.{f}", value) for f in OPTIONAL}
    return {
        "name": n.name,
        "shape": list(shape),
        "depth": schedule.depth[n.name],
        "ports": [_port(graph, schedule, p, e, keep) for p, e in zip(incoming, n.exponents, strict=True)],
        "neuron": {
            "fire": n.fire, "reset": n.reset.value, **fields, **optional, "late_current": n.late_current,
            "payload_min": n.payload_min, "payload_max": n.payload_max, "max_spikes": n.max_spikes, "adapt_reset": n.adapt_reset,
        },
    }  # fmt: skip


def _with_initial_payloads(graph: Graph, n: IntNeuron, incoming: tuple[Port, ...], shape: Shape) -> Array:
    """The bias, to which the initial payloads of delayed ports add what they contribute in the first steps of a sample.

    A plan's delayed port contributes nothing before its first payload; a payload that starts at another value than 0 adds a
    constant to the accumulator, which is a constant of those steps' bias.
    """
    bias = n.bias
    for port, exponent in zip(incoming, n.exponents, strict=True):
        first = initial_accumulators(graph, port)
        if first is None:
            continue
        if n.alpha is not None or n.gain is not None:
            raise fail(
                "SNN511",
                f"'{n.name}' filters or scales a current that starts from a non-zero delayed value, which Lava's plan cannot say",
                loc=n.loc,
            )
        grown = np.broadcast_to(bias, (graph.steps, *np.broadcast_shapes(bias.shape[1:], shape))).copy()
        grown[: len(first)] += first[: graph.steps] << exponent
        bias = grown
    return bias


def initial_accumulators(graph: Graph, port: Port) -> Array | None:
    """What a delayed port adds up to before its first payload, (delays, *shape); None if that is 0."""
    initials = [np.broadcast_to(d.initial, d.size) for d in port.delays]
    if not any(np.any(v) for v in initials):
        return None
    found = []
    for initial in reversed(initials):
        value = initial[None].astype(np.int64)
        if port.gather is not None:
            value = np.where(port.gather.index < 0, 0, value.reshape(1, -1)[:, np.maximum(port.gather.index, 0)])
        found.append(synapse(port.synapse, [value], limits(graph))[0].astype(np.int64))
    return np.stack(found)


def program_row(graph: Graph, schedule: Schedule, n: IntProgram, keep: Store) -> dict[str, Any]:
    """A neuron program: its instructions as data."""
    rows = []
    for p, e, current in zip(ports(graph, n), n.exponents, n.currents, strict=True):
        first = initial_accumulators(graph, p)
        initial = None if first is None else keep(f"{p.synapse.name}.initial", first)
        rows.append({**_port(graph, schedule, p, e, keep), "current": current, "initial": initial})

    def stored(label: str, arrays: tuple[Array, ...]) -> list[str]:
        return [keep(f"{n.name}.{label}.{k}", array) for k, array in enumerate(arrays)]

    tables = zip(stored("tables", n.tables), n.table_low, n.table_shift, strict=True)
    return {
        "name": n.name, "shape": list(graph.shape(n.name)), "depth": schedule.depth[n.name], "ports": rows,
        "program": {
            "gains": stored("gain", n.gain), "shifts": list(n.gain_shift), "biases": stored("bias", n.bias),
            "constants": stored("constants", n.constants), "initial": stored("initial", n.initial),
            "tables": [{"values": values, "low": low, "shift": shift} for values, low, shift in tables],
            "code": [
                {"target": i.target, "op": i.op, "args": list(i.args), "lefts": list(i.lefts), "right": i.right,
                 "saturates": i.saturates, "table": i.table} for i in n.instructions
            ],
            "payload": n.payload, "payload_shift": n.payload_shift, "payload_min": n.payload_min, "payload_max": n.payload_max,
            "membrane": n.membrane, "following": list(n.following),
        },
    }  # fmt: skip


def _port(graph: Graph, schedule: Schedule, port: Port, exponent: int, keep: Store) -> dict[str, Any]:
    op = port.synapse
    if port_of(op.inputs[0]):
        raise InternalError(f"'{op.name}' reads a membrane, not a payload")
    row: dict[str, Any] = {
        "source": port.source.name,
        "gather": None if port.gather is None else keep(f"{port.gather.name}.index", port.gather.index.astype(np.int32)),
        "kind": op.kind,
        "weight": keep(f"{op.name}.weight", op.weight if isinstance(op, (Conv2d, Linear)) else np.asarray(op.weight)),
        "exponent": exponent,
        "model_delay": schedule.model_delay[op.name],
        "hop_delay": schedule.hop_delay[op.name],
    }
    if isinstance(op, Conv2d):
        row |= {"stride": list(op.stride), "padding": list(op.padding), "dilation": list(op.dilation), "groups": op.groups}
    return row

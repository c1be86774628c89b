"""A population's neurons alone, run on given currents: cheap to repeat with one thing changed, which is how a cause is tested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from snncompile.ir import reference
from snncompile.ir.graph import Array, Dialect, Graph
from snncompile.ir.integer import IntNeuron
from snncompile.ir.interpret import interpret
from snncompile.ir.neuron import Neuron, at_step, constant
from snncompile.quantize.constants import aligned
from snncompile.verify.unit import ANY_INTEGER, Trace, Unit, any_input, currents

ANY_RANGE = dict.fromkeys(("accumulator", "membrane"), (-ANY_INTEGER, ANY_INTEGER))


@dataclass(frozen=True, kw_only=True, eq=False)
class Response:
    """A population and what drives it.

    linear   current by source (by all of them at once where they cannot be told apart), (N, T, *shape)
    offset   current without any input, (N, T, *shape); a float neuron without a synaptic filter has its bias in here
    grid     step that payloads are rounded to afterwards, 0 for none        ceiling  limits of a payload afterwards, if any

    What an integer executor may do in its own way, to test whether one did:
    decay    "" as defined, or "nearest", "floor", "keep" (no decay)         rounding of a graded payload: "", "floor", "half up"
    membrane limits of the membrane, if it saturates
    """

    neuron: Neuron | IntNeuron
    linear: Mapping[str, Array]
    offset: Array
    grid: float = 0.0
    ceiling: tuple[float, float] | None = None
    decay: str = ""
    rounding: str = ""
    membrane: tuple[int, int] | None = None

    @property
    def current(self) -> Array:
        """Everything that reaches the neurons."""
        return np.asarray(sum(self.linear.values(), start=self.offset))


def respond(unit: Unit, values: Mapping[str, Array]) -> Response:
    """Split the current of a population on these inputs into what each source gives and what is there without input."""
    silent = {label: np.zeros_like(x) for label, x in values.items()}
    offset = currents(unit, silent)
    if len(values) > 1 and unit.divisible:
        linear = {label: currents(unit, {**silent, label: x}) - offset for label, x in values.items()}
    else:
        linear = {"+".join(values): currents(unit, values) - offset}
    assert isinstance(unit.neuron, (Neuron, IntNeuron))
    return _plain(Response(neuron=unit.neuron, linear=linear, offset=offset))


def _plain(r: Response) -> Response:
    """Bring a float population to gain 1 and, without a synaptic filter, bias 0: two spellings of a network become one."""
    n = r.neuron
    if not isinstance(n, Neuron) or (n.alpha is not None and n.gain.shape[0] > 1):
        return r
    none, ndim = constant(0.0), r.offset.ndim - 2
    gain = over_time(n.gain, ndim)
    linear = {label: gain * x for label, x in r.linear.items()}
    if n.alpha is not None:
        return Response(neuron=replace(n, gain=constant(1.0)), linear=linear, offset=gain * r.offset)
    offset = np.broadcast_to(gain * r.offset + over_time(n.bias, ndim), r.offset.shape)
    return Response(neuron=replace(n, gain=constant(1.0), bias=none), linear=linear, offset=offset)


def over_time(field: Array, ndim: int) -> Array:
    """A per-step field ``(1 | T, ...)`` so that it broadcasts to (N, T, *shape)."""
    return aligned(field, ndim)[None]


def replay(r: Response, sent: Array | None = None) -> Trace:
    """Run the neurons; a population of float spikes resets by ``sent`` if given."""
    found = _integer(r) if isinstance(r.neuron, IntNeuron) else _real(r, sent)
    payload = found.payload
    if r.grid:
        payload = np.rint(payload / r.grid) * r.grid
    if r.ceiling is not None:
        payload = np.clip(payload, *r.ceiling)
    return replace(found, payload=payload)


def _real(r: Response, sent: Array | None) -> Trace:
    n = r.neuron
    assert isinstance(n, Neuron)
    alone = replace(n, inputs=("current",))
    steps, shape = r.offset.shape[1], r.offset.shape[2:]
    nodes = (any_input("current", shape, integer=False), alone)
    graph = Graph(name=n.name, dialect=Dialect.FLOAT, nodes=nodes, outputs={"payload": n.name}, steps=steps)
    refs = [n.name, *(f"{n.name}.{port}" for port in ("m", "v", "threshold"))]
    forced = {} if sent is None or not n.spiking else {n.name: sent}
    seen = interpret(graph, {"current": r.current}, record=refs, overrides=forced)
    return Trace(payload=seen[n.name], m=seen[refs[1]], v=seen[refs[2]], threshold=seen[refs[3]])


def _integer(r: Response) -> Trace:
    n = r.neuron
    assert isinstance(n, IntNeuron)
    if r.decay or r.rounding or r.membrane is not None:
        return own_way(n, r.current.astype(np.int64), decay=r.decay, rounding=r.rounding, limits=r.membrane)
    alone = replace(n, inputs=("current",), exponents=(0,))
    steps, shape = r.offset.shape[1], r.offset.shape[2:]
    source = any_input("current", shape, integer=True)
    graph = Graph(name=n.name, dialect=Dialect.INTEGER, nodes=(source, alone), outputs={"payload": n.name}, steps=steps)
    refs = [n.name, f"{n.name}.m", f"{n.name}.v"]
    seen = reference.run(graph, {"current": r.current.astype(np.int64)}, record=refs)
    return Trace(payload=seen[refs[0]], m=seen[refs[1]], v=seen[refs[2]])


def own_way(n: IntNeuron, a: Array, *, decay: str, rounding: str, limits: tuple[int, int] | None) -> Trace:
    """The reference's step with another decay, another rounding of payloads, or membranes that saturate.

    Raises NotImplementedError for neurons beyond the plain one (a synaptic current, a gain, an adaptive threshold).
    """
    if n.alpha is not None or n.gain is not None or n.adapt_jump is not None:
        raise NotImplementedError(n.name)
    v = np.broadcast_to(n.v_init, a[:, 0].shape).astype(np.int64)
    low, high = limits or (-ANY_INTEGER, ANY_INTEGER)
    payloads: list[Array] = []
    before: list[Array] = []
    after: list[Array] = []
    for t in range(a.shape[1]):
        m = np.clip(_decay(v, at_step(n.leak, t), n.decay_bits, decay) + a[:, t] + at_step(n.bias, t), low, high)
        h = at_step(n.threshold, t)
        # the neuron of the reference does the rest: it gets m as its current, and nothing to decay
        done = replace(n, leak=np.zeros_like(n.leak), bias=np.zeros_like(n.bias), inputs=("current",), exponents=(0,))
        state: reference.State = {}
        payload, _, v = reference.neuron_step(done, [m], state, t, ANY_RANGE)
        if n.fire == "relu" and rounding and n.multiplier is not None and n.shift is not None:
            product = (m - h) * n.multiplier
            half = np.left_shift(1, np.maximum(n.shift - 1, 0)) * (n.shift > 0) if rounding == "half up" else 0
            payload = np.clip((product + half) >> n.shift, n.payload_min, n.payload_max)
        v = np.clip(v, low, high)
        for trace, value in ((payloads, payload), (before, m), (after, v)):
            trace.append(value)
    return Trace(payload=np.stack(payloads, 1), m=np.stack(before, 1), v=np.stack(after, 1))


def _decay(v: Array, q: Array, bits: int, mode: str) -> Array:
    if mode == "keep":
        return v
    if mode == "floor":
        return np.asarray((v * q) >> bits)
    return reference.round_shift(v * q, np.asarray(bits)) if mode == "nearest" else reference.decay(v, q, bits)


__all__ = ["Response", "over_time", "own_way", "replay", "respond"]

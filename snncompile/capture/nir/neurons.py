"""NIR's neurons as the float neuron normal form, under a dialect's conventions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from snncompile.capture.nir.choices import Choices
from snncompile.capture.nir.layers import carried
from snncompile.capture.nir.nodes import RawNode
from snncompile.capture.nir.numbers import compact, short
from snncompile.capture.nir.schema import SPIKING
from snncompile.errors import fail
from snncompile.ir.graph import Array, Shape
from snncompile.ir.neuron import Fire, Neuron, Reset

MANY_SPIKES = 1 << 16
FLOAT32 = 4 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Params:
    """The fields of a neuron node, float64, in the shape in which its population is carried."""

    node: RawNode
    nir_shape: Shape

    @property
    def shape(self) -> Shape:
        """The population's shape here."""
        return carried(self.nir_shape)

    def __getitem__(self, name: str) -> Array:
        value = np.asarray(self.node.fields.get(name, 1.0 if name == "w_in" else 0.0), dtype=np.float64)
        full = np.full(self.nir_shape, value.flat[0]) if value.size == 1 else np.broadcast_to(value, self.nir_shape)
        out: Array = full.reshape(self.shape)
        return out


def make_neuron(node: RawNode, name: str, source: str, shape: Shape, choices: Choices) -> Neuron:
    """The population that a node of type Threshold, I, LI, IF, LIF, CubaLI or CubaLIF is.

        i[t] = A * i[t-1] + S * I[t]        only Cuba nodes; S is folded into the gain
        m[t] = L * v[t-1] + G * i[t] + (1 - L) * v_leak + bias

    A and L by ``decay``, S by ``syn_input``, G by ``input``; see ``Conventions``. Raises CompileError SNN167 for what has no normal form.
    """
    p = Params(node, shape)
    one, zero = np.ones(p.shape), np.zeros(p.shape)
    if node.type == "Threshold":
        fire = Fire.STEP_GE if choices.of(node, "compare") == "ge" else Fire.STEP_GT
        fields = {"leak": zero, "gain": one, "bias": zero, "theta": p["threshold"], "reset_amount": zero, "reset_value": zero}
        return _neuron(p, name, source, fields, choices, fire=fire, reset=Reset.STATELESS, v_init=zero)
    charge = _charge(p, choices)
    if node.type not in SPIKING:
        fields = {**charge, "theta": zero, "reset_amount": zero, "reset_value": zero}
        return _neuron(p, name, source, fields, choices, fire=Fire.NONE, reset=Reset.KEEP, v_init=_initial(p, choices))
    return _spiking(p, name, source, charge, choices)


def _charge(p: Params, choices: Choices) -> dict[str, Array]:
    """Leak, gain, bias, and alpha of the synaptic current."""
    node = p.node
    r = p["r"] if choices.of(node, "r") == "used" else np.ones(p.shape)
    bias = np.full(p.shape, float(choices.of(node, "bias")))
    given = choices.of(node, "leak")
    how = choices.of(node, "input")
    if node.type in ("I", "IF"):
        dt = _step(p, choices) if how == "scaled" else np.ones(p.shape)
        leak = np.ones(p.shape) if given == "file" else np.full(p.shape, float(given))
        return {"leak": leak, "gain": r * dt * (leak if how == "decayed" else 1.0), "bias": bias}
    cuba = node.type in ("CubaLI", "CubaLIF")
    dt = _step(p, choices)
    leak, rest = _decay(p, "tau_mem" if cuba else "tau", dt, choices)
    if given != "file":
        leak, rest = np.full(p.shape, float(given)), np.full(p.shape, 1.0 - float(given))
    gain = _factor(how, leak, rest, r)
    out = {"leak": leak, "gain": gain, "bias": bias + rest * p["v_leak"]}
    if cuba:
        alpha, fresh = _decay(p, "tau_syn", dt, choices)
        out["alpha"] = alpha
        out["gain"] = gain * _factor(choices.of(node, "syn_input"), alpha, fresh, p["w_in"])
    return out


def _factor(how: str, kept: Array, fresh: Array, r: Array) -> Array:
    """The factor of an input; an infinite r belongs to an infinite time constant, whose product is 1."""
    if how == "plain":
        return np.where(np.isfinite(r), r, 1.0)
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(r), (kept if how == "decayed" else fresh) * np.where(np.isfinite(r), r, 1.0), 1.0)


def _decay(p: Params, field: str, dt: Array, choices: Choices) -> tuple[Array, Array]:
    """The factor that is kept in a step, and what is missing to 1."""
    unit = float(choices.of(p.node, "tau_unit"))
    steps = p[field] * unit / dt
    if choices.of(p.node, "decay") == "exponential":
        return np.exp(-1.0 / steps), -np.expm1(-1.0 / steps)
    if np.any(steps < 1):
        raise fail(
            "SNN167", f"node {p.node.label}: {field} is {np.min(p[field]) * unit:g} s, shorter than a step of {float(np.max(dt)):g} s",
            notes=["forward Euler then turns the decay into an oscillation"],
            help="set the step with --nir-set dt=SECONDS, or choose --nir-set decay=exponential",
        )  # fmt: skip
    return 1.0 - 1.0 / steps, 1.0 / steps


def _step(p: Params, choices: Choices) -> Array:
    """Seconds a step."""
    dt = choices.of(p.node, "dt")
    if dt != "from-r":
        return np.full(p.shape, float(dt))
    label = "tau_mem" if "tau_mem" in p.node.fields else "tau"
    if label not in p.node.fields:
        raise fail("SNN167", f"node {p.node.label} has no time constant to find the step by", help="set it: --nir-set dt=SECONDS")
    tau, r = p[label], p["r"]
    y = _lambert(r)
    found = tau * y
    dt = _rounded(float(np.median(found)))
    if not np.allclose(found, dt, rtol=1e-3):
        raise fail(
            "SNN167", f"node {p.node.label}: r and {label} do not agree on one step: {found.min():g} to {found.max():g} s",
            help="set it: --nir-set dt=SECONDS",
        )  # fmt: skip
    choices.say(f"step of {p.node.path}", f"{dt:g} s", f"solved from r = {label} * exp(-dt / {label}) / dt", node=p.node)
    return np.full(p.shape, dt)


def _lambert(r: Array) -> Array:
    """y > 0 with exp(-y) / y = r, by Newton's method on log(y) + y + log(r)."""
    y = 1.0 / (1.0 + r)
    for _ in range(50):
        y = y * np.clip(1.0 - (np.log(y) + y + np.log(r)) / (1.0 + y), 0.1, 10.0)
    return np.asarray(y)


def _rounded(value: float) -> float:
    """The number of at most four digits that a float32 file can have meant, else the value itself."""
    near = float(f"{value:.4g}")
    return near if abs(near - value) <= 1e-5 * abs(value) else value


def _initial(p: Params, choices: Choices) -> Array:
    start = choices.of(p.node, "v_init")
    if start in ("v_leak", "v_reset"):
        return p[start]
    return np.full(p.shape, 0.0 if start == "zero" else float(start))


def _spiking(p: Params, name: str, source: str, charge: dict[str, Array], choices: Choices) -> Neuron:
    node = p.node
    theta = p["v_threshold"]
    fire = Fire.STEP_GE if choices.of(node, "compare") == "ge" else Fire.STEP_GT
    wish = choices.of(node, "reset")
    delayed = choices.of(node, "reset_delay")
    kinds = {"value": Reset.SET, "zero": Reset.SET, "subtract": Reset.SUBTRACT, "none": Reset.KEEP}
    amount = theta
    if delayed and wish == "subtract":
        if np.any(charge["leak"] == 0):
            raise fail("SNN167", f"node {node.label}: a reset one step late needs a membrane that is kept, its leak is 0")
        amount = theta / charge["leak"]
    if delayed and wish == "value" and np.any(p["v_reset"] != 0):
        raise fail("SNN167", f"node {node.label}: a reset one step late to another value than 0", help="set --nir-set reset_delay=no")
    spikes = choices.of(node, "max_spikes") or MANY_SPIKES
    if spikes > 1 and np.any(theta <= 0):
        raise fail("SNN167", f"node {node.label}: several spikes in a step need a positive threshold", help="set --nir-set max_spikes=1")
    bound = choices.of(node, "min_v")
    low = None if bound == "none" else -theta if bound == "-threshold" else np.full(p.shape, float(bound))
    fields: dict[str, Array | None] = {
        **charge, "theta": theta, "reset_amount": amount, "v_min": low,
        "reset_value": p["v_reset"] if wish == "value" else np.zeros(p.shape),
    }  # fmt: skip
    made = _neuron(p, name, source, fields, choices, fire=fire, reset=kinds[wish], v_init=_initial(p, choices))
    return replace(made, max_spikes=int(spikes))


def _neuron(p: Params, name: str, source: str, fields: Mapping[str, Any], choices: Choices, *, v_init: Array, **kind: Any) -> Neuron:
    """Put arrays into the smallest form that says the same, constants freed of float32 noise."""
    made: dict[str, Any] = {}
    for label, array in fields.items():
        if array is None:
            continue
        clean, moved = short(array, FLOAT32) if label in ("leak", "gain", "alpha", "reset_amount") else (array, 0.0)
        if moved:
            choices.say(
                f"{label} of {p.node.path}", _range(clean), "the file's float32 numbers round to it", node=p.node, source="default",
                effect=f"moved by {moved:.1e}",
            )  # fmt: skip
        made[label] = compact(clean)[None]
    late = p.node.type.startswith("Cuba") and choices.of(p.node, "current") == "late"
    return Neuron(name=name, inputs=(source,), origin=(p.node.path,), v_init=compact(v_init), late_current=late, **kind, **made)


def _range(array: Array) -> str:
    low, high = float(np.min(array)), float(np.max(array))
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


__all__ = ["make_neuron"]

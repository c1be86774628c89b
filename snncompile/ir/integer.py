"""Ops of the integer dialect that the float dialect lacks. Synapses, gathers, sums and delays are shared, with integer arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snncompile.errors import Diagnostic
from snncompile.ir.graph import Array, Dialect, Op, Shape, register_op
from snncompile.ir.neuron import Reset

INTEGER_ONLY = frozenset({Dialect.INTEGER})


@register_op
@dataclass(frozen=True, kw_only=True, eq=False)
class IntInput(Op):
    """A quantised input:  payload k = clip(rint((x - offset) / lsb), low, high),  x ~ lsb * k + offset.

    ``lsb`` and ``offset`` broadcast to the shape (per channel where the data's grid is). Ties round to even.
    """

    kind: ClassVar[str] = "int_input"
    dialects: ClassVar[frozenset[Dialect]] = INTEGER_ONLY
    size: Shape
    lsb: Array
    offset: Array
    low: int
    high: int
    static: bool = False

    def infer(self, *shapes: Shape) -> Shape:
        return self.size

    def validate(self) -> Iterator[Diagnostic]:
        if not self.low <= self.high:
            yield Diagnostic("SNN207", f"input '{self.name}' has the empty range {self.low}..{self.high}", self.loc)
        if not np.all(self.lsb > 0):
            yield Diagnostic("SNN211", f"input '{self.name}' has a step that is not positive", self.loc)


@register_op
@dataclass(frozen=True, kw_only=True, eq=False)
class IntNeuron(Op):
    """A population on the chip: the integer neuron step. All arithmetic is on integers that provably never overflow.

        decay(x, q) = sign(x) * sign(q) * ((|x| * |q|) >> decay_bits)     truncates toward zero; q = 2**decay_bits is exact
        scale(x, q, k) = rint(x * q / 2**k)                               ties to even
        a = sum over inputs of (input << exponents[k])
        i = decay(i, alpha) + a                             only if ``alpha`` is given, else i = a; i = 0 at first
        m = decay(v, leak) + scale(i, gain, gain_shift) + bias            i of the step before if ``late_current``; without ``gain``
                                                                          i is added as it is
        h = threshold + w                                                 w is 0 unless the threshold adapts
        n = 1 if m >= h else 0                              fire "step"
            clamp(floor((m - h) / (spike_step + w)) + 1, 0, max_spikes)   likewise for max_spikes > 1
            clamp(scale(m - h, multiplier, shift), payload_min, payload_max)
                                                            fire "relu"; payload_min is 0, or -payload_max for a signed relay of m
            m                                               fire "none"
        v = m - reset_amount * n | decay(m, reset_keep) + reset_value where n > 0 | min(m, h) | m | 0
            subtracts reset_amount + w if ``adapt_reset``; nothing is kept without ``reset_keep``; never below ``v_min`` if given
        w = decay(w, adapt_decay) + adapt_jump * n          only if ``adapt_jump`` is given; w = 0 at first

    Inputs  accumulators: synapse outputs, (shape)
    Fields  leak, bias, threshold, reset_amount, reset_value, alpha, gain, spike_step, reset_keep, v_min, adapt_decay, adapt_jump:
            (1 | T, ...) integers; v_init, multiplier, shift, gain_shift (...)
            v_scale  float, the value of one membrane LSB, broadcastable to the shape (for people; never used to compute)
            i_scale  float, the value of one LSB of ``i`` where a gain follows; without one it is v_scale
            out_scale float, the value of one payload LSB
    """

    kind: ClassVar[str] = "int_neuron"
    dialects: ClassVar[frozenset[Dialect]] = INTEGER_ONLY
    ports: ClassVar[tuple[str, ...]] = ("", "m", "v")
    time_fields: ClassVar[frozenset[str]] = frozenset({
        "leak", "bias", "threshold", "reset_amount", "reset_value", "alpha", "gain", "spike_step", "reset_keep", "v_min", "adapt_decay",
        "adapt_jump",
    })  # fmt: skip
    fire: str
    reset: Reset
    exponents: tuple[int, ...]
    decay_bits: int
    leak: Array
    bias: Array
    threshold: Array
    reset_amount: Array
    reset_value: Array
    v_init: Array
    alpha: Array | None = None
    late_current: bool = False
    gain: Array | None = None
    gain_shift: Array | None = None
    multiplier: Array | None = None
    shift: Array | None = None
    payload_min: int = 0
    payload_max: int = 1
    max_spikes: int = 1
    spike_step: Array | None = None
    reset_keep: Array | None = None
    v_min: Array | None = None
    adapt_decay: Array | None = None
    adapt_jump: Array | None = None
    adapt_reset: bool = False
    v_scale: Array
    i_scale: Array | None = None
    out_scale: Array

    def infer(self, *shapes: Shape) -> Shape:
        if len(set(shapes)) != 1 or len(shapes) != len(self.exponents):
            raise ValueError(f"{len(self.exponents)} exponents for inputs of shapes {shapes}")
        return shapes[0]

    def validate(self) -> Iterator[Diagnostic]:
        if self.fire not in ("step", "relu", "none"):
            yield Diagnostic("SNN212", f"'{self.name}': unknown fire rule '{self.fire}'", self.loc)
        pairs = {
            "a graded output needs a multiplier and a shift": (self.fire == "relu", self.multiplier, self.shift),
            "a gain needs a shift": (self.gain is not None or self.gain_shift is not None, self.gain, self.gain_shift),
            "several spikes in a step need their step": (self.max_spikes > 1, self.spike_step, self.spike_step),
            "an adaptive threshold needs adapt_decay and adapt_jump": (
                self.adapt_jump is not None or self.adapt_decay is not None or self.adapt_reset, self.adapt_decay, self.adapt_jump,
            ),
        }  # fmt: skip
        for what, (needed, first, second) in pairs.items():
            if needed and (first is None or second is None):
                yield Diagnostic("SNN212", f"'{self.name}': {what}", self.loc)
        for label in [*sorted(self.time_fields), "v_init", "multiplier", "shift", "gain_shift"]:
            value = getattr(self, label)
            if value is not None and not np.issubdtype(value.dtype, np.integer):
                yield Diagnostic("SNN213", f"'{self.name}': {label} is not an integer array", self.loc)

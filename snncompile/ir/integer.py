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
        a = sum over inputs of (input << exponents[k])
        i = decay(i, alpha) + a                                     only if ``alpha`` is given, else i = a; i = 0 at first
        m = decay(v, leak) + i + bias                               the i of the step before if ``late_current``
        n = 1 if m >= threshold else 0                              fire "step"
            clamp(rint((m - threshold) * multiplier / 2**shift), payload_min, payload_max)
                                                                    fire "relu"; ties round to even; payload_min is 0, or
                                                                    -payload_max for a signed relay of m (threshold 0)
            m                                                       fire "none"
        v = m - reset_amount * n | reset_value where n > 0 | min(m, threshold) | m | 0

    Inputs  accumulators: synapse outputs, (shape)
    Fields  leak, bias, threshold, reset_amount, reset_value, alpha, (1 | T, ...) integers; v_init (...)
            v_scale  float, the value of one membrane LSB, broadcastable to the shape (for people; never used to compute)
            out_scale float, the value of one payload LSB
    """

    kind: ClassVar[str] = "int_neuron"
    dialects: ClassVar[frozenset[Dialect]] = INTEGER_ONLY
    ports: ClassVar[tuple[str, ...]] = ("", "m", "v")
    time_fields: ClassVar[frozenset[str]] = frozenset({"leak", "bias", "threshold", "reset_amount", "reset_value", "alpha"})
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
    multiplier: Array | None = None
    shift: int = 0
    payload_min: int = 0
    payload_max: int = 1
    v_scale: Array
    out_scale: Array

    def infer(self, *shapes: Shape) -> Shape:
        if len(set(shapes)) != 1 or len(shapes) != len(self.exponents):
            raise ValueError(f"{len(self.exponents)} exponents for inputs of shapes {shapes}")
        return shapes[0]

    def validate(self) -> Iterator[Diagnostic]:
        if self.fire not in ("step", "relu", "none"):
            yield Diagnostic("SNN212", f"'{self.name}': unknown fire rule '{self.fire}'", self.loc)
        if self.fire == "relu" and self.multiplier is None:
            yield Diagnostic("SNN212", f"'{self.name}': a graded output needs a multiplier", self.loc)
        for label in [*sorted(self.time_fields), "v_init", "multiplier"]:
            value = getattr(self, label)
            if value is not None and not np.issubdtype(value.dtype, np.integer):
                yield Diagnostic("SNN213", f"'{self.name}': {label} is not an integer array", self.loc)

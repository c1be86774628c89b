"""The integer neuron step as ONNX nodes: the equations of ``snncompile.ir.integer.IntNeuron``, one after the other, on int64.

Two of its roundings are spelled by what ONNX defines for integers: ``Div`` truncates toward zero, so

    decay(x, q) = Div(x * q, 2**bits)

and ``Mod`` takes the divisor's sign, so floor(x / d) = Div(x - Mod(x, d), d), from which rounding half to even follows. Minima and
maxima are ``Where`` on a comparison: on x86 with AVX2, ``Min``, ``Max``, ``Clip`` and ``Sign`` of ONNX Runtime (1.31.1, measured) are
wrong for int64 values that need more than 32 bits, which the products of a graded output do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from snncompile.backends.onnx.writer import Writer
from snncompile.errors import InternalError
from snncompile.ir.graph import Array
from snncompile.ir.integer import IntNeuron
from snncompile.ir.neuron import Reset


@dataclass(frozen=True)
class Stepped:
    """The values of one population at a step, all int64: payload, membrane before and after the reset, and its other states."""

    payload: str
    m: str
    v: str
    states: dict[str, str]


def states_of(n: IntNeuron) -> dict[str, Array]:
    """What a population keeps from step to step, with its value before step 0: ``v``, current ``i``, adaptation ``w``."""
    kept = {"v": n.v_init}
    if n.alpha is not None:
        kept["i"] = np.zeros((), dtype=np.int64)
    if n.adapt_jump is not None:
        kept["w"] = np.zeros((), dtype=np.int64)
    return kept


class NeuronWriter:
    """Writes populations; ``step`` is the value that holds the step counter."""

    def __init__(self, writer: Writer, step: str) -> None:
        self.w, self.step = writer, step

    def write(self, n: IntNeuron, accumulators: list[str], state: dict[str, str]) -> Stepped:
        """One step of a population from its accumulators and its states."""
        w, after = self.w, {}
        total = None
        for x, e in zip(accumulators, n.exponents, strict=True):
            scaled = w.op("Mul", x, w.number(2**e), label="scaled") if e else x
            total = scaled if total is None else w.op("Add", total, scaled, label="input")
        assert total is not None
        i = total
        if n.alpha is not None:
            after["i"] = now = w.op("Add", self._decay(state["i"], n.alpha, n.decay_bits, "alpha"), total, label="current")
            i = state["i"] if n.late_current else now
        if n.gain is not None and n.gain_shift is not None:
            i = self._round_shift(w.op("Mul", i, self._at_step(n.gain, "gain"), label="gained"), n.gain_shift)
        charge = w.op("Add", self._decay(state["v"], n.leak, n.decay_bits, "leak"), i, label="charge")
        m = w.op("Add", charge, self._at_step(n.bias, "bias"), label="m") if np.any(n.bias) else charge
        h = self._at_step(n.threshold, "threshold")
        if n.adapt_jump is not None:
            h = w.op("Add", h, state["w"], label="adapted")
        payload = self._fire(n, m, h, state)
        v = self._reset(n, m, h, payload, state)
        if n.v_min is not None:
            v = self._max(v, self._at_step(n.v_min, "v_min"), "bounded")
        if n.adapt_jump is not None and n.adapt_decay is not None:
            jump = w.op("Mul", self._at_step(n.adapt_jump, "adapt_jump"), payload, label="jump")
            after["w"] = w.op("Add", self._decay(state["w"], n.adapt_decay, n.decay_bits, "adapt_decay"), jump, label="adaptation")
        return Stepped(payload, m, v, {**after, "v": v})

    def _fire(self, n: IntNeuron, m: str, h: str, state: dict[str, str]) -> str:
        w = self.w
        if n.fire == "none":
            return m
        if n.fire == "step" and n.spike_step is None:
            return w.op("Cast", w.op("GreaterOrEqual", m, h, label="fires"), label="spike", to=TensorProto.INT64)
        above = w.op("Sub", m, h, label="above")
        if n.fire == "step":
            assert n.spike_step is not None
            count = w.op("Add", self._spikes(n, above, state), w.number(1), label="count")
            return self._min(self._max(count, w.number(0), "at_least"), w.number(n.max_spikes), "spikes")
        assert n.multiplier is not None
        assert n.shift is not None
        product = w.op("Mul", above, w.whole(n.multiplier, "multiplier"), label="product")
        rounded = self._round_shift(product, n.shift)
        return self._min(self._max(rounded, w.number(n.payload_min), "at_least"), w.number(n.payload_max), "graded")

    def _spikes(self, n: IntNeuron, above: str, state: dict[str, str]) -> str:
        """floor(above / (spike_step + w)); a divisor of 0 gives 0, as in the reference: integer division by it would end the process."""
        w = self.w
        assert n.spike_step is not None
        unit = self._at_step(n.spike_step, "spike_step")
        if n.adapt_jump is None:
            if not np.all(n.spike_step):
                raise InternalError(f"'{n.name}' has a spike step of 0")
            return self._floor_div(above, unit)
        divisor = w.op("Add", unit, state["w"], label="unit")
        none = w.op("Equal", divisor, w.number(0), label="no_unit")
        quotient = self._floor_div(above, w.op("Where", none, w.number(1), divisor, label="divisor"))
        return w.op("Where", none, w.number(0), quotient, label="quotient")

    def _reset(self, n: IntNeuron, m: str, h: str, payload: str, state: dict[str, str]) -> str:
        w = self.w
        if n.reset is Reset.SUBTRACT:
            amount = self._at_step(n.reset_amount, "reset_amount")
            if n.adapt_reset and n.adapt_jump is not None:
                amount = w.op("Add", amount, state["w"], label="amount")
            return w.op("Sub", m, w.op("Mul", amount, payload, label="taken"), label="v")
        if n.reset is Reset.SET:
            value = self._at_step(n.reset_value, "reset_value")
            if n.reset_keep is not None:
                value = w.op("Add", self._decay(m, n.reset_keep, n.decay_bits, "reset_keep"), value, label="reset")
            return w.op("Where", w.op("Greater", payload, w.number(0), label="fired"), value, m, label="v")
        if n.reset is Reset.CLAMP:
            return self._min(m, h, "v")
        if n.reset is Reset.KEEP:
            return m
        return w.op("Mul", m, w.number(0), label="v")

    def _at_step(self, field: Array, label: str) -> str:
        """The value of a per-step field: an array (T, ...) is read at the step counter; one beyond T is an error of the runtime."""
        if len(field) == 1:
            return self.w.whole(field[0], label)
        return self.w.op("Gather", self.w.whole(field, f"{label}/steps"), self.step, label=label, axis=0)

    def _decay(self, x: str, q: Array, bits: int, label: str) -> str:
        if np.all(q == 2**bits):
            return x
        product = self.w.op("Mul", x, self._at_step(q, label), label=f"{label}/product")
        return self.w.op("Div", product, self.w.number(2**bits), label=f"{label}/decayed")

    def _min(self, x: str, y: str, label: str) -> str:
        return self.w.op("Where", self.w.op("Less", x, y, label=f"{label}/less"), x, y, label=label)

    def _max(self, x: str, y: str, label: str) -> str:
        return self.w.op("Where", self.w.op("Greater", x, y, label=f"{label}/greater"), x, y, label=label)

    def _floor_div(self, x: str, d: str) -> str:
        multiple = self.w.op("Sub", x, self.w.op("Mod", x, d, label="rest"), label="multiple")
        return self.w.op("Div", multiple, d, label="floor")

    def _round_shift(self, x: str, shift: Array) -> str:
        """x / 2**shift, nearest, ties to even:  floor + 1 where twice the rest exceeds the unit, or equals it and floor is odd."""
        if not np.any(shift):
            return x
        w = self.w
        unit = w.whole(np.left_shift(1, shift.astype(np.int64)), "unit")
        floor = self._floor_div(x, unit)
        rest = w.op("Sub", x, w.op("Mul", floor, unit, label="floored"), label="rest")
        twice = w.op("Mul", rest, w.number(2), label="twice")
        odd = w.op("Equal", w.op("Mod", floor, w.number(2), label="parity"), w.number(1), label="odd")
        tie = w.op("And", w.op("Equal", twice, unit, label="half"), odd, label="tie")
        up = w.op("Or", w.op("Greater", twice, unit, label="more"), tie, label="up")
        return w.op("Add", floor, w.op("Cast", up, label="one", to=TensorProto.INT64), label="rounded")


__all__ = ["NeuronWriter", "Stepped", "states_of"]

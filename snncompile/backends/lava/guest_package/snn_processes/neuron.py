"""One integer neuron step, vectorised over a population.

    decay(x, q) = sign(x * q) * ((|x| * |q|) >> decay_bits)      toward zero
    i = decay(i, alpha[t]) + a     or  i = a  without alpha
    m = decay(v, leak[t]) + i + bias[t]                          i of the step before, if the current comes late
                                                                 with a gain: (i * gain[t]) >> gain_shift, rounded half to even
    h = threshold[t] + w                                         w is 0 without adaptation
    n = fire(m, h);  v = max(reset(m, n), v_min[t]);  w = decay(w, adapt_decay[t]) + adapt_jump[t] * n

All values int64; a value outside the membrane or payload range raises RangeViolation, nothing wraps or saturates.
"""

from __future__ import annotations

import numpy as np

from .plan import Neuron, Plan, Population, Range, RangeViolation


class NeuronState:
    """Membrane ``v``, synaptic current ``i`` and threshold adaptation ``w`` of one population, and how they advance."""

    def __init__(self, plan: Plan, population: Population) -> None:
        assert population.neuron is not None
        self.spec: Neuron = population.neuron
        self.shape = population.shape
        self.bits = plan.decay_bits
        self.membrane = plan.membrane
        self.payload = population.payload
        self.start_sample()

    def start_sample(self) -> None:
        """Forget everything: v = v_init, i = 0, w = 0."""
        self.v = np.ascontiguousarray(np.broadcast_to(self.spec.v_init, self.shape))
        self.i = np.zeros(self.shape, np.int64)
        self.w = np.zeros(self.shape, np.int64)

    def step(self, t: int, a: np.ndarray) -> np.ndarray:
        """Advance by model step ``t`` with the summed synaptic input ``a``; return the payload n, leave v in ``self.v``."""
        spec = self.spec
        if spec.alpha is not None:
            before = self.i
            self.i = self.decay(before, at(spec.alpha, t)) + a
            check(self.i, self.membrane, "the synaptic current")
            a = before if spec.late_current else self.i
        if spec.gain is not None:
            a = shift_half_even(a * at(spec.gain, t), spec.gain_shift)
        m = self.decay(self.v, at(spec.leak, t)) + a + at(spec.bias, t)
        check(m, self.membrane, "the membrane")
        n = self.fire(m, t)
        check(n, self.payload, "the payload")
        self.v = self.reset(m, n, t)
        check(self.v, self.membrane, "the membrane after reset")
        if spec.adapt_jump is not None:
            self.w = self.decay(self.w, at(spec.adapt_decay, t)) + at(spec.adapt_jump, t) * n
            check(self.w, self.membrane, "the threshold's adaptation")
        return n

    def decay(self, x: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Multiply by q / 2**decay_bits and truncate toward zero."""
        if q.size == 1 and int(q.reshape(-1)[0]) == 1 << self.bits:
            return x
        size = (np.abs(x) * np.abs(q)) >> self.bits
        signed: np.ndarray = np.where((x < 0) != (q < 0), -size, size)
        return signed

    def fire(self, m: np.ndarray, t: int) -> np.ndarray:
        """Payload of membrane ``m``."""
        spec = self.spec
        if spec.fire == "none":
            return m
        self.distance = above = m - self.w - at(spec.threshold, t)
        if spec.fire == "step" and spec.spike_step is not None:
            several: np.ndarray = above // (at(spec.spike_step, t) + self.w) + 1
            limited: np.ndarray = np.clip(several, 0, spec.max_spikes)
            return limited
        if spec.fire == "step":
            fired: np.ndarray = (above >= 0).astype(np.int64)
            return fired
        scaled: np.ndarray = shift_half_even(above * spec.multiplier, spec.shift)
        payload: np.ndarray = np.clip(scaled, spec.payload_min, spec.payload_max)
        return payload

    def reset(self, m: np.ndarray, n: np.ndarray, t: int) -> np.ndarray:
        """Membrane that stays after payload ``n`` was sent."""
        spec = self.spec
        v: np.ndarray = m  # keep
        if spec.reset == "subtract":
            amount = at(spec.reset_amount, t)
            v = m - (amount + self.w if spec.adapt_reset else amount) * n
        elif spec.reset == "set":
            fresh = at(spec.reset_value, t)
            v = np.where(n > 0, fresh if spec.reset_keep is None else fresh + self.decay(m, at(spec.reset_keep, t)), m)
        elif spec.reset == "clamp":
            v = np.minimum(m, at(spec.threshold, t) + self.w)
        elif spec.reset == "stateless":
            v = np.zeros_like(m)
        return v if spec.v_min is None else np.maximum(v, at(spec.v_min, t))


def at(parameter: np.ndarray, t: int) -> np.ndarray:
    """Row of model step ``t``; a leading axis of 1 holds for every step."""
    row: np.ndarray = parameter[t if parameter.shape[0] > 1 else 0]
    return np.asarray(row)


def shift_half_even(x: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Divide by 2**bits, round to nearest, ties to even; 0 bits leave x."""
    if not bits.any():
        return x
    whole = x >> bits
    remainder = x - (whole << bits)
    half = np.left_shift(np.int64(1), np.maximum(bits - 1, 0))
    up = (remainder > half) | ((remainder == half) & (whole % 2 == 1))
    rounded: np.ndarray = np.where(bits == 0, x, whole + up)
    return rounded


def check(x: np.ndarray, allowed: Range, what: str) -> None:
    """Raise RangeViolation naming the worst neuron when ``x`` leaves ``allowed``."""
    low, high = int(x.min()), int(x.max())
    if low < allowed.low or high > allowed.high:
        flat = int(x.argmin() if low < allowed.low else x.argmax())
        value = low if low < allowed.low else high
        where = tuple(int(k) for k in np.unravel_index(flat, x.shape))
        raise RangeViolation(f"{what} of neuron {where} is {value}, outside {allowed.low}..{allowed.high}")

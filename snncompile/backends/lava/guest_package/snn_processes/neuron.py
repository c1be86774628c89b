"""One integer neuron step, vectorised over a population.

    decay(x, q) = sign(x * q) * ((|x| * |q|) >> decay_bits)      toward zero
    i = decay(i, alpha[t]) + a     or  i = a  without alpha
    m = decay(v, leak[t]) + i + bias[t]                          i of the step before, if the current comes late
    n = fire(m, threshold[t]);  v = reset(m, n)

All values int64; a value outside the membrane or payload range raises RangeViolation, nothing wraps or saturates.
"""

from __future__ import annotations

import numpy as np

from .plan import Neuron, Plan, Population, Range, RangeViolation


class NeuronState:
    """Membrane ``v`` and synaptic current ``i`` of one population, and how they advance."""

    def __init__(self, plan: Plan, population: Population) -> None:
        self.spec: Neuron = population.neuron
        self.shape = population.shape
        self.bits = plan.decay_bits
        self.membrane = plan.membrane
        self.payload = population.payload
        self.start_sample()

    def start_sample(self) -> None:
        """Forget everything: v = v_init, i = 0."""
        self.v = np.ascontiguousarray(np.broadcast_to(self.spec.v_init, self.shape))
        self.i = np.zeros(self.shape, np.int64)

    def step(self, t: int, a: np.ndarray) -> np.ndarray:
        """Advance by model step ``t`` with the summed synaptic input ``a``; return the payload n, leave v in ``self.v``."""
        spec = self.spec
        if spec.alpha is not None:
            before = self.i
            self.i = self.decay(before, at(spec.alpha, t)) + a
            check(self.i, self.membrane, "the synaptic current")
            a = before if spec.late_current else self.i
        m = self.decay(self.v, at(spec.leak, t)) + a + at(spec.bias, t)
        check(m, self.membrane, "the membrane")
        n = self.fire(m, t)
        check(n, self.payload, "the payload")
        self.v = self.reset(m, n, t)
        check(self.v, self.membrane, "the membrane after reset")
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
        if spec.fire == "step":
            fired: np.ndarray = (m >= at(spec.threshold, t)).astype(np.int64)
            return fired
        scaled: np.ndarray = shift_half_even((m - at(spec.threshold, t)) * spec.multiplier, spec.shift)
        limited: np.ndarray = np.clip(scaled, spec.payload_min, spec.payload_max)
        return limited

    def reset(self, m: np.ndarray, n: np.ndarray, t: int) -> np.ndarray:
        """Membrane that stays after payload ``n`` was sent."""
        spec = self.spec
        v: np.ndarray = m  # keep
        if spec.reset == "subtract":
            v = m - at(spec.reset_amount, t) * n
        elif spec.reset == "set":
            v = np.where(n > 0, at(spec.reset_value, t), m)
        elif spec.reset == "clamp":
            v = np.minimum(m, at(spec.threshold, t))
        elif spec.reset == "stateless":
            v = np.zeros_like(m)
        return v


def at(parameter: np.ndarray, t: int) -> np.ndarray:
    """Row of model step ``t``; a leading axis of 1 holds for every step."""
    row: np.ndarray = parameter[t if parameter.shape[0] > 1 else 0]
    return np.asarray(row)


def shift_half_even(x: np.ndarray, bits: int) -> np.ndarray:
    """Divide by 2**bits, round to nearest, ties to even."""
    if bits == 0:
        return x
    floor = x >> bits
    rest, half = x - (floor << bits), 1 << (bits - 1)
    up = (rest > half) | ((rest == half) & (floor & 1 == 1))
    rounded: np.ndarray = floor + up
    return rounded


def check(x: np.ndarray, allowed: Range, what: str) -> None:
    """Raise RangeViolation naming the worst neuron when ``x`` leaves ``allowed``."""
    low, high = int(x.min()), int(x.max())
    if low < allowed.low or high > allowed.high:
        flat = int(x.argmin() if low < allowed.low else x.argmax())
        value = low if low < allowed.low else high
        where = tuple(int(k) for k in np.unravel_index(flat, x.shape))
        raise RangeViolation(f"{what} of neuron {where} is {value}, outside {allowed.low}..{allowed.high}")

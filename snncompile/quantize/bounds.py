"""What a population's integers can be: interval analysis over all T steps. A bound that fits its format is a proof."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snncompile.ir.integer import IntNeuron
from snncompile.ir.neuron import Reset, at_step
from snncompile.numerics import Format, Interval

_BEYOND = 2**40
"""Far outside every format: the analysis stops here, before int64 itself could overflow."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Proved ranges over all steps, channels and inputs; ``complete`` is False if the analysis gave up because they explode."""

    accumulators: tuple[tuple[int, int], ...]
    input: tuple[int, int]
    charge: tuple[int, int]
    membrane: tuple[int, int]
    state: tuple[int, int]
    payload: tuple[int, int]
    complete: bool = True

    def as_dict(self) -> dict[str, tuple[int, int]]:
        """For reports: one range for all accumulators."""
        low, high = min(a[0] for a in self.accumulators), max(a[1] for a in self.accumulators)
        return {"accumulator": (low, high), "input": self.input, "charge": self.charge, "membrane": self.membrane, "state": self.state}

    @property
    def peak(self) -> int:
        """The largest magnitude that must fit the membrane format."""
        return max(abs(x) for pair in (self.input, self.charge, self.membrane, self.state) for x in pair)

    def fits(self, accumulator: Format, membrane: Format) -> bool:
        """Whether overflow is impossible."""
        return self.complete and all(accumulator.fits(a) for a in self.accumulators) and self.peak <= membrane.high


def population_bounds(n: IntNeuron, accumulators: list[Interval], steps: int) -> Bounds:
    """Bounds of every intermediate of ``IntNeuron``, from the bounds of its accumulators."""
    total = Interval.point(0)
    for a, e in zip(accumulators, n.exponents, strict=True):
        total = total + a.shifted(e)
    v, current = Interval.point(n.v_init), Interval.point(0)
    seen: dict[str, Interval] = {}
    complete = True
    for t in range(steps):
        if n.alpha is None:
            i = total
        else:
            now = current.decayed(at_step(n.alpha, t), n.decay_bits) + total
            i, current = (current if n.late_current else now), now
        charge = v.decayed(at_step(n.leak, t), n.decay_bits) + i
        m = charge + Interval.point(at_step(n.bias, t))
        payload = _payload(n, m, t)
        after = _reset(n, m, payload, t)
        input_ = total if n.alpha is None else total.hull(current)
        for key, value in (("input", input_), ("charge", charge), ("membrane", m), ("state", after), ("payload", payload)):
            seen[key] = value if key not in seen else seen[key].hull(value)
        if max(abs(x) for value in seen.values() for x in value.range) > _BEYOND:
            complete = False
            break
        if n.steps == 1 and n.alpha is None and np.array_equal(after.low, v.low) and np.array_equal(after.high, v.high):
            break  # a fixed point: later steps add nothing
        v = after
    ranges = {key: value.range for key, value in seen.items()}
    return Bounds(tuple(a.range for a in accumulators), **ranges, complete=complete)


def _payload(n: IntNeuron, m: Interval, t: int) -> Interval:
    threshold = at_step(n.threshold, t)
    if n.fire == "step":
        return Interval.of(m.low >= threshold, m.high >= threshold)
    if n.fire == "relu" and n.multiplier is not None:
        return (m + Interval.point(-threshold)).scaled(n.multiplier, n.shift, n.payload_min, n.payload_max)
    return m


def _reset(n: IntNeuron, m: Interval, payload: Interval, t: int) -> Interval:
    """Membranes after the reset, the firing and the silent part of ``m`` apart where firing is decided by the threshold."""
    if n.reset is Reset.STATELESS:
        return Interval.of(np.zeros_like(m.low), np.zeros_like(m.low))
    if n.reset is Reset.KEEP:
        return m
    threshold = at_step(n.threshold, t)
    if n.reset is Reset.CLAMP:
        return m.at_most(threshold)
    if n.fire != "step":
        if n.reset is Reset.SET:
            return m.hull(Interval.point(at_step(n.reset_value, t)))
        products = [at_step(n.reset_amount, t) * payload.low, at_step(n.reset_amount, t) * payload.high]
        return m + Interval(-np.maximum(*products), -np.minimum(*products))
    silent = Interval(m.low, np.minimum(m.high, threshold - 1))
    if n.reset is Reset.SET:
        fired = Interval.point(np.broadcast_to(at_step(n.reset_value, t), np.broadcast_shapes(m.low.shape, np.shape(threshold))))
    else:
        fired = Interval(np.maximum(m.low, threshold), m.high) + Interval.point(-at_step(n.reset_amount, t))
    may_fire, may_rest = m.high >= threshold, m.low < threshold
    low = np.where(may_fire & may_rest, np.minimum(silent.low, fired.low), np.where(may_fire, fired.low, silent.low))
    high = np.where(may_fire & may_rest, np.maximum(silent.high, fired.high), np.where(may_fire, fired.high, silent.high))
    return Interval(low, high)


__all__ = ["Bounds", "population_bounds"]

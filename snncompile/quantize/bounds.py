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
    """Proved ranges over all steps, channels and inputs; ``complete`` is False if the analysis gave up because they explode.

    ``input`` holds a (and i), ``charge`` the membrane without its bias (and the input after its gain), ``state`` the membrane after
    the reset (and the adaptation of a threshold).
    """

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

    @property
    def scaled_peak(self) -> int:
        """The largest magnitude that grows with a membrane's guard bits where a gain follows the input."""
        return max(abs(x) for pair in (self.charge, self.membrane, self.state) for x in pair)

    def fits(self, accumulator: Format, membrane: Format) -> bool:
        """Whether overflow is impossible."""
        return self.complete and all(accumulator.fits(a) for a in self.accumulators) and self.peak <= membrane.high


def population_bounds(n: IntNeuron, accumulators: list[Interval], steps: int) -> Bounds:
    """Bounds of every intermediate of ``IntNeuron``, from the bounds of its accumulators."""
    total = Interval.point(0)
    for a, e in zip(accumulators, n.exponents, strict=True):
        total = total + a.shifted(e)
    v, current, w = Interval.point(n.v_init), Interval.point(0), Interval.point(0)
    seen: dict[str, Interval] = {}
    complete = True
    for t in range(steps):
        if n.alpha is None:
            i = total
        else:
            now = current.decayed(at_step(n.alpha, t), n.decay_bits) + total
            i, current = (current if n.late_current else now), now
        used = i if n.gain is None or n.gain_shift is None else i.scaled(at_step(n.gain, t), n.gain_shift)
        charge = v.decayed(at_step(n.leak, t), n.decay_bits) + used
        m = charge + Interval.point(at_step(n.bias, t))
        payload = _payload(n, m, w, t)
        after = _reset(n, m, payload, w, t)
        if n.v_min is not None:
            after = after.at_least(at_step(n.v_min, t))
        if n.adapt_decay is not None and n.adapt_jump is not None:
            w = w.decayed(at_step(n.adapt_decay, t), n.decay_bits) + payload.times(at_step(n.adapt_jump, t))
        input_ = total if n.alpha is None else total.hull(current)
        found = {"input": input_, "charge": charge.hull(used), "membrane": m, "state": after.hull(w), "payload": payload}
        seen = {key: value if key not in seen else seen[key].hull(value) for key, value in found.items()}
        if max(abs(x) for value in seen.values() for x in value.range) > _BEYOND:
            complete = False
            break
        same = np.array_equal(after.low, v.low) and np.array_equal(after.high, v.high)
        if n.steps == 1 and n.alpha is None and n.adapt_jump is None and same:
            break  # a fixed point: later steps add nothing
        v = after
    ranges = {key: value.range for key, value in seen.items()}
    return Bounds(tuple(a.range for a in accumulators), **ranges, complete=complete)


def _payload(n: IntNeuron, m: Interval, w: Interval, t: int) -> Interval:
    above = m + -w + Interval.point(-at_step(n.threshold, t))  # m - h
    if n.fire == "step" and n.spike_step is not None:
        least = np.maximum(at_step(n.spike_step, t) + w.low, 1)
        return Interval.of(above.low // least + 1, above.high // least + 1).clamped(0, n.max_spikes)
    if n.fire == "step":
        return Interval.of(above.low >= 0, above.high >= 0)
    if n.fire == "relu" and n.multiplier is not None and n.shift is not None:
        return above.scaled(n.multiplier, n.shift).clamped(n.payload_min, n.payload_max)
    return m


def _reset(n: IntNeuron, m: Interval, payload: Interval, w: Interval, t: int) -> Interval:
    """Membranes after the reset, the firing and the silent part of ``m`` apart where firing is decided by the threshold."""
    if n.reset is Reset.STATELESS:
        return Interval.of(np.zeros_like(m.low), np.zeros_like(m.low))
    if n.reset is Reset.KEEP:
        return m
    threshold = Interval.point(at_step(n.threshold, t)) + w
    if n.reset is Reset.CLAMP:
        return Interval(np.minimum(m.low, threshold.low), np.minimum(m.high, threshold.high))
    if n.fire != "step":
        if n.reset is Reset.SET:
            return m.hull(_kept(n, m, t))
        return m + -(payload.times(at_step(n.reset_amount, t)))
    silent = Interval(m.low, np.minimum(m.high, threshold.high - 1))
    firing = Interval(np.maximum(m.low, threshold.low), m.high)
    if n.reset is Reset.SET:
        fired = _kept(n, firing, t)
    elif n.spike_step is not None:
        fired = _subtracted(n, m, payload, w, t)
    else:
        fired = firing + Interval.point(-at_step(n.reset_amount, t))
        if n.adapt_reset:  # m - w - amount, where m - w >= threshold
            above = Interval(np.maximum(m.low - w.high, at_step(n.threshold, t)), m.high - w.low)
            fired = above + Interval.point(-at_step(n.reset_amount, t))
    may_fire, may_rest = m.high >= threshold.low, m.low < threshold.high
    low = np.where(may_fire & may_rest, np.minimum(silent.low, fired.low), np.where(may_fire, fired.low, silent.low))
    high = np.where(may_fire & may_rest, np.maximum(silent.high, fired.high), np.where(may_fire, fired.high, silent.high))
    return Interval(low, high)


def _kept(n: IntNeuron, m: Interval, t: int) -> Interval:
    """What is left of fired membranes ``m``."""
    value = Interval.point(np.broadcast_to(at_step(n.reset_value, t), np.broadcast_shapes(m.low.shape, at_step(n.reset_value, t).shape)))
    return value if n.reset_keep is None else m.decayed(at_step(n.reset_keep, t), n.decay_bits) + value


def _subtracted(n: IntNeuron, m: Interval, payload: Interval, w: Interval, t: int) -> Interval:
    """Membranes from which several spikes' worth was subtracted.

    Where the step of the spikes is what is subtracted, fewer than ``max_spikes`` leave threshold - step .. threshold - 1 (+ w), and
    the most leave m - max_spikes * step; otherwise nothing better than m minus every possible product is known.
    """
    assert n.spike_step is not None
    amount, step, threshold = at_step(n.reset_amount, t), at_step(n.spike_step, t), at_step(n.threshold, t)
    if np.array_equal(amount, step) and (n.adapt_reset or n.adapt_jump is None):
        least = step + np.maximum(w.low, 0)
        left = m.high - np.where(least > 2**40 // n.max_spikes, 2**40, n.max_spikes * least)
        low, high = threshold - step, np.minimum(np.maximum(threshold - 1 + w.high, left), m.high)
        return Interval.of(*np.broadcast_arrays(low, high))
    reach = payload.times(amount + (np.maximum(np.abs(w.low), np.abs(w.high)) if n.adapt_reset else 0))
    return m + -reach


__all__ = ["Bounds", "population_bounds"]

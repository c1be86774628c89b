"""When integer dynamics are exact: following the power of two that divides every membrane through all T steps.

Decay by odd * 2**-k is exact on multiples of 2**k and leaves multiples of 2**(L-k) where there were multiples of 2**L.
A membrane that starts on multiples of 2**L after its first step has decayed T - 1 times when the last step compares it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snncompile.ir.graph import Array
from snncompile.ir.integer import IntNeuron
from snncompile.ir.neuron import Reset, at_step
from snncompile.numerics import trailing_zeros

_ZERO = 1 << 20
"""The lattice of a value that is always zero."""


@dataclass(frozen=True, slots=True)
class Lattices:
    """Exponents L such that inputs, biases, resets and initial membranes are multiples of 2**L."""

    inputs: int
    bias: int
    reset: int
    v_init: int

    @classmethod
    def of(cls, n: IntNeuron) -> Lattices:
        """Read off the integers themselves."""
        field = {Reset.SUBTRACT: n.reset_amount, Reset.SET: n.reset_value, Reset.CLAMP: n.threshold}.get(n.reset)
        others = [n.v_min, n.adapt_jump if n.adapt_reset else None]
        reset = min(_ZERO if x is None else _zeros(x) for x in (field, *others))
        return cls(min(n.exponents), _zeros(n.bias), reset, _zeros(n.v_init))


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """The decays of a population: integer codes per step in units of 2**-bits, and how the current is used.

    ``keep``: the part of a membrane that stays when it fires, if any does.
    """

    leak: Array
    alpha: Array | None
    bits: int
    late: bool
    keep: Array | None = None


def _zeros(values: Array) -> int:
    return trailing_zeros(values) if np.any(values) else _ZERO


def _loss(q: Array, bits: int) -> int:
    """How many powers of two one decay costs at worst; a factor 0 leaves 0, which lies on every lattice."""
    nonzero = np.abs(q[q != 0])
    if not nonzero.size:
        return -_ZERO
    return max(max(0, bits - trailing_zeros(x)) for x in np.unique(nonzero))


def missing_bits(f: Factors, reset: Reset, steps: int, start: Lattices) -> int:
    """By how many bits the coarsest lattice falls short of whole membrane LSBs; 0 means that nothing is ever rounded."""
    v, i, worst = start.v_init, _ZERO, 0
    for t in range(steps):
        now = start.inputs
        if f.alpha is not None:
            decayed = min(i - _loss(at_step(f.alpha, t), f.bits), _ZERO)
            worst = max(worst, -decayed)
            now = min(decayed, start.inputs)
        used, i = (i if f.late and f.alpha is not None else now), now
        decayed = min(v - _loss(at_step(f.leak, t), f.bits), _ZERO)
        worst = max(worst, -decayed)
        m = min(decayed, used, start.bias)
        v = _ZERO if reset is Reset.STATELESS else m if reset is Reset.KEEP else min(m, start.reset)
        if f.keep is not None:
            kept = min(m - _loss(at_step(f.keep, t), f.bits), _ZERO)
            worst, v = max(worst, -kept), min(v, kept)
    return worst


def guard_bits_needed(f: Factors, reset: Reset, steps: int, *, starts_at_zero: bool) -> int:
    """The guard bits with which a population whose integers all lie on multiples of 2**F never rounds."""
    return missing_bits(f, reset, steps, Lattices(0, 0, 0, _ZERO if starts_at_zero else 0))


__all__ = ["Factors", "Lattices", "guard_bits_needed", "missing_bits"]

"""The float neuron normal form (one op for every neuron that has an affine charge and a threshold)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import numpy as np

from snncompile.errors import Diagnostic
from snncompile.ir.graph import Array, Op, Shape, register_op
from snncompile.ir.linear_ops import broadcasts_to


class Fire(str, Enum):
    """What a population sends: a spike on ``m >= theta`` or ``m > theta``, a graded ``relu(m - theta)``, or ``m`` itself."""

    STEP_GE = "step_ge"
    STEP_GT = "step_gt"
    RELU = "relu"
    NONE = "none"


class Reset(str, Enum):
    """What becomes of the membrane: see ``Neuron``."""

    SUBTRACT = "subtract"
    SET = "set"
    CLAMP = "clamp"
    KEEP = "keep"
    STATELESS = "stateless"


@register_op
@dataclass(frozen=True, kw_only=True, eq=False)
class Neuron(Op):
    """A population of neurons, advanced by one model step.

        i[t] = alpha[t] * i[t-1] + I[t]                      only if ``alpha`` is given (CuBa), i[-1] = 0
        m[t] = leak[t] * v[t-1] + gain[t] * i[t] + bias[t]   I[t] in place of i[t] without alpha; i[t-1] if ``late_current``
        h[t] = theta[t] + w[t-1]                             the threshold in force; w is 0 unless it adapts (ALIF)
        s[t] = H(m - h) (>= or >)  |  relu(m - h)  |  m
               grid * clamp(rint((m - h) / grid), 0, levels)            relu with a grid; ties to even (EM-PF's 4-bit spikes)
               how many k in 1..max_spikes have m >= k * h (or >)       multi-spike (sinabs), for max_spikes > 1 and h > 0
        v[t] = m - reset_amount[t] * s               subtract   (by the spike; graded or not); by (reset_amount + w[t-1]) * s if
                                                                ``adapt_reset``
               reset_keep[t] * m + reset_value[t]    set        where s > 0; reset_keep is 0 if not given (GLIF: part of it stays)
               min(m, h)                             clamp      (by the spike before it is rounded to a grid)
               m                                     keep
               0                                     stateless
               and never below v_min[t], if given (sinabs)
        w[t] = adapt_decay[t] * w[t-1] + adapt_jump[t] * s[t]           only if ``adapt_jump`` is given, w[-1] = 0

    Port   (first)  s, the payload      m  before the reset      v  after it
    State  v, starting at v_init; i and w, starting at 0
    Fields those with [t] above: (1 | T, ...) broadcastable to (T, *shape); v_init (...)
    """

    kind: ClassVar[str] = "neuron"
    ports: ClassVar[tuple[str, ...]] = ("", "m", "v")
    time_fields: ClassVar[frozenset[str]] = frozenset({
        "leak", "gain", "bias", "theta", "reset_amount", "reset_value", "alpha", "reset_keep", "v_min", "adapt_decay", "adapt_jump",
    })  # fmt: skip
    fire: Fire
    reset: Reset
    leak: Array
    gain: Array
    bias: Array
    theta: Array
    reset_amount: Array
    reset_value: Array
    v_init: Array
    alpha: Array | None = None
    late_current: bool = False
    grid: float = 0.0
    levels: int = 0
    max_spikes: int = 1
    reset_keep: Array | None = None
    v_min: Array | None = None
    adapt_decay: Array | None = None
    adapt_jump: Array | None = None
    adapt_reset: bool = False

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        for label in sorted(self.time_fields):
            array = getattr(self, label)
            if array is not None and not broadcasts_to(array[0], shape):
                raise ValueError(f"{label} {array.shape} does not fit (T, *{shape})")
        if not broadcasts_to(self.v_init, shape):
            raise ValueError(f"v_init {self.v_init.shape} does not fit {shape}")
        return shape

    def validate(self) -> Iterator[Diagnostic]:
        for label in [*sorted(self.time_fields), "v_init"]:
            value = getattr(self, label)
            if value is not None and not np.all(np.isfinite(value)):
                way = "a neuron that never fires needs no threshold: leave its comparison out, or compare with one that is out of reach"
                yield Diagnostic(
                    "SNN206", f"'{self.name}' (neuron): {label} holds NaN or infinity", self.loc, (), way if label == "theta" else None
                )
        if self.grid and (self.fire is not Fire.RELU or self.levels < 1 or not 0 < self.grid < np.inf or self.reset is Reset.SUBTRACT):
            yield Diagnostic(
                "SNN214", f"'{self.name}' (neuron): a grid needs a graded spike, at least 1 level, and no subtraction", self.loc
            )

        if self.max_spikes < 1 or (self.max_spikes > 1 and (not self.spiking or not np.all(self.theta > 0))):
            yield Diagnostic("SNN215", f"'{self.name}' (neuron): several spikes in a step need a spike and a positive threshold", self.loc)
        if (self.adapt_jump is None) != (self.adapt_decay is None) or (self.adapt_reset and self.adapt_jump is None):
            yield Diagnostic("SNN216", f"'{self.name}' (neuron): an adaptive threshold needs adapt_decay and adapt_jump", self.loc)
        if self.reset_keep is not None and self.reset is not Reset.SET:
            yield Diagnostic("SNN217", f"'{self.name}' (neuron): only a reset of kind 'set' keeps part of the membrane", self.loc)

    @property
    def spiking(self) -> bool:
        """Whether the payload counts spikes: 0, 1, or up to ``max_spikes``."""
        return self.fire in (Fire.STEP_GE, Fire.STEP_GT)


def constant(value: float) -> Array:
    """A scalar field for a neuron, the same at every step: shape (1,) so that it broadcasts to any (T, *shape)."""
    return np.asarray([value], dtype=np.float64)


def at_step(array: Array, t: int) -> Array:
    """The value of a per-step field at step ``t``."""
    out: Array = array[t if array.shape[0] > 1 else 0]
    return out

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
        s[t] = H(m - theta) (>= or >)  |  relu(m - theta)  |  m
               grid * clamp(rint((m - theta) / grid), 0, levels)        relu with a grid; ties to even (EM-PF's 4-bit spikes)
        v[t] = m - reset_amount[t] * s     subtract   (by the spike; graded or not)
               reset_value[t] where s > 0  set
               min(m, theta)               clamp      (by the spike before it is rounded to a grid)
               m                           keep
               0                           stateless

    Port   (first)  s, the payload      m  before the reset      v  after it
    State  v, starting at v_init; i, starting at 0
    Fields leak, gain, bias, theta, reset_amount, reset_value, alpha: (1 | T, ...) broadcastable to (T, *shape); v_init (...)
    """

    kind: ClassVar[str] = "neuron"
    ports: ClassVar[tuple[str, ...]] = ("", "m", "v")
    time_fields: ClassVar[frozenset[str]] = frozenset({"leak", "gain", "bias", "theta", "reset_amount", "reset_value", "alpha"})
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
                yield Diagnostic("SNN206", f"'{self.name}' (neuron): {label} holds NaN or infinity", self.loc)
        if self.grid and (self.fire is not Fire.RELU or self.levels < 1 or not 0 < self.grid < np.inf or self.reset is Reset.SUBTRACT):
            yield Diagnostic(
                "SNN214", f"'{self.name}' (neuron): a grid needs a graded spike, at least 1 level, and no subtraction", self.loc
            )

    @property
    def spiking(self) -> bool:
        """Whether the payload is a binary spike."""
        return self.fire in (Fire.STEP_GE, Fire.STEP_GT)


def constant(value: float) -> Array:
    """A scalar field for a neuron, the same at every step: shape (1,) so that it broadcasts to any (T, *shape)."""
    return np.asarray([value], dtype=np.float64)


def at_step(array: Array, t: int) -> Array:
    """The value of a per-step field at step ``t``."""
    out: Array = array[t if array.shape[0] > 1 else 0]
    return out

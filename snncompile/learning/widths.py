"""The learning engine's number widths, read from the target: no width is written in code."""

from __future__ import annotations

from dataclasses import dataclass, fields

from snncompile.errors import fail
from snncompile.target import Target


@dataclass(frozen=True, slots=True)
class Widths:
    """Bits of the learning engine; ``learning.<field>`` of a target file.

    weight, tag, delay   magnitude bits of the synaptic variables (a sign comes on top, except for a delay)
    trace                bits of the traces x1, x2, y1, y2, y3
    impulse_fraction     fraction bits of an impulse         constant   bits of a constant added to a factor
    mantissa             bits of a product's scale           exponent_low, exponent_high   its power of two
    accumulator          magnitude bits in which products are summed
    """

    weight: int
    tag: int
    delay: int
    trace: int
    impulse_fraction: int
    constant: int
    mantissa: int
    exponent_low: int
    exponent_high: int
    accumulator: int

    @classmethod
    def of(cls, target: Target) -> Widths:
        """The widths of a target; SNN801 if it has no learning engine."""
        found = {}
        for field in fields(cls):
            quantity = target.quantities.get(f"learning.{field.name}")
            if quantity is None:
                raise fail(
                    "SNN801", f"target '{target.name}' has no learning engine: {target.file} lacks learning.{field.name}",
                    help="choose a target that learns: --target loihi2-sim",
                )  # fmt: skip
            found[field.name] = int(quantity.value)
        return cls(**found)

    def factor(self, variable: str) -> int:
        """Bits of a factor of a product; conditions have 1, synaptic variables their magnitude and sign."""
        if variable in ("x0", "y0"):
            return 1
        return {"w": self.weight + 1, "t": self.tag + 1, "d": self.delay + 1}.get(variable, self.trace)

    @property
    def trace_high(self) -> int:
        """The largest value of a trace."""
        return int(2**self.trace - 1)

    @property
    def headroom(self) -> int:
        """Fraction bits of a weight inside the accumulator."""
        return self.accumulator - self.weight


__all__ = ["Widths"]

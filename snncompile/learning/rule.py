"""Learning rules as sums of products: what the chip's engine can compute, printed as an equation and as Lava's text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from snncompile.errors import CompileError, Diagnostic
from snncompile.learning.widths import Widths
from snncompile.target import Target

CONDITIONS = ("x0", "y0", "u")
TRACES = ("x1", "x2", "y1", "y2", "y3")
SYNAPTIC = {"w": "dw", "d": "dd", "t": "dt"}
GRADED = ("regular", "overwrite", "add_saturating", "add_overflowing")
"""What a presynaptic payload does to x1: nothing beyond a spike's impulse, or replace it, or add to it (Lava's GradedSpikeCfg 0..3)."""


@dataclass(frozen=True, slots=True)
class Factor:
    """``variable``, ``(variable + constant)``, or the sign of either: a trace, a condition or a synaptic variable (w, d, t)."""

    variable: str
    constant: int | None = None
    sign: bool = False

    def __str__(self) -> str:
        inner = self.variable if self.constant is None else f"{self.variable}{self.constant:+d}"
        return f"sgn({inner})" if self.sign else (inner if self.constant is None else f"({inner})")


@dataclass(frozen=True, slots=True)
class Product:
    """``mantissa * 2**exponent * condition * factors``: added when the condition holds.

    condition  x0: the presynaptic neuron fired in this epoch; y0: the postsynaptic one; u: every 2**decimation epochs
    """

    condition: str
    mantissa: int
    exponent: int
    factors: tuple[Factor, ...] = ()

    def lava(self, decimation: int) -> str:
        """The product in Lava's grammar, without its sign."""
        condition = f"u{decimation}" if self.condition == "u" else self.condition
        return "*".join([f"{abs(self.mantissa)}*2^{self.exponent}", condition, *map(str, self.factors)])


@dataclass(frozen=True, slots=True)
class Trace:
    """``x[t] = round(exp(-1/tau) * x[t-1]) + impulse * spike``, rounded stochastically; tau = 0 forgets at once."""

    impulse: float = 0.0
    tau: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How synaptic variables change at the end of every epoch (``epoch`` hardware steps).

        w += sum of dw,   d += sum of dd,   t += sum of dt            each product with the values before the epoch's update

    x1, x2, y1, y2, y3   the traces; with ``delivered`` (three-factor rules) the y are what arrives from the postsynaptic population
    decimation  k of the condition u: it holds in epochs number 0, 2**k, 2 * 2**k...      seed  of the traces' stochastic rounding
    """

    dw: tuple[Product, ...] = ()
    dd: tuple[Product, ...] = ()
    dt: tuple[Product, ...] = ()
    x1: Trace = Trace()
    x2: Trace = Trace()
    y1: Trace = Trace()
    y2: Trace = Trace()
    y3: Trace = Trace()
    delivered: bool = True
    decimation: int = 0
    epoch: int = 1
    seed: int = 1
    graded: str = "regular"

    @property
    def targets(self) -> dict[str, tuple[Product, ...]]:
        """The products by the variable that they change, those without any left out, in the engine's order."""
        return {v: products for v, key in SYNAPTIC.items() if (products := getattr(self, key))}

    def lava(self, target: str) -> str | None:
        """The text of ``dw``, ``dd`` or ``dt`` for Lava, None where nothing changes."""
        text = ""
        for product in getattr(self, target):
            sign = "-" if product.mantissa < 0 else "+"
            text += f" {sign} {product.lava(self.decimation)}" if text else f"{sign if sign == '-' else ''}{product.lava(self.decimation)}"
        return text or None

    def equation(self) -> str:
        """The rule for people, one line a variable."""
        lines = [f"{key} = {text}" for key in SYNAPTIC.values() if (text := self.lava(key))]
        for name in TRACES[: 2 if self.delivered else 5]:
            trace: Trace = getattr(self, name)
            if trace.impulse or trace.tau:
                lines.append(f"{name}[t] = round(exp(-1/{trace.tau:g}) * {name}[t-1]) + {trace.impulse:g} * s[t]")
        return "\n".join(lines)

    def check(self, target: Target) -> None:
        """Raise CompileError with everything that the target's engine cannot compute (SNN802 to SNN804)."""
        found = [d for products in self.targets.values() for p in products for d in _problems(p, target)]
        for name in TRACES:
            trace: Trace = getattr(self, name)
            high = Widths.of(target).trace_high
            if not 0 <= trace.impulse <= high or trace.tau < 0:
                found.append(Diagnostic(
                    "SNN803", f"{name} has impulse {trace.impulse:g}, tau {trace.tau:g}; an impulse lies in 0..{high}, tau is not negative",
                    notes=(target.cite("learning.trace"),),
                ))  # fmt: skip
        if found:
            raise CompileError(found)


def _problems(p: Product, target: Target) -> Iterator[Diagnostic]:
    """What is wrong with one product."""
    widths, text = Widths.of(target), p.lava(0)
    if p.condition not in CONDITIONS:
        yield Diagnostic("SNN802", f"'{text}' has the condition '{p.condition}'; the engine knows {', '.join(CONDITIONS)}")
    known = (*TRACES, *SYNAPTIC, "x0", "y0")
    for f in p.factors:
        if f.variable not in known:
            yield Diagnostic(
                "SNN802", f"'{text}' needs the factor '{f.variable}', which the learning engine lacks",
                notes=(f"it has {', '.join(known)}", target.cite("learning.trace")),
                help="deliver the quantity as a third factor (y1, y2 or y3) from a population of its own",
            )  # fmt: skip
        elif f.sign and f.variable not in SYNAPTIC:
            yield Diagnostic("SNN802", f"'{text}' takes the sign of '{f.variable}'; the engine has signs of {', '.join(SYNAPTIC)} only")
        if f.constant is not None and abs(f.constant) >= 2**widths.constant:
            yield Diagnostic(
                "SNN803", f"'{text}' adds {f.constant} to a factor, the engine holds {widths.constant} bits",
                notes=(target.cite("learning.constant"),),
            )  # fmt: skip
    largest = 2 ** (widths.mantissa - 1) - 1
    if not 1 <= abs(p.mantissa) <= largest or not widths.exponent_low <= p.exponent <= widths.exponent_high:
        yield Diagnostic(
            "SNN803", f"'{text}' is scaled by {p.mantissa} * 2**{p.exponent}; a scale is 1..{largest} times 2**{widths.exponent_low} to "
            f"2**{widths.exponent_high}",
            notes=(target.cite("learning.mantissa"), target.cite("learning.exponent_low")),
            help="change the impulse of the trace or the gain of the third factor instead",
        )  # fmt: skip
    bits = sum(widths.factor(f.variable) for f in p.factors) + widths.mantissa
    if bits > 32:
        yield Diagnostic(
            "SNN804", f"'{text}' is a product of {bits} bits, the engine multiplies in 32",
            notes=(target.cite("learning.accumulator"),), help="use fewer factors in a product",
        )  # fmt: skip


__all__ = ["CONDITIONS", "GRADED", "SYNAPTIC", "TRACES", "Factor", "Product", "Rule", "Trace"]

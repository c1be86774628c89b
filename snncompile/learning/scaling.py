"""From a float learning rate to the integers of the engine: impulse, levels of the error, power of two.

Float   dW~ = -rho * g_i * a_j,     rho = eta * gain**2 / T       W~ = gain * W: the weight as the chip holds it, a trace of bare spikes
Chip    dw  = -2**e * x1_j * k_i    x1 = impulse * fade * a_j,   k = levels * g_i,    a weight LSB is worth ``lsb``
Equal   impulse * levels * 2**e = rho / (lsb * fade)

Every rounding on the way is unbiased, so the accumulated update needs no further correction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from snncompile.errors import CompileError, fail
from snncompile.learning.widths import Widths
from snncompile.target import Target

LEAST = 16
"""How far a modulator's multiplier goes below the engine's smallest step: beyond, it would be rounded by more than a few per cent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Chosen numbers; ``impulse`` is the mean that a spike adds to the trace, 1 for rules without a trace (``mantissa`` scales them)."""

    impulse: float
    levels: int
    mantissa: int
    exponent: int
    tau: float = 0.0

    @property
    def unit(self) -> float:
        """Weight LSBs that the largest third factor changes where the trace is 1 (in units of what is left of it)."""
        return self.impulse * self.levels * 2.0**self.exponent * (1 if self.tau else 2 * self.mantissa)

    @property
    def stored_impulse(self) -> float:
        """The impulse as the engine takes it: a fraction f is added with probability 2 f (8-bit fractions meet 7-bit random numbers)."""
        whole = math.floor(self.impulse)
        return whole + (self.impulse - whole) / 2


def fade(leak: float, interval: int, delay: int) -> tuple[float, float]:
    """(leak per hardware step, what is left of a trace when the error arrives: ``delay + 1`` steps after the spikes)."""
    per_step = leak ** (1 / interval)
    return per_step, per_step ** (delay + 1)


def scale_traced(rho: float, lsb: float, leak: float, interval: int, delay: int, target: Target, finer: float = 1.0) -> Scale:
    """Numbers of a rule with a trace of decay ``leak`` per model step.

    The trace is as large as its 7 bits allow (impulse / (1 - leak) at most), the error has as many levels as 6 bits and the rate allow.
    finer   by how much the LSB could be finer for a smaller range of what is learned
    Errors  SNN808 a rate beyond the engine, with what helps
    """
    widths = Widths.of(target)
    per_step, left = fade(leak, interval, delay)
    wanted = rho / (lsb * left)
    highest_impulse = max(1.0, math.floor(widths.trace_high * (1 - leak)))
    highest_levels = (widths.trace_high + 1) // 2 - 1
    for exponent in range(widths.exponent_low, widths.exponent_high - 1):
        product = wanted / 2.0**exponent
        if product > highest_impulse * highest_levels:
            continue
        levels = min(highest_levels, max(1, round(math.sqrt(product * highest_levels / highest_impulse))))
        impulse = product / levels
        if impulse > highest_impulse:
            levels = math.ceil(product / highest_impulse)
            impulse = product / levels
        if impulse < 2.0**-widths.trace:
            break
        return Scale(impulse=impulse, levels=levels, mantissa=4, exponent=exponent, tau=-1 / math.log(per_step) if per_step > 0 else 0.0)
    least, most = 2.0 ** (widths.exponent_low - widths.trace), highest_impulse * highest_levels * 2.0 ** (widths.exponent_high - 2)
    raise _rate(wanted, least, most, target, finer)


def scale_plain(rho: float, lsb: float, target: Target, finer: float = 1.0) -> Scale:
    """Numbers of a rule whose presynaptic factor is the spike: ``mantissa * levels * 2**e = rho / lsb`` as near as integers come.

    Errors  SNN808 as ``scale_traced``
    """
    widths = Widths.of(target)
    wanted = rho / lsb
    highest = (widths.trace_high + 1) // 2 - 1
    best: tuple[float, Scale] | None = None
    for exponent in range(widths.exponent_low, widths.exponent_high + 1):
        for mantissa in range(1, 2 ** (widths.mantissa - 1)):
            levels = round(wanted / (2 * mantissa * 2.0**exponent))  # the third factor is sent as 2 * k
            if not 1 <= levels <= highest:
                continue
            error = abs(2 * mantissa * levels * 2.0**exponent / wanted - 1)
            if best is None or (error > 0.005 and error < best[0]) or (error <= 0.005 and levels > best[1].levels):
                best = (error, Scale(impulse=1, levels=levels, mantissa=mantissa, exponent=exponent))
    if best is None or best[0] > 0.05:
        raise _rate(wanted, 2.0**widths.exponent_low * 20, highest * 14 * 2.0**widths.exponent_high, target, finer)
    return best[1]


def scale_free(rho: float, lsb: float, target: Target, finer: float = 1.0) -> Scale:
    """Numbers of a rule without a trace whose third factor comes from a modulator, which makes up for what integers miss.

    ``mantissa * levels * 2**e >= rho / lsb``, as near as they come, with many levels.
    Errors  SNN808 a rate beyond the engine
    """
    widths = Widths.of(target)
    wanted = rho / lsb
    highest, low = (widths.trace_high + 1) // 2 - 1, 2.0 ** (widths.exponent_low + 1) / LEAST
    for exponent in range(widths.exponent_low, widths.exponent_high + 1):
        for mantissa in range(1, 2 ** (widths.mantissa - 1)):
            if wanted < low:
                break
            levels = max(1, math.ceil(wanted / (2 * mantissa * 2.0**exponent)))
            if levels <= highest:
                return Scale(impulse=1, levels=levels, mantissa=mantissa, exponent=exponent)
    raise _rate(wanted, low, highest * 14 * 2.0**widths.exponent_high, target, finer)


def _rate(wanted: float, low: float, high: float, target: Target, finer: float) -> CompileError:
    """The range of what is learned goes in powers of two, and the LSB with it: so does the factor that is sure to be enough."""
    small = wanted < low
    factor = 2.0 ** math.ceil(math.log2(low / wanted if small else wanted / high))
    way = f"multiply the rate by {factor:,.0f}" if small else f"divide the rate by {factor:,.0f}"
    other = f", or divide the layer's --headroom by {factor:,.0f}" if small and factor <= finer else ""
    return fail(
        "SNN808", f"the learning rate asks for steps of {wanted:.3g} LSBs of what is learned, the engine makes {low:.3g} to {high:.3g}",
        notes=(target.cite("learning.exponent_low"), target.cite("learning.trace")), help=way + other,
    )  # fmt: skip


__all__ = ["Scale", "fade", "scale_free", "scale_plain", "scale_traced"]

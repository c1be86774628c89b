"""Number formats, rounding modes, fixed-point steps and bound arithmetic: the only place with chip arithmetic."""

from snncompile.numerics.arithmetic import decay, few_levels, floor, half_even, multiply_shift, snap, toward_zero, trailing_zeros
from snncompile.numerics.formats import Format
from snncompile.numerics.interval import Interval

__all__ = ["Format", "Interval", "decay", "few_levels", "floor", "half_even", "multiply_shift", "snap", "toward_zero", "trailing_zeros"]

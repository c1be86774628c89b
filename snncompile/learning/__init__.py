"""On-chip learning: three-factor rules, their integer engine, and the programs that keep learning on the chip."""

from snncompile.learning.attach import LearnOptions, Plastic, make_plastic
from snncompile.learning.engine import PlasticDense
from snncompile.learning.rule import Factor, Product, Rule, Trace
from snncompile.learning.stream import Learned, learn
from snncompile.learning.widths import Widths

__all__ = [
    "Factor", "LearnOptions", "Learned", "Plastic", "PlasticDense", "Product", "Rule", "Trace", "Widths", "learn", "make_plastic",
]  # fmt: skip

"""Float graph to integer graph: input grids, scales, guard bits, bounds, and the proof of exactness per population."""

from snncompile.quantize.dequantise import dequantise
from snncompile.quantize.flow import quantize
from snncompile.quantize.options import Adapted, Options, PopulationReport, QuantResult

__all__ = ["Adapted", "Options", "PopulationReport", "QuantResult", "dequantise", "quantize"]

"""Neuron programs to integers: ranges of registers, their power-of-two LSBs, tables, and the proof that nothing overflows."""

from snncompile.quantize.program.dequantise import dequantised_program
from snncompile.quantize.program.lower import LoweredProgram, ProgramJob, lower_program
from snncompile.quantize.program.ranges import seen_ranges
from snncompile.quantize.program.refusals import program_refusals

__all__ = ["LoweredProgram", "ProgramJob", "dequantised_program", "lower_program", "program_refusals", "seen_ranges"]

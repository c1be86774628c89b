"""Equivalence of a program with the network it came from and with its executors; the first divergence of any pair."""

from snncompile.verify.divergence import Divergence
from snncompile.verify.flow import Original, Program, Verification, default_input, verify

__all__ = ["Divergence", "Original", "Program", "Verification", "default_input", "verify"]

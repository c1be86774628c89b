"""What a user may choose about the integers, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from snncompile.errors import fail
from snncompile.ir.graph import Graph
from snncompile.quantize.planes import widest as two_synapses


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Widths and priorities of the quantiser.

    weight_bits   signed weights; wider than the target's they take two synapses, up to 15 bits for 8. A population takes fewer bits
                  where the sums would not fit otherwise, its dynamics would no longer be exact, or one synapse loses no more than two;
                  a neuron program has one synapse
    input_bits    payload of a quantised input; inputs that lie on a grid of no more levels keep their grid
    payload_bits  payload of a graded output of a neuron
    stream_bits   payload of a real-valued stream (a sum or current that several layers read) and of its differences
                  both are the most: a payload gets fewer bits where its readers could not add them up without overflow
    pursue_exact  "auto": exact populations where that costs nothing; "always": trade weight bits for guard bits elsewhere
    """

    weight_bits: int = 8
    input_bits: int = 8
    payload_bits: int = 8
    stream_bits: int = 16
    pursue_exact: Literal["auto", "always"] = "auto"

    def codes(self, bits: int) -> int:
        """The largest integer of one synapse's weight on a target whose weights have ``bits`` bits."""
        return int(2 ** (min(self.weight_bits, bits) - 1) - 1)

    def check(self, bits: int) -> None:
        """Raise CompileError SNN310 for a width that makes no sense on a target whose weights have ``bits`` bits."""
        for label, low, high in (
            ("weight_bits", 2, two_synapses(bits)),
            ("input_bits", 1, 16),
            ("payload_bits", 1, 16),
            ("stream_bits", 1, 16),
        ):
            value = getattr(self, label)
            if not low <= value <= high:
                raise fail("SNN310", f"{label} is {value}, it must lie in {low}..{high}")
        if self.pursue_exact not in ("auto", "always"):
            raise fail("SNN310", f"pursue_exact is '{self.pursue_exact}', it must be auto or always")


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """What rounding by calibration data changed in a population.

    samples      how many samples were heard
    before, after  root mean square of the current's error on them, relative to the current's own: nearest weights, chosen ones
    """

    samples: int
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationReport:
    """What became of one population, and what is proved about it.

    weight_bits  what a weight takes: in one synapse 1 if binary, 2 if ternary, 4 if there are at most 16 equidistant levels
    sigma     smallest and largest value of one weight LSB over the channels (of the port with the finest weights)
    steps_per_threshold  K, the threshold in weight LSBs: smallest and largest; None without a threshold
    guard_bits  F: one membrane LSB is sigma * 2**-F
    exact     the integer dynamics provably equal the float dynamics of the dequantised weights and biases; ``reason`` if not
    payload_lsb  graded outputs: the value of one payload LSB (its rounding is apart from ``exact``); None for spikes
    ceiling   graded outputs: what ends them: the ``network`` (a trained grid); ``proved``: no membrane reaches further; ``calibrated``: the
              range of calibration data, beyond which payloads saturate. "" for spikes
    bounds    proved for every input: ``accumulator``, ``input``, ``charge``, ``membrane`` before and ``state`` after the reset
    weight_error  root mean square of the weights' rounding, relative to the weights' root mean square
    adapted   what calibration data changed in the rounding; None where weights are the nearest integers
    """

    name: str
    neurons: int
    synapses: int
    weight_bits: int
    sigma: tuple[float, float]
    steps_per_threshold: tuple[float, float] | None
    guard_bits: int
    exact: bool
    reason: str
    payload_lsb: float | None
    bounds: dict[str, tuple[int, int]] = field(default_factory=dict)
    weight_error: float = 0.0
    ceiling: str = ""
    adapted: Adapted | None = None

    def __str__(self) -> str:
        state = "exact" if self.exact else f"not exact: {self.reason}"
        low, high = self.bounds["membrane"]
        return (
            f"{self.name}: {self.neurons} neurons, {self.weight_bits}-bit weights (error {self.weight_error:.2%}), "
            f"{self.guard_bits} guard bits, membrane {low}..{high}, {state}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantResult:
    """The integer graph, one report per population in the graph's order, and what else a user should know."""

    graph: Graph
    populations: tuple[PopulationReport, ...]
    notes: tuple[str, ...] = ()


__all__ = ["Adapted", "Options", "PopulationReport", "QuantResult"]

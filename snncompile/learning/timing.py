"""When a plastic layer's third factor arrives: the initiation interval in which every error is back before the next spikes are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snncompile.errors import fail
from snncompile.ir.graph import Graph
from snncompile.ir.integer import IntNeuron
from snncompile.learning.chain import Link
from snncompile.mapping.schedule import Schedule, schedule


@dataclass(frozen=True, slots=True)
class Timing:
    """``lag`` and ``delay`` by plastic layer.

    lag    hardware steps from the presynaptic spikes of a model step to its third factor at the synapse
    delay  those that the population that sends it waits: the error population or a local modulator from the update that it hears of
           (at least 1, for it sends before it hears), a modulator with feedback from the arrival of M (0 or more)
    """

    schedule: Schedule
    lag: tuple[int, ...]
    delay: tuple[int, ...]

    def left(self, leak: float, k: int) -> float:
        """What is left of a trace of decay ``leak`` when the third factor of layer k arrives; 1 without a trace."""
        return float(leak ** (self.lag[k] / self.schedule.initiation_interval)) if leak > 0 else 1.0


def find_timing(graph: Graph, plastic: Sequence[Link], readout: IntNeuron, *, traced: Sequence[bool], local: bool) -> Timing:
    """The smallest initiation interval that works for all layers.

    The shortest ways: readout and local modulators 1 hop to the neurons and 1 back; with feedback the hops to the readout, one to the
    feedback synapse, one to the modulator. A rule without a trace reads "fired in this epoch", so its epoch is one model step and must
    end when the third factor is there.
    Errors  SNN806 spikes that wait in a plastic synapse
    """
    depth = schedule(graph).depth
    for link in plastic:
        if depth[link.population.name] != depth[link.source.name] + 1:
            raise fail(
                "SNN806", f"'{link.population.name}' cannot learn on the chip: its spikes wait in the synapse", loc=link.population.loc,
                help="let the layer read the population right before it",
            )  # fmt: skip
    near = [local or link.population is readout for link in plastic]
    least = [2 if n else depth[readout.name] - depth[link.source.name] + 2 for n, link in zip(near, plastic, strict=True)]
    interval = max(least)
    while True:
        timed = schedule(graph, interval=interval + 1)
        interval = timed.initiation_interval  # cycles may force a larger one
        starts = (timed.depth[link.source.name] for link in plastic)
        lags = tuple(_lag(s, low, interval, trace=t) for s, low, t in zip(starts, least, traced, strict=True))
        if all(lags):
            return Timing(timed, lags, tuple(lag - low + n for lag, low, n in zip(lags, least, near, strict=True)))


def _lag(start: int, low: int, interval: int, *, trace: bool) -> int:
    """The smallest lag from ``low`` to below the interval; without a trace one that ends an epoch. 0 if there is none."""
    return next((n for n in range(low, interval) if trace or (start + n + 1) % interval == 0), 0)


__all__ = ["Timing", "find_timing"]

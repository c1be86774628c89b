"""What recognition finds: a population in normal form, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from snncompile.ir.graph import Array
from snncompile.ir.neuron import Fire, Reset


@dataclass
class Population:
    """A recognised population: the fields of ``Neuron``, its currents with their gains, and the rolled nodes it stands for.

    ``ports`` maps rolled nodes to (port, factor, shift): node value = factor * port + shift. ``inner`` are nodes that nothing outside
    may read.
    """

    node: str
    fire: Fire
    reset: Reset
    leak: Array
    bias: Array
    theta: Array
    reset_amount: Array
    reset_value: Array
    v_init: Array
    currents: Mapping[str, Array]
    ports: dict[str, tuple[str, float, float]] = field(default_factory=dict)
    inner: set[str] = field(default_factory=set)
    grid: float = 0.0
    levels: int = 0
    max_spikes: int = 1
    reset_keep: Array | None = None
    v_min: Array | None = None
    adapt_decay: Array | None = None
    adapt_jump: Array | None = None
    adapt_reset: bool = False


class NotNormal(Exception):  # noqa: N818 - a verdict, not a failure
    """A threshold whose surroundings have no normal form; the message says why."""

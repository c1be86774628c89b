"""Weights wider than the target's: two synapses between the same neurons.

    q = 2**s * coarse + fine        |coarse|, |fine| <= codes, the largest integer of the target's weights

Both synapses hear the same payload at the same hardware step, so the membrane adds them up as if they were one; they take twice the
synapse memory and twice the operations. The fine one has the coarse one's name with ``_fine`` behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from snncompile.ir.graph import Array, Graph, Op, fresh_name
from snncompile.ir.population import IntPopulation, Port, ports
from snncompile.numerics import half_even

FINE = "_fine"


def widest(bits: int) -> int:
    """The bits of the widest weights that two synapses of ``bits`` bits hold."""
    return 2 * bits - 1


def planes(q: Array, bits: int) -> list[tuple[Array, int]]:
    """Integers as one plane or two, each of ``bits`` bits with sign, and by how much each is shifted; the coarse one first."""
    codes = 2 ** (bits - 1) - 1
    largest = int(np.abs(q).max(initial=0))
    if largest <= codes:
        return [(q, 0)]
    shift = next(s for s in range(1, bits) if largest <= codes * (2**s + 1))
    coarse = np.clip(half_even(q / 2.0**shift), -codes, codes)
    return [(coarse, shift), (q - coarse * 2**shift, 0)]


def fine_name(taken: Mapping[str, object], coarse: str) -> str:
    """What the second synapse of ``coarse`` is called."""
    return fresh_name(taken, f"{coarse}{FINE}")


def is_fine_of(other: Op, coarse: Op) -> bool:
    """Whether ``other`` is the second synapse of ``coarse``: its name, its input and the same place in the network."""
    return other.name.startswith(f"{coarse.name}{FINE}") and other.inputs == coarse.inputs and other.origin == coarse.origin


def whole_ports(trained: Graph, program: Graph, population: IntPopulation) -> list[tuple[Port, int]]:
    """A population's ports with two synapses as one again, and their exponents; ``trained`` is the float graph, which has one each."""
    found: list[tuple[Port, int]] = []
    for p, e in zip(ports(program, population), population.exponents, strict=True):
        if p.synapse.name in trained.by_name:
            found.append((p, e))
            continue
        coarse, shift = found.pop()
        weight = np.asarray(coarse.synapse.weight, dtype=np.int64) * 2 ** (shift - e) + p.synapse.weight
        found.append((replace(coarse, synapse=replace(coarse.synapse, weight=weight)), e))
    return found


__all__ = ["fine_name", "is_fine_of", "planes", "whole_ports", "widest"]

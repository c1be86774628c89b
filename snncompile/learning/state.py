"""What a program that learns knows between two samples: enough to go on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from snncompile.errors import CompileError, fail
from snncompile.ir.graph import Array, Graph
from snncompile.learning.chain import links
from snncompile.learning.program import LearningProgram

ENGINE = ("w", "d", "t", "x", "y", "fired_x", "fired_y", "buffer")
"""Of a plastic synapse: weights, delays and tags (post, pre), traces (2, pre) and (3, post), spikes of the epoch, sums under way."""
ERROR = "error"
REST = "rest"


@dataclass(frozen=True, eq=False)
class LearningState:
    """Where a stream is after ``samples`` samples: every layer at the hardware step in which it would see the next one.

    layers   by population, the arrays of ``ENGINE``            rests   remainders (n,) of the error population ("error") and of the
             modulators, by the population that they teach
    All other random numbers follow from the hardware step; nothing of a sample is under way at these steps.
    """

    samples: int
    layers: Mapping[str, Mapping[str, Array]]
    rests: Mapping[str, Array]

    def arrays(self) -> dict[str, Array]:
        """Everything but the number of samples, by name."""
        engines = {f"{layer}.{k}": v for layer, arrays in self.layers.items() for k, v in arrays.items()}
        return engines | {f"{name}.{REST}": v for name, v in self.rests.items()}

    @classmethod
    def of(cls, samples: int, arrays: Mapping[str, Array], program: LearningProgram, graph: Graph) -> LearningState:
        """Back from ``arrays``; KeyError or ValueError where they are not those of this program."""
        if samples < 1:
            raise ValueError(f"its learning has seen {samples} samples")
        sizes = {link.population.name: np.shape(link.synapse.weight) for link in links(graph, [x.population for x in program.layers])}
        layers, rests = {}, {ERROR: _checked(arrays[f"{ERROR}.{REST}"], graph.shape(program.readout))}
        for x in program.layers:
            post, pre = sizes[x.population]
            wanted = {"x": (2, pre), "y": (3, post), "fired_x": (pre,), "fired_y": (post,), "buffer": (post,)}
            layers[x.population] = {k: _checked(arrays[f"{x.population}.{k}"], wanted.get(k, (post, pre))) for k in ENGINE}
            if x.modulator is not None:
                rests[x.population] = _checked(arrays[f"{x.population}.{REST}"], (post,))
        return cls(samples, layers, rests)


def _checked(array: Array, shape: tuple[int, ...]) -> Array:
    if array.shape != shape or array.dtype != np.dtype("i8"):
        raise ValueError(f"its learning holds an array of {array.dtype} {list(array.shape)} in the place of i8 {list(shape)}")
    return array


def no_middle(bundle: str, samples: int) -> CompileError:
    """The error of Lava and a stream that has begun (SNN816)."""
    return fail(
        "SNN816", f"Lava cannot go on where {bundle} stopped, after {samples:,} samples: it begins with fresh traces and random numbers",
        help="choose --backend reference, which computes the same bits, or begin anew from the saved weights with --reload",
    )  # fmt: skip


def nothing_left(bundle: str, why: str) -> CompileError:
    """The error of a stream that was not interrupted (SNN817)."""
    return fail("SNN817", f"there is nothing to go on with: {bundle} {why}", help="leave out --continue to learn from the file")


__all__ = ["ENGINE", "ERROR", "LearningState", "no_middle", "nothing_left"]

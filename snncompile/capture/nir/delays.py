"""Delay nodes: whole steps, each neuron its own."""

from __future__ import annotations

import numpy as np

from snncompile.capture.nir.choices import Choices
from snncompile.capture.nir.layers import carried
from snncompile.capture.nir.nodes import RawNode
from snncompile.errors import fail
from snncompile.ir.graph import Array, Op, Shape
from snncompile.ir.linear_ops import Add, Delay, Gather

MAX_STEPS = 1024


def make_delay(node: RawNode, name: str, source: str, shape: Shape, choices: Choices) -> list[Op]:
    """A chain of one-step delays; where delays differ, each element is read where its own chain ends.

        y[t] = x[t - d], 0 before the first step

    The last op has the node's name. Raises CompileError SNN167 where a delay is no whole number of steps from 0 to 1024.
    """
    size = carried(shape)
    steps = np.broadcast_to(delay_steps(node, choices), shape).reshape(size)
    ops: list[Op] = []
    chain = [source]
    for k in range(int(steps.max())):
        label = name if steps.min() == steps.max() == k + 1 else f"{name}_after_{k + 1}"
        ops.append(Delay(name=label, inputs=(chain[-1],), origin=(node.path,), size=size, initial=np.zeros((1,) * len(size))))
        chain.append(label)
    if steps.min() == steps.max():
        if not ops:
            ops.append(Gather(name=name, inputs=(source,), origin=(node.path,), index=np.arange(steps.size).reshape(size)))
        return ops
    every = np.arange(steps.size).reshape(size)
    parts = [
        Gather(name=f"{name}_of_{d}", inputs=(chain[d],), origin=(node.path,), index=np.where(steps == d, every, -1))
        for d in np.unique(steps)
    ]  # fmt: skip
    return [*ops, *parts, Add(name=name, inputs=tuple(p.name for p in parts), origin=(node.path,))]


def delay_steps(node: RawNode, choices: Choices) -> Array:
    """A delay node's delays in steps, in the shape that the file has them."""
    unit = choices.of(node, "delay_unit")
    delay = np.asarray(node.fields["delay"], dtype=np.float64)
    dt = 1.0 if unit == "steps" else choices.of(node, "dt")
    if dt == "from-r":
        raise fail("SNN167", f"node {node.label}: a delay in seconds needs the step", help="set it: --nir-set dt=SECONDS")
    steps = delay / float(dt)
    whole = np.rint(steps)
    off = np.abs(steps - whole) > 1e-4 * np.maximum(1.0, whole)
    if off.any() or whole.min() < 0 or whole.max() > MAX_STEPS:
        odd = delay[off].flat[0] if off.any() else whole.min() * float(dt) if whole.min() < 0 else whole.max() * float(dt)
        raise fail(
            "SNN167", f"node {node.label}: a delay of {float(odd):g} {unit} is no whole number of steps from 0 to {MAX_STEPS}",
            notes=[] if unit == "steps" else [f"a step is {float(dt):g} s"],
            help="set the step with --nir-set dt=SECONDS, or say that delays count steps: --nir-set delay_unit=steps",
        )  # fmt: skip
    return whole.astype(np.int64)


__all__ = ["delay_steps", "make_delay"]

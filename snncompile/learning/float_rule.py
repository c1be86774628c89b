"""The float rule that the chip follows, as plain arrays: what PyTorch needs to learn from the same spikes (``online.chain``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from snncompile.ir.graph import Array, Graph
from snncompile.ir.integer import IntNeuron
from snncompile.ir.neuron import Reset
from snncompile.learning.chain import links
from snncompile.learning.program import LearningProgram, PlasticLayer


def float_stages(program: LearningProgram, graph: Graph) -> list[dict[str, Any]]:
    """The layers from the first plastic one to the readout in units of the folded network: keyword arguments of ``online.chain.Stage``.

    Weights are those that the chip is loaded with, the trained ones and what was learned, everything else is read off the integers, too.
    """
    given = {x.population: x for x in program.layers}
    stages = []
    for link in links(graph, given):
        layer, n = given.get(link.population.name), link.population
        lsb = np.asarray(n.v_scale, dtype=np.float64).reshape(-1)
        unit = lsb * 2.0 ** n.exponents[0]
        weight = link.synapse.weight * unit[:, None]
        if layer is not None:
            weight = weight + layer.chip_weights(graph) * np.array(layer.lsb)[:, None]
        stages.append({"weight": weight, **_neuron(n, lsb), **({} if layer is None else _rule(layer))})
    return stages


def _neuron(n: IntNeuron, lsb: Array) -> dict[str, Any]:
    fields: Mapping[str, Array] = {
        "bias": n.bias * lsb, "leak": n.leak / 2.0**n.decay_bits, "threshold": n.threshold * lsb,
        "reset": (n.reset_amount if n.reset is Reset.SUBTRACT else n.reset_value) * lsb,
    }  # fmt: skip
    kind = "none" if n.fire == "none" else n.reset.value
    stateless = n.reset is Reset.STATELESS
    return {"kind": kind, **fields, "leak": np.zeros((1, 1)) if stateless else fields["leak"], "start": n.v_init.reshape(-1) * lsb}


def _rule(layer: PlasticLayer) -> dict[str, Any]:
    """Update per unit of modulator and trace, trace, surrogate, feedback, first step that learns."""
    found: dict[str, Any] = {"step": layer.step, "share": np.array(layer.share), "trace": layer.leak}
    m = layer.modulator
    if layer.psi is not None and m is not None:
        feedback = np.array(m.feedback, dtype=np.float64) * layer.feedback_lsb if m.kind == "feedback" else None
        found |= {"surrogate": (layer.psi.kind, layer.psi.size), "unit": layer.unit, "feedback": feedback, "local": m.kind == "local"}
    return found


__all__ = ["float_stages"]

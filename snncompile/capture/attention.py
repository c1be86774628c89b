"""Channel attention (SECA): by gates fixed in calibration, or live as the method defines them, on the chip or on its host."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch

from snncompile.capture.capture import Captured
from snncompile.capture.check import predict
from snncompile.capture.program import ProgramPopulation
from snncompile.errors import fail
from snncompile.ir.graph import Array
from snncompile.ledger import Decision
from snncompile.online.seca import SECA

Gates = Literal["calibrated", "exact", "host"]
CHOICES: tuple[Gates, ...] = ("calibrated", "exact", "host")
MEASURED = 64
"""Samples on which the choice's effect is measured."""


def attention_of(model: object) -> dict[str, SECA]:
    """The modules of a network that hold fixed gates, by path."""
    named = model.named_modules() if isinstance(model, torch.nn.Module) else ()
    return {name: m for name, m in named if isinstance(m, SECA) and m.gates is not None}


def with_gates(model: Any, gates: str) -> Any:
    """The network with the gates that were chosen: itself, or a copy whose gates follow the sample. Raises CompileError SNN141."""
    if gates not in CHOICES:
        raise fail("SNN141", f"SECA's gates are calibrated, exact or host, not '{gates}'")
    if gates == "calibrated":
        return model
    if not attention_of(model):
        raise fail(
            "SNN141", f"SECA's gates shall be '{gates}', and the network has no channel attention with fixed gates",
            help="leave the option out: gates that follow the sample are compiled as they are",
        )  # fmt: skip
    live = copy.deepcopy(model)
    for module in attention_of(live).values():
        module.fixed = False
    return live


def gate_populations(captured: Captured, model: object) -> tuple[str, ...]:
    """The populations that compute the gates, sigmoids of one number a channel."""
    paths = set(attention_of(model))
    found = []
    for p in captured.populations:
        gate = isinstance(p, ProgramPopulation) and p.code == ("r0 = sigmoid i0",)
        if gate and captured.rolled.nodes[p.node].module in paths and captured.neuron_names[p.node] in captured.graph.by_name:
            found.append(captured.neuron_names[p.node])
    return tuple(found)


def decision(captured: Captured, model: object, gates: Gates, samples: Mapping[str, Array], latency: int) -> Decision | None:
    """The ledger's line: what was chosen, and how far outputs with live gates lie from those with the calibrated ones."""
    attention = attention_of(model)
    if not attention:
        return None
    where = {
        "calibrated": "gates fixed per channel and step by calibration",
        "exact": f"live gates in {len(attention)} neuron programs on the chip",
        "host": f"live gates on the host, {latency} hardware steps there and {latency} back",
    }[gates]
    why = "no static network has gates that follow the sample" if gates == "calibrated" else "the gates of the method, for every sample"
    effect = _effect(captured, model, samples, all(m.calibrated for m in attention.values()))
    source = "default" if gates == "calibrated" else "option --seca"
    return Decision(stage="capture", what="channel attention (SECA)", value=where, why=why, source=source, effect=effect)


def _effect(captured: Captured, model: Any, samples: Mapping[str, Array], calibrated: bool) -> str:
    if not calibrated or not samples:
        return "not measured: no calibration data" if calibrated else "not measured: the gates were never calibrated"
    x = {name: values[:MEASURED] for name, values in samples.items()}
    fixed, live = (predict(captured, m, x)[0].sum(axis=1) for m in (model, with_gates(model, "exact")))
    rms = float(np.sqrt(np.mean((fixed - live) ** 2) / max(float(np.mean(live**2)), 1e-30)))
    same = float(np.mean(fixed.reshape(len(fixed), -1).argmax(1) == live.reshape(len(live), -1).argmax(1)))
    return f"live and calibrated gates: outputs apart by {rms:.1e} relative rms, {same:.2%} of decisions agree ({len(live)} samples)"


__all__ = ["CHOICES", "Gates", "attention_of", "decision", "gate_populations", "with_gates"]

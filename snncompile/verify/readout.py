"""From outputs over time to decisions, and how far two readouts are apart."""

from __future__ import annotations

import numpy as np

from snncompile.ir.graph import Array, Readout


def logits(outputs: Array, readout: Readout) -> Array:
    """Outputs (N, T, classes) to logits (N, classes)."""
    flat = outputs.reshape(*outputs.shape[:2], -1)
    out: Array = flat.sum(axis=1) if readout == "sum" else flat.mean(axis=1) if readout == "mean" else flat[:, -1]
    return out


def decide(outputs: Array, readout: Readout) -> Array:
    """The class of each sample; the lowest of equal logits."""
    out: Array = logits(outputs, readout).argmax(axis=1)
    return out


def accuracy(decisions: Array, y: Array | None) -> float | None:
    """Share of right decisions among samples that have a label (0 or more), None without any."""
    if y is None or not np.any(y >= 0):
        return None
    return float(np.mean(decisions[y >= 0] == y[y >= 0]))


def agreement(a: Array, b: Array, readout: Readout) -> float:
    """Share of samples on which two runs decide alike."""
    return float(np.mean(decide(a, readout) == decide(b, readout)))


def relative_rms(a: Array, b: Array, readout: Readout) -> float:
    """Root mean square difference of logits relative to the root mean square of the first."""
    x, y = logits(a, readout), logits(b, readout)
    return float(np.sqrt(np.mean((x - y) ** 2)) / max(float(np.sqrt(np.mean(x**2))), 1e-30))

"""What a network's own modules say that they approximate: thresholds or gates fixed by calibration, or whatever a user declares."""

from __future__ import annotations

from typing import Any

import torch

from snncompile.online.approximation import Approximation


def stand_ins(model: object) -> tuple[dict[str, Any], ...]:
    """One row per module with a method ``approximation()`` that returns an ``Approximation``, in the form of the manifest's list."""
    rows = []
    for name, module in model.named_modules() if isinstance(model, torch.nn.Module) else ():
        ask = getattr(module, "approximation", None)
        found = ask() if callable(ask) else None
        if isinstance(found, Approximation):
            size = found.size if found.size == found.size else None  # NaN: never measured
            rows.append({"population": name, "what": found.what, "size": size, "unit": found.unit, "declared": True})
    return tuple(rows)

"""One line for tests: a network is captured, and computes what PyTorch computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from snncompile.capture.capture import Captured, capture
from snncompile.capture.check import check_capture


def agrees(model: nn.Module | Callable[..., Any], shape: Any, layout: str = "step", steps: int = 6, high: float = 2.0) -> Captured:
    """Capture, run three random samples, compare every spike and membrane; at least one population is compared."""
    captured = capture(model, input_shape=shape, steps=steps, layout=layout)
    rng = np.random.default_rng(0)
    x = {n.name: rng.uniform(0, high, (3, steps, *n.size)) for n in captured.graph.nodes if n.kind == "input"}
    record = check_capture(captured, model, x)
    assert record.differing_spikes == 0
    assert record.membrane_error < 1e-5
    assert record.populations >= 1
    return captured

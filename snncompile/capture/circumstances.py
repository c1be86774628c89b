"""What the network was handed over with that decides something without being asked: its mode, and parameters of steps that never come."""

from __future__ import annotations

import torch

from snncompile.ledger import Decision


def circumstances(model: object, steps: int) -> tuple[Decision, ...]:
    """Ledger lines for a network in training mode, and for one that has parameters for more steps than are compiled.

    More steps than a network has parameters for are the network's own error (SNN705 of the training kit).
    """
    if not isinstance(model, torch.nn.Module):
        return ()
    lines = []
    if any(module.training for module in model.modules()):
        why = "it was handed over in training mode; dropout, batch statistics and noise of training do not reach the chip"
        lines.append(Decision(stage="capture", what="mode of the network", value="evaluation", why=why, source="default"))
    longer = {name: module.steps for name, module in model.named_modules() if isinstance(getattr(module, "steps", None), int)}
    longer = {name: count for name, count in longer.items() if count > steps}
    if longer:
        name, count = next(iter(longer.items()))
        why = f"'{name}' has parameters for {count} steps; those after step {steps} are not used"
        lines.append(Decision(stage="capture", what="number of time steps", value=f"T = {steps}", why=why, source="option --steps"))
    return tuple(lines)

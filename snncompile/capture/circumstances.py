"""What the network was handed over with that decides something without being asked: its mode, parameters of steps that never come,
statistics that nobody took."""

from __future__ import annotations

import torch

from snncompile.ledger import Decision

MODE, LENGTH, STATISTICS = "mode of the network", "number of time steps", "batch statistics never set"


def circumstances(model: object, steps: int) -> tuple[Decision, ...]:
    """Ledger lines for a network in training mode, for one that has parameters for more steps than are compiled, and for batch norms
    whose statistics were never set (OSR's classifier in the official code).

    More steps than a network has parameters for are the network's own error (SNN705 of the training kit).
    """
    if not isinstance(model, torch.nn.Module):
        return ()
    lines = []
    if any(module.training for module in model.modules()):
        why = "it was handed over in training mode; dropout, batch statistics and noise of training do not reach the chip"
        lines.append(Decision(stage="capture", what=MODE, value="evaluation", why=why, source="default"))
    longer = {name: module.steps for name, module in model.named_modules() if isinstance(getattr(module, "steps", None), int)}
    longer = {name: count for name, count in longer.items() if count > steps}
    if longer:
        name, count = next(iter(longer.items()))
        why = f"'{name}' has parameters for {count} steps; those after step {steps} are not used"
        lines.append(Decision(stage="capture", what=LENGTH, value=f"T = {steps}", why=why, source="option --steps"))
    never = [name or type(module).__name__ for name, module in model.named_modules() if _never_set(module)]
    if never:
        shown = ", ".join(f"'{name}'" for name in never[:3]) + (f" and {len(never) - 3} more" if len(never) > 3 else "")
        why = f"the running statistics of {shown} are still 0 and 1: no batch ever entered them, or the checkpoint lacks them"
        lines.append(Decision(stage="capture", what=STATISTICS, value="mean 0, variance 1", why=why, source="the file"))
    return tuple(lines)


def _never_set(module: torch.nn.Module) -> bool:
    """Whether a batch norm (or a normalisation like it, with ``run_mean`` and ``run_var``) holds what it was made with."""
    count = getattr(module, "num_batches_tracked", None)
    if isinstance(count, torch.Tensor) and bool(count.any()):
        return False
    for names in (("running_mean", "running_var"), ("run_mean", "run_var")):
        mean, var = (getattr(module, name, None) for name in names)
        if isinstance(mean, torch.Tensor) and isinstance(var, torch.Tensor):
            return not bool(mean.any()) and bool((var == 1).all())
    return False

"""What a learning program did, on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snncompile.report.summary import facts, put
from snncompile.report.words import bits, count, percent


def print_learning(program: Mapping[str, Any], found: Mapping[str, Any], source: str, *, held_out: int) -> None:
    """Rule, bits, update and accuracies."""
    lava = found["lava"]
    rows = [
        ("rule", f"{program['method']} on {program['synapse']}:  {program['equation']}"),
        ("on the chip", f"dw = {program['rule']['dw_lava']}"),
        ("stream", f"{count(found['samples'])} samples of {source}"),
    ]
    if lava is not None:
        rows.append((
            "lava", f"{count(lava['differing_bits'])} of {bits(lava['compared_bits'])} differ from the integer engine "
            f"({count(lava['samples'])} samples, {count(lava['steps'])} hardware steps, {lava['seconds']:.1f} s)",
        ))  # fmt: skip
    rows += [
        ("update", f"correlation {found['update_correlation']:.3f} with PyTorch's rule, slope {found['update_slope']:.3f}"),
        ("accuracy", f"{percent(found['accuracy_on_chip'])} learned on the chip, {percent(found['accuracy_pytorch'])} with PyTorch's rule, "
         f"{percent(found['accuracy_no_learning'])} without learning ({count(held_out)} samples)"),
    ]  # fmt: skip
    put(facts(rows))


__all__ = ["print_learning"]

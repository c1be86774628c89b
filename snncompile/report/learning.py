"""What a learning program did, on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snncompile.report.summary import facts, put
from snncompile.report.words import bits, count, percent


def print_learning(program: Mapping[str, Any], found: Mapping[str, Any], source: str, *, held_out: int) -> None:
    """Rule, bits, update and accuracies."""
    lava = found["lava"]
    names = ", ".join(x["synapse"] for x in program["layers"])
    rows = [("rule", f"{program['method']} on {names}:  {program['equation']}")]
    rows += [("on the chip", f"{x['synapse']}: dw = {x['rule']['dw_lava']}") for x in program["layers"]]
    rows += [("feedback", f"{x['synapse']}: {_feedback(x)}") for x in program["layers"] if (x["modulator"] or {}).get("feedback")]
    rows.append(("stream", f"{count(found['samples'])} samples of {source}"))
    if lava is not None:
        rows.append((
            "lava", f"{count(lava['differing_bits'])} of {bits(lava['compared_bits'])} differ from the integer engine "
            f"({count(lava['samples'])} samples, {count(lava['steps'])} hardware steps, {lava['seconds']:.1f} s)",
        ))  # fmt: skip
    for layer in found["layers"]:
        text = f"{layer['layer']}: correlation {layer['update_correlation']:.3f} with PyTorch's rule, slope {layer['update_slope']:.3f}"
        if layer["backpropagation"] is not None:
            text += f"; {layer['backpropagation']['update_correlation']:.3f} with back-propagation"
        rows.append(("update", text))
    rows.append((
        "accuracy", f"{percent(found['accuracy_on_chip'])} learned on the chip, {percent(found['accuracy_pytorch'])} with PyTorch's rule, "
        f"{percent(found['accuracy_no_learning'])} without learning ({count(held_out)} samples)",
    ))  # fmt: skip
    put(facts(rows))


def _feedback(layer: Mapping[str, Any]) -> str:
    seed = layer["feedback_seed"]
    return "the readout's transposed weights as deployed" if seed is None else f"random weights of seed {seed}"


__all__ = ["print_learning"]

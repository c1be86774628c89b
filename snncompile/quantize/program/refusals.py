"""What a target cannot do of a neuron program, with the operation and its line."""

from __future__ import annotations

from collections.abc import Iterator

from snncompile.errors import Diagnostic
from snncompile.ir.program import NeuronProgram
from snncompile.target import Target


def program_refusals(n: NeuronProgram, target: Target) -> Iterator[Diagnostic]:
    """One diagnostic for a target without neuron programs, or for every operation that its programs do not have."""
    needed = dict.fromkeys(made.op for made in n.instructions if made.op != "copy")
    missing = [op for op in needed if op not in target.program]
    if missing:
        k, first = next((k, made) for k, made in enumerate(n.instructions) if made.op == missing[0])
        known = f"its neuron programs have {', '.join(sorted(target.program))}" if target.program else "it runs no neuron programs"
        yield Diagnostic(
            "SNN312", f"'{n.name}' needs the operation '{first.op}' in a neuron program ({first}), which {target.name} does not have",
            n.place(k), (f"{known} ({target.file}: rules.program)", *_also(missing)),
            "choose another target, or a neuron with a normal form (docs/neurons.md)",
        )  # fmt: skip


def _also(missing: list[str]) -> tuple[str, ...]:
    return (f"also missing: {', '.join(missing[1:])}",) if len(missing) > 1 else ()


__all__ = ["program_refusals"]

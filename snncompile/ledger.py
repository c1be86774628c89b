"""The semantics ledger: every decision between the user's file and the chip, one line each, in order.

A decision is whatever gives the program a meaning that the user's file did not spell out, or changes one: a dialect, a default,
a folded operation, an approximation, a quantised value. Each room appends its own; the manifest and ``inspect --ledger`` show all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

STAGES = ("file", "capture", "passes", "quantise", "verify")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One line of the ledger.

    stage   the room that decided, one of ``STAGES``, in the order of the flow
    what    what was decided, with the nodes it holds for: ``"comparison of lif1, lif2"``
    value   what it was decided to be: ``"m >= theta"``
    why     the reason, as a sentence
    source  who decided: ``the file``, ``dialect sinabs``, ``option --nir-set compare``, ``default``, ``pass fold-affine``, ``quantiser``
    effect  what it changed, measured, with unit; empty if nothing, or if nobody measured it
    where   the user's source line, or the node in the user's file; empty if there is none
    """

    stage: str
    what: str
    value: str
    why: str
    source: str
    effect: str = ""
    where: str = ""

    def to_json(self) -> dict[str, str]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Decision:
        """The decision of ``to_json``; raises KeyError or TypeError."""
        return cls(**{name: str(row[name]) for name in cls.__dataclass_fields__})

    def __str__(self) -> str:
        what = f"{self.what}: {self.value}" if self.value else self.what
        parts = [part for part in (self.why, self.effect, self.where) if part]
        return f"[{self.stage}] {what} ({self.source}){': ' if parts else ''}{'; '.join(parts)}"


__all__ = ["STAGES", "Decision"]

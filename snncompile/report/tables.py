"""Tables of the passes' evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from snncompile.ledger import Decision
from snncompile.report.summary import table


def ledger_lines(lines: Iterable[Decision]) -> list[str]:
    """One numbered line a decision, in order."""
    return [f"{k:>3}  {d}" for k, d in enumerate(lines, start=1)]


def passes(rows: Iterable[Mapping[str, Any]]) -> Table:
    """One line a pass: what it did and what that changed, measured by running the network before and after."""
    made = table(
        ("pass", "left"), ("rewrites", "right"), ("nodes", "right"), ("membrane error", "right"), ("output error", "right"),
        ("spikes", "right"), ("allowed", "right"),
    )  # fmt: skip
    for r in rows:
        errors = [f"{r[k]:.1e}" if r["executed"] else "-" for k in ("membrane_error", "output_error")]
        nodes = f"{r['nodes_before']} -> {r['nodes_after']}" if r["executed"] else str(r["nodes_after"])
        made.add_row(
            r["name"], str(r["rewrites"]), nodes, *errors, str(r["differing_spikes"]) if r["executed"] else "-", f"{r['bound']:.0e}"
        )
    return made


def refusals(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The rules that met a node and did not fire, each with the reason, each once."""
    return list(dict.fromkeys(f"{r['name']} left '{x['node']}' as it is: {x['reason']}" for r in rows for x in r["refusals"]))


__all__ = ["ledger_lines", "passes", "refusals"]

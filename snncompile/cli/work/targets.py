"""``targets``: what can be compiled for, and every number behind it."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from snncompile.cli import show
from snncompile.report.summary import facts, put, table
from snncompile.target import Target, list_targets, load_target

STYLES = {"documented": "green", "measured": "green", "assumed": "yellow"}


def targets(name: str | None, *, as_json: bool) -> int:
    """Run the command; the exit status."""
    if name is None:
        found = [load_target(n) for n in list_targets()]
        if as_json:
            show.json_line({"targets": [_head(t) for t in found]})
            return 0
        made = table(("target", "left"), ("runs on", "left"), ("summary", "left"))
        for t in found:
            made.add_row(t.name, t.executor, t.summary)
        put(made)
        return 0
    target = load_target(name)
    if as_json:
        show.json_line(
            {
                **_head(target),
                "fire": sorted(target.fire),
                "reset": sorted(target.reset),
                "quantities": [_row(q) for q in _quantities(target)],
            }
        )
        return 0
    rules = [("target", target.name), ("summary", target.summary), ("file", target.file), ("runs on", target.executor)]
    put(facts([*rules, ("neurons fire", ", ".join(sorted(target.fire))), ("neurons reset", ", ".join(sorted(target.reset)))]))
    put("")
    made = table(("quantity", "left"), ("value", "right"), ("unit", "left"), ("status", "left"))
    made.add_column("source", overflow="fold")
    for q in _quantities(target):
        row = _row(q)
        made.add_row(row["key"], str(row["value"]), row["unit"], Text(row["status"], style=STYLES[row["status"]]), Text(row["source"]))
    put(made)
    return 0


def _head(t: Target) -> dict[str, Any]:
    return {"name": t.name, "family": t.family, "executor": t.executor, "summary": t.summary, "assumed": [q.key for q in t.assumed]}


def _quantities(t: Target) -> list[Any]:
    return list(t.quantities.values())


def _row(q: Any) -> dict[str, Any]:
    value = str(q.format) if q.format is not None else int(q.value) if float(q.value).is_integer() else q.value
    return {"key": q.key, "value": value, "unit": q.unit, "status": q.status, "source": q.source}


__all__ = ["targets"]

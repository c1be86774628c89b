"""What ``diff`` says: where two runs part, what both hold there, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from snncompile.report.summary import facts, put, table
from snncompile.report.words import count

Json = Mapping[str, Any]
BY = {
    "bits": "every bit of payloads and membranes", "float": "spikes, and membranes within float rounding",
    "events": "spikes and payloads; membranes on both sides of a quantiser differ by nature",
}  # fmt: skip


def print_diff(found: Json) -> None:
    """The whole answer on standard output."""
    side = "A" if found["inputs_of"] == found["a"] else "B"
    samples = f"{count(found['samples'])}, T = {found['steps']}"
    rows = [("A", found["a"]), ("B", found["b"]), ("compared", BY[found["compared_by"]]), ("samples", samples)]
    put(facts([*rows, ("inputs", f"{side}'s, population by population")]))
    put("")
    _populations(found["populations"])
    for note in found["notes"]:
        put(f"note: {note}")
    if found["equal"]:
        put(Text("\nno difference", style="green"))
        return
    _place(found["first_divergence"])
    _causes(found["explanation"])
    if found["reproduction"] is not None:
        put(f"\nthe difference alone: python {found['reproduction']}/reproduce.py")


def _populations(rows: list[Json]) -> None:
    made = table(("population", "left"), ("compared", "right"), ("differ", "right"), ("ties", "right"))
    for r in rows:
        name = f"{r['name']} (input)" if r["kind"] == "input" else r["name"]
        style = "red" if r["differing"] else ""
        made.add_row(name, count(r["compared"]), Text(count(r["differing"]), style=style), count(r["ties"]))
    put(made)


def _place(at: Json) -> None:
    neuron = ", ".join(map(str, at["neuron"]))
    where = f"\nfirst difference: '{at['population']}', step {at['step'] + 1}, neuron [{neuron}], sample {at['sample']}"
    put(Text(where, style="bold"))
    if at["location"] is not None:
        put(f"  --> {at['location']['file']}:{at['location']['line']}")
    made = table(("", "left"), ("A", "right"), ("B", "right"), ("B - A", "right"))
    for name, (a, b) in at["values"].items():
        apart = "" if a is None or b is None else "0" if a == b else f"{b - a:+.4g}"
        made.add_row(name, *("-" if x is None else f"{x:.9g}" for x in (a, b)), apart)
    put(made)


def _causes(explanation: Json | None) -> None:
    if explanation is None:
        return
    events = explanation["events"]
    confirmed = sorted((c for c in explanation["causes"] if c["confirmed"]), key=lambda c: -c["explains"])
    names = " and ".join(dict.fromkeys(c["cause"] for c in confirmed))
    if confirmed and not explanation["left"]:
        put(Text(f"\ncause: {names}; repaired, none of {count(events)} differing events is left", style="bold"))
    elif confirmed:
        left = f"{count(explanation['left'])} of {count(events)} differing events are left"
        put(Text(f"\ncause not known; repairing {names}, {left}", style="bold"))
    else:
        put(Text(f"\ncause not known: no hypothesis explains any of {count(events)} differing events", style="bold"))
    made = table(("tested by running it again", "left"), ("explains alone", "right"), ("", "left"), ("what differs", "left"))
    shown = sorted(explanation["causes"], key=lambda c: (not c["confirmed"], -c["explains"]))
    for c in [c for c in shown if c["confirmed"] or c["explains"]][:8]:
        share = f"{count(c['explains'])} of {count(c['events'])}"
        made.add_row(c["cause"], share, Text("confirmed", style="green") if c["confirmed"] else "", c["detail"])
    if made.row_count:
        put(made)


__all__ = ["print_diff"]

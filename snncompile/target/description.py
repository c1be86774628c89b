"""Typed descriptions of chips. A number without unit, source and status does not load."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snncompile.errors import CompileError, Diagnostic
from snncompile.numerics import Format

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = 1
STATUSES = ("documented", "measured", "assumed")
FORMATS = ("weight", "accumulator", "membrane", "payload", "decay", "multiplier", "gain")
LIMITS = ("decay_fraction", "delay")


@dataclass(frozen=True, slots=True)
class Quantity:
    """One hardware fact: a value or a number format, its unit, who says so, and how sure that is."""

    key: str
    unit: str
    source: str
    status: str
    value: float = 0
    format: Format | None = None

    def __str__(self) -> str:
        what = f"{self.value:g}" if self.format is None else str(self.format)
        return f"{self.key} = {what} {self.unit} ({self.status}: {self.source})"


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """A chip or its simulator: number formats, limits, the neuron rules it runs, capacities, and what executes its programs."""

    name: str
    family: str
    executor: str
    summary: str
    file: str
    quantities: Mapping[str, Quantity]
    fire: frozenset[str]
    reset: frozenset[str]
    features: frozenset[str]
    program: frozenset[str]
    weight: Format
    accumulator: Format
    membrane: Format
    payload: Format
    decay: Format
    multiplier: Format
    gain: Format
    decay_fraction: int
    delay: int
    table_entries: int = 0
    capacity: Mapping[str, float] = field(default_factory=dict)

    @property
    def hop_limit(self) -> int:
        """The most hardware steps one synapse can take: its own step and the synaptic delay."""
        return self.delay + 1

    @property
    def host_latency(self) -> int:
        """Hardware steps from the chip to its host, and likewise back; raises CompileError SNN314 where no host is described."""
        found = self.quantities.get("host.latency")
        if found is None:
            raise CompileError(Diagnostic("SNN314", f"{self.name} describes no host to run a population on ({self.file}: host.latency)"))
        return int(found.value)

    def cite(self, key: str) -> str:
        """For notes: where a limit is written down and who says so, e.g. ``cite("formats.membrane")``."""
        return f"limit is {self.file}: {self.quantities[key]}"

    @property
    def assumed(self) -> tuple[Quantity, ...]:
        """The numbers nobody has documented or measured."""
        return tuple(q for q in self.quantities.values() if q.status == "assumed")


def read_target(path: Path, shown: str) -> Target:
    """Load one file; raises CompileError (SNN402) that lists everything wrong with it. ``shown`` is how messages call the file."""
    try:
        with path.open("rb") as file:
            data = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as e:
        raise CompileError(Diagnostic("SNN402", f"cannot read target file {shown}: {e}")) from e
    problems: list[str] = []
    if data.get("schema") != SCHEMA:
        problems.append(f"schema is {data.get('schema')!r}, this version reads {SCHEMA}")
    texts: dict[str, Any] = {k: data.get(k) for k in ("name", "family", "executor", "summary")}
    problems += [f"{k} must be a text" for k, v in texts.items() if not isinstance(v, str) or not v]
    quantities: dict[str, Quantity] = {}
    for section, content in data.items():
        if isinstance(content, dict) and section != "rules":
            for key, entry in content.items():
                _quantity(f"{section}.{key}", entry, quantities, problems)
    for key in [f"formats.{k}" for k in FORMATS] + [f"limits.{k}" for k in LIMITS]:
        if key not in quantities and not any(p.startswith(key) for p in problems):
            problems.append(f"{key} is missing")
        elif key in quantities and (quantities[key].format is None) != key.startswith("limits."):
            problems.append(f"{key} needs a {'value' if key.startswith('limits.') else 'format'}")
    rules = data.get("rules", {})
    problems += [f"rules.{k} must list texts" for k in ("fire", "reset", "features") if not _texts(rules.get(k), empty=k == "features")]
    if not _texts(rules.get("program", []), empty=True):
        problems.append("rules.program must list texts")
    elif rules.get("program") and "program.table" not in quantities:
        problems.append("rules.program needs program.table, the entries of a table")
    if problems:
        raise CompileError([Diagnostic("SNN402", f"target file {shown}: {p}") for p in problems])
    formats: dict[str, Any] = {k: quantities[f"formats.{k}"].format for k in FORMATS}
    limits: dict[str, Any] = {k: int(quantities[f"limits.{k}"].value) for k in LIMITS}
    table = quantities.get("program.table", Quantity("", "", "", ""))
    capacity = {k.partition(".")[2]: q.value for k, q in quantities.items() if k.startswith("capacity.")}
    return Target(
        **texts, file=shown, quantities=quantities, capacity=capacity,
        fire=frozenset(rules["fire"]), reset=frozenset(rules["reset"]), features=frozenset(rules["features"]),
        program=frozenset(rules.get("program", [])), table_entries=int(table.value),
        **formats, **limits,
    )  # fmt: skip


def _texts(value: object, empty: bool) -> bool:
    return isinstance(value, list) and (empty or bool(value)) and all(isinstance(v, str) for v in value)


def _quantity(key: str, entry: object, found: dict[str, Quantity], problems: list[str]) -> None:
    """Check one inline table and add it to ``found``, or say what it lacks."""
    if not isinstance(entry, dict):
        problems.append(f"{key} must be a table with a value or format, unit, source and status")
        return
    missing = [k for k in ("unit", "source", "status") if not isinstance(entry.get(k), str) or not entry[k]]
    if missing:
        problems.append(f"{key} has no {' and no '.join(missing)}")
    elif entry["status"] not in STATUSES:
        problems.append(f"{key}: status '{entry['status']}' is not one of {', '.join(STATUSES)}")
    elif ("value" in entry) == ("format" in entry):
        problems.append(f"{key} needs either a value or a format")
    elif "value" in entry and (isinstance(entry["value"], bool) or not isinstance(entry["value"], (int, float))):
        problems.append(f"{key}: value {entry['value']!r} is not a number")
    elif unknown := sorted(set(entry) - {"value", "format", "unit", "source", "status"}):
        problems.append(f"{key} has the unknown field '{unknown[0]}'")
    else:
        try:
            width = Format.parse(str(entry["format"])) if "format" in entry else None
        except ValueError as e:
            problems.append(f"{key}: {e}")
            return
        found[key] = Quantity(key, entry["unit"], entry["source"], entry["status"], entry.get("value", 0), width)


__all__ = ["Quantity", "Target", "read_target"]

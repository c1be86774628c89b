"""Who decides what a file leaves open: the user's options first, then the dialect; every answer is kept for the ledger."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snncompile.capture.nir.conventions import KEYS, PARSE, Conventions, shown
from snncompile.capture.nir.dialects import DIALECTS, Dialect
from snncompile.capture.nir.nodes import RawGraph, RawNode
from snncompile.capture.nir.own import OWN
from snncompile.errors import CompileError, Diagnostic, fail
from snncompile.ledger import Decision

CLOSED = ("tau_unit", "leak", "input", "syn_input", "r", "bias", "reset_delay", "max_spikes", "min_v")


@dataclass(frozen=True)
class Question:
    """A line of the ledger that answers what the file leaves open: which convention, of which nodes, and the answer."""

    decision: Decision
    key: str
    value: str
    paths: tuple[str, ...]


@dataclass
class Choices:
    """The conventions of every node. ``of`` answers and remembers; ``decisions`` is what was answered, one line a convention."""

    dialect: Dialect
    everywhere: Mapping[str, Any]
    by_node: Mapping[str, Mapping[str, Any]]
    file: str = ""
    asked: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)
    said: list[Decision] = field(default_factory=list)

    def of(self, node: RawNode, key: str) -> Any:
        """A convention of a node."""
        if key in self.by_node.get(node.path, {}):
            value, source = self.by_node[node.path][key], f"option --nir-set {node.path}.{key}"
        elif key in self.everywhere:
            value, source = self.everywhere[key], f"option --nir-set {key}"
        else:
            value, source = self.dialect.value(key, node.type), f"dialect {self.dialect.name}"
        paths = self.asked.setdefault((key, shown(key, value), source), [])
        if node.path not in paths:
            paths.append(node.path)
        return value

    def chosen(self, node: RawNode, key: str) -> bool:
        """Whether the user has set a convention of a node."""
        return key in self.everywhere or key in self.by_node.get(node.path, {})

    def say(self, what: str, value: str, why: str, *, source: str = "the file", node: RawNode | None = None, effect: str = "") -> None:
        """Add a line about one place."""
        where = self.file if node is None else f"{self.file or 'graph'}: {node.path}"
        self.said.append(Decision(stage="file", what=what, value=value, why=why, source=source, where=where, effect=effect))

    def _open(self, key: str, value: str, source: str) -> bool:
        """Whether an answer is a decision: not where NIR itself says as much and the tool adds nothing."""
        as_written = value == shown(key, getattr(Conventions(), key))
        return not (key in CLOSED and as_written and key not in self.dialect.because and source.startswith("dialect"))

    def questions(self) -> list[Question]:
        """What was asked and is open, in the order of the conventions."""
        found = []
        for (key, value, source), paths in sorted(self.asked.items(), key=lambda item: (KEYS.index(item[0][0]), item[0][1:])):
            if self._open(key, value, source):
                why = "the user says so" if source.startswith("option") else self.dialect.because.get(key, "the tool has nothing else")
                what = f"{key} of {_listed(paths)}"
                line = Decision(stage="file", what=what, value=value, why=why, source=source, where=self.file)
                found.append(Question(line, key, value, tuple(paths)))
        return found

    def decisions(self) -> tuple[Decision, ...]:
        """Everything that was decided: the dialect, its conventions in their order, then what concerns single places."""
        d = self.dialect
        lines = [
            Decision(stage="file", what="NIR dialect", value=d.name, why=d.tool, source=f"option --nir-dialect {d.name}", where=self.file)
        ]
        lines += [q.decision for q in self.questions()]
        if d.drops:
            lines.append(Decision(
                stage="file", what="what the tool's writer leaves out", value=", ".join(d.drops), source=f"dialect {d.name}",
                why="a network that sets any of these needs --nir-set", where=self.file,
            ))  # fmt: skip
        return (*lines, *self.said)


def _listed(paths: list[str]) -> str:
    return ", ".join(paths) if len(paths) <= 6 else f"{', '.join(paths[:5])} and {len(paths) - 5} more"


def make_choices(
    graph: RawGraph, nodes: Mapping[str, RawNode], *, dialect: str | None, settings: Mapping[str, str] | Iterable[str] = (), file: str = ""
) -> Choices:
    """Resolve the dialect and the user's settings (``key`` or ``node.key`` to text).

    Raises CompileError SNN164 (no dialect said), SNN165 (unknown dialect, key, node or value), SNN166 (the file is not of this dialect).
    """
    found: list[Diagnostic] = []
    chosen = _dialect(graph, nodes, dialect, found)
    everywhere: dict[str, Any] = {}
    by_node: dict[str, dict[str, Any]] = {}
    for name, text in _pairs(settings, found):
        path, _, key = name.rpartition(".")
        if key not in KEYS:
            found.append(_unknown(f"'{key}' is no convention of NIR nodes", key, KEYS))
        elif path and path not in nodes:
            found.append(_unknown(f"'{name}': there is no node '{path}'", path, nodes))
        else:
            try:
                value = PARSE[key](text.strip())
            except ValueError as e:
                found.append(Diagnostic("SNN165", f"'{name}' is '{text}'", help=str(e)))
                continue
            (by_node.setdefault(path, {}) if path else everywhere)[key] = value
    if found or chosen is None:
        raise CompileError(found)
    choices = Choices(chosen, everywhere, by_node, file)
    _same_dialect(choices, nodes)
    return choices


def _pairs(settings: Mapping[str, str] | Iterable[str], found: list[Diagnostic]) -> list[tuple[str, str]]:
    if isinstance(settings, Mapping):
        return [(str(k).strip(), str(v)) for k, v in settings.items()]
    pairs = [text.partition("=") for text in settings]
    found += [
        Diagnostic("SNN165", f"'{key}' sets nothing", help="write --nir-set compare=ge or --nir-set lif1.min_v=-1")
        for key, equals, _ in pairs if not equals
    ]  # fmt: skip
    return [(key.strip(), value) for key, equals, value in pairs if equals]


def _unknown(message: str, name: str, known: Iterable[str]) -> Diagnostic:
    near = difflib.get_close_matches(name, list(known), n=1)
    return Diagnostic("SNN165", message, help=f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}")


def _dialect(graph: RawGraph, nodes: Mapping[str, RawNode], given: str | None, found: list[Diagnostic]) -> Dialect | None:
    if given is not None:
        if given not in DIALECTS:
            found.append(_unknown(f"no NIR dialect is called '{given}'", given, DIALECTS))
            return None
        return DIALECTS[given]
    if is_own(graph) or not any(node.type in OPEN for node in nodes.values()):
        return DIALECTS["nir"]
    hints = fingerprints(nodes)
    raise fail(
        "SNN164",
        "the file does not say which tool wrote it, and the tools do not mean the same by its nodes",
        notes=[f"it looks like {' or '.join(hints)}: {why}" for why, hints in hints.items()],
        help=f"say it: --nir-dialect {'|'.join(DIALECTS)}",
    )


OPEN = ("I", "LI", "IF", "LIF", "CubaLI", "CubaLIF", "Delay")


def is_own(graph: RawGraph) -> bool:
    """Whether this compiler wrote the file, whose nodes then carry their exact meaning."""
    return OWN in graph.metadata


def fingerprints(nodes: Mapping[str, RawNode]) -> dict[str, list[str]]:
    """What the numbers in a file hint at; never enough to decide by."""
    hints: dict[str, list[str]] = {}
    lifs = [n.fields for n in nodes.values() if n.type in ("LIF", "LI")]
    ifs = [n.fields for n in nodes.values() if n.type == "IF"]

    def all_of(rows: list[Mapping[str, Any]], test: Any) -> bool:
        return bool(rows) and all(bool(np.all(test({k: np.asarray(v, dtype=np.float64) for k, v in row.items()}))) for row in rows)

    if all_of(lifs, lambda f: np.isclose(f["r"] * 1e-4, f["tau"], rtol=1e-4)):
        hints["r is tau / 1e-4 s everywhere"] = ["snntorch", "spikingjelly"]
    if all_of(lifs, lambda f: (f["r"] == 1) & (f["tau"] >= 1)):
        hints["r is 1 and tau at least 1, so perhaps in steps"] = ["sinabs"]
    if all_of(lifs, lambda f: (f["r"] == 1) & (f["tau"] < 1e-4)):
        hints["r is 1 and tau below 1e-4"] = ["norse"]
    if all_of(ifs, lambda f: np.isclose(f["r"], 1e4)):
        hints["r of IF is 1 / 1e-4 s"] = ["spikingjelly"]
    if all_of(ifs, lambda f: f["r"] == 1):
        hints["r of IF is 1"] = ["sinabs", "norse"]
    return hints


def _same_dialect(choices: Choices, nodes: Mapping[str, RawNode]) -> None:
    """Refuse a file that the dialect's tool could not have written, or would not accept."""
    known = choices.dialect.nodes
    found = [
        Diagnostic(
            "SNN166", f"node {node.label}: {choices.dialect.tool} knows no {node.type} nodes",
            help="choose the dialect of the tool that wrote the file, or nir for the specification",
        )
        for node in nodes.values()
        if known and node.type not in known and node.type not in ("Input", "Output") and OWN not in node.metadata
    ]  # fmt: skip
    for name, only in choices.dialect.refused.items():
        kind, _, label = name.rpartition(".")
        for node in nodes.values():
            if label not in node.fields or (kind and node.type != kind) or OWN in node.metadata:
                continue
            values = np.asarray(node.fields[label], dtype=np.float64)
            if not np.allclose(values, only, rtol=1e-6, atol=1e-12):
                odd = float(values.flat[int(np.argmax(np.abs(values - only)))])
                found.append(Diagnostic(
                    "SNN166", f"node {node.label}: field '{label}' is {odd:g}; {choices.dialect.tool} has only {only:g}",
                    help="choose the dialect of the tool that wrote the file, or nir for the specification",
                ))  # fmt: skip
    if found:
        raise CompileError(found)


__all__ = ["Choices", "Question", "fingerprints", "is_own", "make_choices"]

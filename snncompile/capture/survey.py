"""What stands between a network and the chip: every operation with a verdict, all blockers at once.

The capture stops at the first operation that it must refuse. A survey goes on: a random draw becomes a constant, a Python decision is
followed as this sample takes it, a neuron without normal form and an operation without place become values of their own, and what is
behind them is examined too. Nothing of a surveyed graph is ever deployed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import torch

from snncompile.capture.capture import MOST_STEPS, SHORT, InputShape, capture, named_inputs, not_finite, sample_inputs, too_many_steps
from snncompile.capture.convention import detect
from snncompile.capture.diagnose import refuse_memories
from snncompile.capture.driver import Driver, Inputs, Layout
from snncompile.capture.emit import Builder
from snncompile.capture.expressions import POINTWISE, Expressions, base, leads
from snncompile.capture.fold import fold, normalise
from snncompile.capture.memory import settle_writes
from snncompile.capture.pristine import as_module, pristine
from snncompile.capture.recognise import recognise
from snncompile.capture.record import record
from snncompile.capture.registers import has_registers, resolve_registers
from snncompile.capture.replay import replay
from snncompile.capture.roll import Prev, Rolled, roll
from snncompile.capture.spellings import respell
from snncompile.capture.trace import Ref, walk
from snncompile.capture.unmerge import unmerge
from snncompile.errors import CompileError, Diagnostic, InternalError, Location
from snncompile.ir.graph import Graph
from snncompile.ir.linear_ops import Delay, Input


class Verdict(str, Enum):
    """Where an operation can run."""

    NATIVE = "native"
    CUSTOM = "custom neuron program"
    HOST = "host"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Operations that the capture refuses, those of a module together: the first one's node and place in the order of execution, what they
    are called in PyTorch, and why."""

    node: str
    place: int
    operation: str
    module: str
    verdict: Verdict
    error: Diagnostic


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A network as far as it can be read.

    graph     with an input in place of everything that was refused; None if nothing could be read
    refused   operations and neurons          others   blockers that are no operation: randomness, decisions, shapes, weights
    places    where the graph's nodes stand in the order of execution
    """

    graph: Graph | None
    refused: tuple[Refused, ...] = ()
    others: tuple[Diagnostic, ...] = ()
    places: Mapping[str, int] = field(default_factory=dict)


def survey(
    model: torch.nn.Module | Callable[..., Any], *, input_shape: InputShape, steps: int, layout: Layout = "step", name: str = "network"
) -> Survey:
    """Read as much of the network as there is to read; arguments as ``capture`` takes them. Never raises CompileError."""
    others: list[Diagnostic] = []
    try:
        return _survey(as_module(model), input_shape, steps, layout, name, others)
    except CompileError as e:
        return Survey(graph=None, others=(*others, *e.diagnostics))
    except MemoryError:
        raise
    except Exception as e:
        try:  # stand-ins may not fit where a whole network is refused at once
            capture(model, input_shape=input_shape, steps=steps, layout=layout, name=name)
        except CompileError as refused:
            return Survey(graph=None, others=tuple(dict.fromkeys((*others, *refused.diagnostics))))
        if isinstance(e, InternalError):
            raise
        raise InternalError(f"the survey of this network failed with {type(e).__name__}: {e}; please report the network") from e


def _survey(model: torch.nn.Module, input_shape: InputShape, steps: int, layout: Layout, name: str, others: list[Diagnostic]) -> Survey:
    damaged = not_finite(model)
    if damaged:
        others += damaged
        model = pristine(model)
        with torch.no_grad():
            for value in (*model.parameters(), *model.buffers()):
                torch.nan_to_num_(value)
    if steps > MOST_STEPS:
        raise too_many_steps(steps)
    inputs = named_inputs(model, input_shape)
    xs = sample_inputs(model, inputs, max(steps, SHORT))
    driver = detect(model, layout, tuple(x[:steps] for x in xs), tuple(inputs) if isinstance(input_shape, dict) else ())
    memories = _memories(model, driver, tuple(x[:steps] for x in xs))
    rolled = respell(_rolled(model, driver, xs, steps, others))
    named = {d.code for d in others}
    others += [d for d in memories if d.code not in named]  # what the trace names, it names with its line
    lead = len(next(iter(rolled.inputs.values()))) - len(next(iter(inputs.values())))
    expressions = Expressions(rolled, leads(rolled, lead))
    neurons: dict[str, CompileError] = {}
    populations = recognise(rolled, expressions, neurons)
    builder = _Builder(rolled, expressions, populations, name, steps, inputs)
    builder.refused.update(neurons)
    builder.inside = _inside(rolled, neurons)
    graph = builder.build([f"out{k}" for k in range(len(rolled.outputs))])
    firing = {*neurons, *(p.node for p in populations if base(rolled.nodes[p.node]) != "add")}
    order = {name: k for k, name in enumerate(rolled.nodes)}
    refused = [
        _refused(rolled, node, order[node], e.diagnostics[0], node in neurons, firing)
        for node, e in builder.refused.items()
        if node in neurons or node not in builder.inside
    ]
    places = {ref.partition(".")[0]: order[node] for node, ref in builder.refs.items() if node in order}
    return Survey(graph=graph, refused=_together(rolled, refused), others=tuple(others), places=places)


def _memories(model: torch.nn.Module, driver: Driver, xs: Inputs) -> tuple[Diagnostic, ...]:
    """What the network remembers of earlier runs."""
    try:
        refuse_memories(model, driver, xs)
    except CompileError as e:
        return e.diagnostics
    return ()


def _rolled(model: torch.nn.Module, driver: Driver, xs: Inputs, steps: int, others: list[Diagnostic]) -> Rolled:
    """One step of the network, from the shortest trace that rolls; decisions and random draws go into ``others``."""
    first: CompileError | None = None
    lengths = dict.fromkeys((min(SHORT + 1, max(steps, SHORT)), max(steps, SHORT), steps))
    for length in lengths:
        decisions: list[Location | None] = []
        drawn: list[Diagnostic] = []
        part = tuple(x[:length] for x in xs)
        try:
            flat = normalise(settle_writes(record(model, driver, part, decisions)), drawn)
            if has_registers(flat):
                flat = resolve_registers(flat, replay(flat, driver.calls(part)))
            if not flat.per_step:
                flat = unmerge(flat, replay(flat, driver.calls(part)), driver.time_axis)
            values = replay(flat, driver.frames(part))
            folded, constants = fold(flat, values)
            rolled = roll(flat, folded, constants, values)
        except CompileError as e:
            first = first or e
            found = _decided(decisions) + _once(drawn)
        else:
            if rolled.per_step and length != steps:  # constants differ between steps: those of all steps are needed
                continue
            others += _decided(decisions) + _once(drawn)
            return rolled
    others += found
    assert first is not None
    raise first


def _decided(places: Iterable[Location | None]) -> list[Diagnostic]:
    return [
        Diagnostic(
            "SNN112", "the network decides by the value of a tensor what to compute next, so one trace cannot stand for all inputs", loc,
            (), "replace the Python branch on a tensor by torch.where",
        )
        for loc in dict.fromkeys(places)
    ]  # fmt: skip


def _once(found: Iterable[Diagnostic]) -> list[Diagnostic]:
    """The same line of every step is one finding."""
    return list({(d.code, d.loc, d.message): d for d in found}.values())


class _Builder(Builder):
    """A builder that notes what it must refuse and puts an input in its place."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.refused: dict[str, CompileError] = {}
        self.inside: set[str] = set()
        self.read: list[str] = []

    def outputs(self, labels: list[str]) -> dict[str, str]:
        """The network's outputs, and what refused operations read: so that it stays in the graph."""
        found = super().outputs(labels)
        kept = [ref for ref in dict.fromkeys(self.read) if not isinstance(self.ops.get(ref.partition(".")[0]), (Input, Delay))]
        return {**found, **{f"read{k}": ref for k, ref in enumerate(kept)}}

    def value(self, node: str) -> str:
        """As the builder's, never refusing; what is read by a refused operation is examined too."""
        if node in self.refs:
            return self.refs[node]
        try:
            if node in self.refused:
                raise self.refused[node]
            return super().value(node)
        except CompileError as e:
            self.refused[node] = e
        name = self._name(self._wish(self.rolled.nodes[node]))
        spikes = base(self.rolled.nodes[node]) in ("ge", "gt", "le", "lt", "heaviside")
        self.ops[name] = Input(name=name, size=self.shape(node), low=0.0 if spikes else -1.0, high=1.0, grid=1.0 if spikes else 0.0)
        self.refs[node] = name
        self._examine(node, set())
        return name

    def _examine(self, node: str, seen: set[str]) -> None:
        """Read what a refused operation reads; the pointwise operations of a refused neuron are passed through."""
        for source in _sources(self.rolled, node) - seen:
            seen.add(source)
            if source in self.inside:
                self._examine(source, seen)
            else:
                self.read.append(self.value(source))


def _refused(rolled: Rolled, node: str, place: int, error: Diagnostic, is_neuron: bool, firing: set[str]) -> Refused:
    """The verdict: before all neurons or behind all of them the host can compute it, between them nobody can."""
    raw = rolled.nodes[node]
    verdict = Verdict.IMPOSSIBLE
    if not is_neuron:
        before, behind = _reach(rolled, {node}, backwards=True) & firing, _reach(rolled, {node}, backwards=False) & firing
        if not before:
            verdict, way = Verdict.HOST, "compute it before the network and give its result as the input"
        elif not behind:
            verdict, way = Verdict.HOST, "compute it on the host, from the network's outputs"
        if verdict is Verdict.HOST:
            error = replace(error, help=way)
    return Refused(node=node, place=place, operation=raw.op, module=raw.module, verdict=verdict, error=error)


def _together(rolled: Rolled, refused: Iterable[Refused]) -> tuple[Refused, ...]:
    """The refusals of one line of a module as one, and with them those of its operations that only read what is refused.

    So a GRU is one blocker, whatever it is made of, and two lines of a module that have nothing to do with each other are two.
    """
    groups: list[list[Refused]] = []
    for r in sorted(refused, key=lambda r: r.place):
        home = next((g for g in groups if _belongs(rolled, r, g)), None)
        if home is None:
            groups.append([r])
        else:
            home.append(r)
    return tuple(_joined(g) for g in groups)


def _belongs(rolled: Rolled, r: Refused, group: list[Refused]) -> bool:
    first = group[0]
    if (r.module, r.verdict, r.error.code) != (first.module, first.verdict, first.error.code):
        return False
    if r.error.loc == first.error.loc and (r.module or r.operation == "getitem"):
        return True
    culprits = {q.node for q in group if f"'{q.operation}' is neither linear" in r.error.message}
    return bool(culprits & _reach(rolled, {r.node}, backwards=True))


def _joined(group: list[Refused]) -> Refused:
    """Several refusals as one, with their operations and lines; taking a part of a result is no operation of the user's."""
    first = group[0]
    names = list(dict.fromkeys(r.operation.partition(".")[0] for r in group if r.operation != "getitem"))
    if len(names) < 2 or first.error.code != "SNN121":
        return first
    where = f" of module '{first.module}'" if first.module else ""
    own = [r.error.message for r in group if "has no place" not in r.error.message and "is neither linear" not in r.error.message]
    lines = list(dict.fromkeys(f"{r.error.loc.file}:{r.error.loc.line}" for r in group if r.error.loc is not None))
    notes = [*dict.fromkeys(own), *([f"lines: {', '.join(lines)}"] if len(lines) > 1 else [])]
    message = f"{len(names)} operations{where} have no place in a spiking network on a chip: {', '.join(names)}"
    ways = dict.fromkeys(r.error.help for r in group if r.error.help is not None)
    error = replace(first.error, message=message, notes=(*first.error.notes, *notes), help="; ".join(ways) or None)
    return replace(first, operation=", ".join(names), error=error)


def _inside(rolled: Rolled, neurons: Iterable[str]) -> set[str]:
    """The pointwise operations that lead to refused neurons: they are the neurons themselves."""
    seen: set[str] = set()
    stack = list(neurons)
    while stack:
        sources = _sources(rolled, stack.pop())
        found = {name for name in sources - seen if name in rolled.nodes and base(rolled.nodes[name]) in POINTWISE}
        seen |= found
        stack += found
    return seen


def _sources(rolled: Rolled, node: str) -> set[str]:
    """What a node reads, of this step and earlier ones."""
    if node not in rolled.nodes:
        return set()
    raw = rolled.nodes[node]
    return {leaf.name for leaf in walk((raw.args, tuple(raw.kwargs.values()))) if isinstance(leaf, (Ref, Prev))}


def _reach(rolled: Rolled, start: set[str], *, backwards: bool) -> set[str]:
    """All nodes that these depend on, or that depend on them, through earlier steps too."""
    edges: dict[str, set[str]] = {}
    for name in rolled.nodes:
        for source in _sources(rolled, name):
            a, b = (name, source) if backwards else (source, name)
            edges.setdefault(a, set()).add(b)
    seen: set[str] = set()
    stack = list(start)
    while stack:
        for other in edges.get(stack.pop(), set()) - seen:
            seen.add(other)
            stack.append(other)
    return seen - start


__all__ = ["Refused", "Survey", "Verdict", "survey"]

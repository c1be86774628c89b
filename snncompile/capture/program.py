"""Neurons without a normal form as pointwise programs: everything between currents, states and what is sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snncompile.capture.expressions import BATCH_NORMS, THRESHOLDS, Expressions, base, strip
from snncompile.capture.layers import LAYERS, MOVES
from snncompile.capture.program_writer import TRANSLATE, NotPointwise, Writer, batch_norm, leaves
from snncompile.capture.roll import Prev, Rolled
from snncompile.capture.trace import Ref, walk
from snncompile.ir.graph import Array

LOGIC = ("logical_and", "bitwise_and", "logical_or", "bitwise_or")


@dataclass
class ProgramPopulation:
    """A population that is a program: the fields of ``NeuronProgram``, and the rolled nodes it stands for, as ``Population`` has them.

    ``currents`` are rolled nodes, or ``prev:node`` for a value of the step before.
    """

    node: str
    currents: tuple[str, ...]
    code: tuple[str, ...]
    places: tuple[str, ...]
    payload: str
    membrane: str
    threshold: str
    following: tuple[str, ...]
    initial: tuple[Array, ...]
    constants: tuple[Array, ...]
    ports: dict[str, tuple[str, float, float]] = field(default_factory=dict)
    inner: set[str] = field(default_factory=set)


def program_around(name: str, rolled: Rolled, ex: Expressions, *, alone: bool = False) -> ProgramPopulation:
    """The program that computes a node, with all states it needs and what follows from it (not if ``alone``); raises NotPointwise."""
    region = _Region(rolled, ex)
    region.visit(name)
    if not alone:
        region.absorb()
    return _Assembly(region).population()


def gates(name: str, rolled: Rolled, ex: Expressions) -> list[str]:
    """The first operations before a threshold that are not affine and have no memory: populations of their own, in front of it."""
    region = _Region(rolled, ex)
    region.visit(name)
    stateful = region.stateful()
    loose = [n for n in rolled.nodes if n in region.nodes and n not in stateful and ex.of(n) is None]
    return [n for n in loose if base(rolled.nodes[n]) not in THRESHOLDS and not set(rolled.nodes[n].refs).intersection(loose)]


class _Region:
    """The pointwise operations that lead to a node, through states too; everything in front of them is a current."""

    def __init__(self, rolled: Rolled, ex: Expressions) -> None:
        self.rolled, self.ex = rolled, ex
        self.nodes: set[str] = set()
        self.currents: dict[str, None] = {}
        self.states: dict[tuple[str, int], None] = {}

    def visit(self, name: str) -> None:
        """Add a node and what it reads."""
        stack = [name]
        while stack:
            node = stack.pop()
            if node in self.nodes:
                continue
            self.nodes.add(node)
            for leaf in leaves(self.rolled.nodes[node]):
                if isinstance(leaf, Ref) and self.belongs(leaf.name):
                    stack.append(leaf.name)
                elif isinstance(leaf, Prev) and self.belongs(leaf.name):
                    for d in range(1, leaf.delay + 1):
                        self.states[(leaf.name, d)] = None
                    stack.append(leaf.name)
                elif isinstance(leaf, Ref):
                    self.comes_in(leaf.name)
                    self.currents[leaf.name] = None
                elif isinstance(leaf, Prev):
                    self.comes_in(leaf.name)
                    self.currents[f"prev{leaf.delay if leaf.delay > 1 else ''}:{leaf.name}"] = None

    def absorb(self) -> None:
        """Add what follows pointwise from its values alone, and conditions that are combined with its own."""
        grew = True
        while grew:
            more = [name for name in self.rolled.nodes if name not in self.nodes and self._follows(name)]
            for name in more:
                self.visit(name)
            grew = bool(more)

    def _follows(self, name: str) -> bool:
        raw = self.rolled.nodes[name]
        if name in self.ex.settled or base(raw) not in TRANSLATE or not self.nodes.intersection(raw.refs):
            return False
        return base(raw) in LOGIC or all(
            leaf.name in self.nodes if isinstance(leaf, Ref) else (leaf.name, leaf.delay) in self.states
            for leaf in leaves(raw) if isinstance(leaf, (Ref, Prev))
        )  # fmt: skip

    def comes_in(self, name: str) -> None:
        """Refuse what is neither a current nor an operation of a program."""
        raw = self.rolled.nodes.get(name)
        if raw is None or name in self.ex.settled or base(raw) in {*TRANSLATE, *LAYERS, *MOVES, "cat", "stack"}:
            return
        raise NotPointwise(f"a program has no operation '{raw.op}'", name)

    def belongs(self, name: str) -> bool:
        """Whether a value is computed inside the program: it is pointwise, and not an affine form of currents alone."""
        if name in self.rolled.inputs or name in self.ex.settled:
            return False
        raw = self.rolled.nodes[name]
        pointwise = base(raw) in TRANSLATE or (base(raw) in BATCH_NORMS and not self.ex.is_atom(name))
        if not pointwise:
            return False
        expression = self.ex.of(name)
        if expression is None or expression.products or not expression.lin.terms:
            return True
        return any(
            self.belongs_past(a.partition(":")[2], name) if a.startswith("prev") else a in self.nodes or self._is_logic(a)
            for a in expression.lin.terms
        )

    def _is_logic(self, name: str) -> bool:
        return name in self.rolled.nodes and name not in self.ex.settled and base(self.rolled.nodes[name]) in LOGIC

    def belongs_past(self, name: str, reader: str) -> bool:
        """Whether a value of the step before is a state of the program."""
        return name == reader or (name not in self.rolled.inputs and not self.ex.is_atom(name) and name not in self.ex.settled)

    def readers(self, name: str) -> list[str]:
        """The nodes that read a node in the same step or a later one."""
        return [n for n, raw in self.rolled.nodes.items() if any(getattr(leaf, "name", None) == name for leaf in _values(raw))]

    def stateful(self) -> set[str]:
        """The nodes of the region that depend on a state."""
        found: set[str] = set()
        grew = True
        while grew:
            more = {
                n for n in self.nodes - found
                if any((isinstance(leaf, Prev) and (leaf.name, 1) in self.states) or getattr(leaf, "name", None) in found
                       for leaf in leaves(self.rolled.nodes[n]))
            }  # fmt: skip
            found |= more
            grew = bool(more)
        return found


def _values(raw: Any) -> Iterable[Any]:
    return walk((raw.args, tuple(raw.kwargs.values())))


class _Assembly:
    """The code of a region, and which register is what."""

    def __init__(self, region: _Region) -> None:
        self.region, self.rolled, self.ex = region, region.rolled, region.ex
        self.w = Writer()
        self.currents = list(region.currents)
        self.states = list(region.states)
        self.env: dict[str, str] = {}
        for k, (name, _) in enumerate(self.states):
            if self._starts_as_bit(name):
                self.w.bits.add(f"z{k}")
        while True:  # states are taken for spikes until their next value is none
            self._write()
            wrong = {f"z{k}" for k, f in enumerate(self._following()) if f"z{k}" in self.w.bits and f not in self.w.bits}
            if not wrong:
                break
            self.w = Writer(bits=self.w.bits - wrong & {f"z{k}" for k in range(len(self.states))})

    def _starts_as_bit(self, name: str) -> bool:
        value = self._initial(name)
        return bool(np.all((value == 0) | (value == 1)))

    def _initial(self, name: str) -> Array:
        rank = self.ex.rank(name)
        value = strip(self.rolled.initial[name].detach().double().numpy(), rank)
        return np.full((1,), value.flat[0]) if value.size and np.all(value == value.flat[0]) else value

    def _write(self) -> None:
        self.env = {}
        for name, raw in self.rolled.nodes.items():
            if name not in self.region.nodes:
                continue
            self.w.loc = raw.loc
            registers = [self._register(leaf, name) for leaf in leaves(raw)]
            if base(raw) in BATCH_NORMS:
                self.env[name] = batch_norm(self.w, raw, registers[0], self.ex)
            else:
                self.env[name] = TRANSLATE[base(raw)](self.w, raw, registers)

    def _register(self, leaf: Any, reader: str) -> str:
        if isinstance(leaf, Ref):
            return self.env[leaf.name] if leaf.name in self.env else f"i{self.currents.index(leaf.name)}"
        if isinstance(leaf, Prev):
            if (leaf.name, leaf.delay) in self.region.states:
                return f"z{self.states.index((leaf.name, leaf.delay))}"
            return f"i{self.currents.index(f'prev{leaf.delay if leaf.delay > 1 else str()}:{leaf.name}')}"
        value = self.ex.coefficient(leaf, self.ex.rank(reader)) if not isinstance(leaf, bool) else np.asarray([float(leaf)])
        if value is None:
            raise NotPointwise("an argument that is no number", reader)
        return self.w.constant(value)

    def _following(self) -> list[str]:
        return [self.env[name] if d == 1 else f"z{self.states.index((name, d - 1))}" for name, d in self.states]

    def population(self) -> ProgramPopulation:
        """Choose what is sent, what is the membrane, and name the states accordingly."""
        region, w = self.region, self.w
        outward = [n for n in self.rolled.nodes if n in region.nodes and self._is_read_outside(n)]
        following = self._following()
        payload, node = self._payload(outward, following)
        membrane, threshold = self._membrane(payload)
        order = sorted(range(len(following)), key=lambda k: (not self._holds(following[k], membrane, payload), k))
        names = {f"z{k}": f"z{order.index(k)}" for k in range(len(order))}
        code, places, constants, names = _needed(w, {payload, membrane, *following, *([threshold] if threshold else [])}, names)
        made = ProgramPopulation(
            node=node, currents=tuple(self.currents), code=code, places=places, payload=names[payload], membrane=names[membrane],
            threshold=names[threshold] if threshold else "", following=tuple(names[following[k]] for k in order),
            initial=tuple(self._initial(self.states[k][0]) for k in order), constants=constants,
        )  # fmt: skip
        if not self.currents:
            raise NotPointwise("nothing that it computes depends on the input", node)
        first = following[order[0]] if order else membrane
        for n in self.rolled.nodes:
            if n in region.nodes:
                port = self._port(self.env[n], payload, membrane, first)
                if port is not None and (n in outward or abs(port[1]) == 1.0):
                    made.ports[n] = port
                elif n in outward:
                    raise NotPointwise("several values of it are read by others, and a population sends one", n)
                else:
                    made.inner.add(n)
        return made

    def _is_read_outside(self, name: str) -> bool:
        return name in self.rolled.outputs or any(r not in self.region.nodes for r in self.region.readers(name))

    def _payload(self, outward: list[str], following: list[str]) -> tuple[str, str]:
        """The register that is sent, and the rolled node that computes it."""
        sent = {}
        for n in reversed(outward):
            bit = self._of_bit(self.env[n])
            sent[self.env[n] if bit is None else bit[0]] = n
        spikes = [r for r in sent if r in self.w.bits]
        values = [r for r in sent if r not in self.w.bits]
        if len(spikes) > 1 or (not spikes and len(values) > 1):
            raise NotPointwise("several values of it are read by others, and a population sends one", next(iter(sent.values())))
        if not sent:
            raise NotPointwise("nothing reads what it computes", next(iter(self.region.nodes)))
        chosen = spikes[0] if spikes else values[0]
        if chosen[0] in "ic":
            raise NotPointwise("it passes on a current or a constant", sent[chosen])
        node = next(n for n in self.rolled.nodes if n in self.region.nodes and self.env[n] in (chosen, self.env[sent[chosen]]))
        return chosen, node

    def _membrane(self, payload: str) -> tuple[str, str]:
        """What the payload compares, and with what; the payload itself where it is no comparison."""
        made = self.w.made
        stack = [payload]
        while payload in self.w.bits and stack:
            name, args = made.get(stack.pop(), ("", ()))
            if name in ("ge", "gt"):
                a, b = args
                return (b, a) if self.w.value(a) is not None or a[0] == "i" else (a, b)
            stack += [a for a in reversed(args) if a in made]
        return payload, ""

    def _holds(self, following: str, membrane: str, payload: str) -> bool:
        """Whether a state is what stays of the membrane."""
        name, args = self.w.made.get(following, ("", ()))
        return following == membrane or (membrane in args and following != payload and name in ("select", "sub", "add", "min", "max"))

    def _of_bit(self, register: str) -> tuple[str, float, float] | None:
        """(bit, factor, shift) with register = factor * bit + shift."""
        if register in self.w.opposite and self.w.made.get(register, ("",))[0] == "sub":
            return self.w.opposite[register], -1.0, 1.0
        if register in self.w.bits:
            return register, 1.0, 0.0
        name, args = self.w.made.get(register, ("", ()))
        ends = [self.w.value(a) for a in args[1:]] if name == "select" else []
        if len(ends) == 2 and all(e is not None and np.unique(e).size == 1 for e in ends):
            high, low = (float(np.asarray(e).flat[0]) for e in ends)
            return (args[0], high - low, low) if high != low else None
        return None

    def _port(self, register: str, payload: str, membrane: str, first: str) -> tuple[str, float, float] | None:
        bit = self._of_bit(register)
        if register == payload:
            return "", 1.0, 0.0
        if bit is not None and bit[0] == payload:
            return "", bit[1], bit[2]
        if register == first and self.states:
            return "v", 1.0, 0.0
        return ("m", 1.0, 0.0) if register == membrane else None


def _needed(
    w: Writer, ends: set[str], states: dict[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Array, ...], dict[str, str]]:
    """Code, places and constants without what nothing needs, and the registers' new names."""
    needed, stack = set(), list(ends)
    while stack:
        register = stack.pop()
        if register not in needed:
            needed.add(register)
            stack += w.made.get(register, ("", ()))[1]
    kept = [k for k in range(len(w.code)) if f"r{k}" in needed]
    constants = [k for k in range(len(w.constants)) if f"c{k}" in needed]
    names = {**states, **{f"r{k}": f"r{n}" for n, k in enumerate(kept)}, **{f"c{k}": f"c{n}" for n, k in enumerate(constants)}}
    names |= {register: register for register in needed if register[0] == "i"}
    code = []
    for k in kept:
        op, args = w.made[f"r{k}"]
        code.append(f"{names[f'r{k}']} = {' '.join([op, *(names[a] for a in args)])}")
    return tuple(code), tuple(w.places[k] for k in kept), tuple(w.constants[k] for k in constants), names


__all__ = ["NotPointwise", "ProgramPopulation", "gates", "program_around"]

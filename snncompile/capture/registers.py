"""Shift registers and ring buffers as the values that they hold.

``buffer = cat([buffer[1:], s])`` and ``buffer[t % d] = s`` store a value per place along one axis. A place that is read is the value
that was stored there, however many steps ago, so that what rolls the time loop sees a delay and never a buffer. A buffer that is read
as a whole is the concatenation of what it holds.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from snncompile.capture.fold import LIKE
from snncompile.capture.replay import Values, described
from snncompile.capture.trace import Raw, Ref, Trace, replace_leaves

aten = torch.ops.aten
SCATTERS = ("select_scatter.", "slice_scatter.")
SAME = ("clone.", "alias.", "detach.", "lift_fresh.")


@dataclass(frozen=True)
class Cell:
    """One place: position ``k`` of a value along the register's axis, or all of a value that has no such axis."""

    leaf: Any
    k: int | None


@dataclass(frozen=True)
class Register:
    """Places along ``dim``; ``plain`` if its own operation may stay as it is where it is read as a whole."""

    dim: int
    cells: tuple[Cell, ...]
    raw: Raw
    plain: bool = False


def has_registers(trace: Trace) -> bool:
    """Whether there is anything to do, without running the trace."""
    return any(raw.op.startswith((*SCATTERS, "roll.")) or _mixes(raw, trace.nodes) for raw in trace.nodes.values())


def _mixes(raw: Raw, nodes: dict[str, Raw]) -> bool:
    """Whether a concatenation joins what is there already (a constant at first, then a value of an earlier step) with something new."""
    if not raw.op.startswith(("cat.", "stack.")):
        return False
    return any(isinstance(part, torch.Tensor) or nodes[part.name].step < raw.step or _of_constant(part, nodes) for part in raw.args[0])


def _of_constant(part: Ref, nodes: dict[str, Raw]) -> bool:
    """Whether a part is a piece of something kept: a slice, or one of the pieces that it was taken apart into."""
    raw = nodes[part.name]
    while (
        raw.args and isinstance(raw.args[0], Ref) and (raw.op.startswith(("select.", "slice.", *SAME)) or raw.function is operator.getitem)
    ):
        raw = nodes[raw.args[0].name]
    return raw.op.startswith(("select.", "slice.", "cat.", "stack.", "unbind.", *SCATTERS, *SAME)) or (not raw.refs and raw.op != "input")


def resolve_registers(trace: Trace, values: Values) -> Trace:
    """The trace with reads of registers resolved; ``values`` are those of its replay."""
    return _Resolver(trace, values).run()


@dataclass
class _Resolver:
    trace: Trace
    values: Values
    nodes: dict[str, Raw] = field(default_factory=dict)
    held: dict[str, Register] = field(default_factory=dict)
    same: dict[str, Any] = field(default_factory=dict)  # a place that was read: what it holds

    def run(self) -> Trace:
        for raw in self.trace.nodes.values():
            if raw.op == "input":
                self.nodes[raw.name] = raw
            else:
                self._node(raw)
        outputs = [[self._output(name) for name in names] for names in self.trace.outputs]
        return replace(self.trace, nodes=self.nodes, outputs=outputs)

    def _output(self, name: str) -> str:
        found = self._whole(Ref(name))
        if isinstance(found, Ref):
            return found.name
        raw = self.trace.nodes[name]  # what the register holds at first, which no input reaches yet
        self.nodes[name] = replace(raw, op="alias.default", function=aten.alias.default, args=(found,), kwargs={})
        self.values[name] = found
        return name

    def _node(self, raw: Raw) -> None:
        made = getattr(self, f"_{raw.op.partition('.')[0]}", self._other)(raw) if raw.function is not operator.getitem else self._item(raw)
        if isinstance(made, Register):
            self.held[raw.name] = made
            if not made.plain:
                return
        elif made is not None:
            self.same[raw.name] = made
            return
        self.nodes[raw.name] = replace(
            raw, args=replace_leaves(raw.args, self._whole), kwargs={k: replace_leaves(v, self._whole) for k, v in raw.kwargs.items()}
        )

    # what makes and passes on a register ----------------------------------------------------------------------------

    def _other(self, raw: Raw) -> Any:
        if raw.op == LIKE:
            before, after = self._value(raw.args[0]), self.values[raw.name]
            if (before.shape, before.dtype) != (after.shape, after.dtype):
                return None
        elif not raw.op.startswith(SAME):
            return None
        source = raw.args[0]
        return self.held.get(source.name, self.same.get(source.name)) if isinstance(source, Ref) else None

    def _select_scatter(self, raw: Raw) -> Register:
        _, source, dim, k = raw.args
        dim, cells = self._cells(raw.args[0], dim)
        cells[k % len(cells)] = Cell(self._leaf(source), None)
        return Register(dim, tuple(cells), raw)

    def _slice_scatter(self, raw: Raw) -> Register | None:
        dim, start, end, step = (*raw.args[2:], *(0, None, None, 1)[len(raw.args) - 2 :])[:4]
        dim, cells = self._cells(raw.args[0], dim)
        cells[slice(start, end, step)] = self._cells(raw.args[1], dim)[1]
        return Register(dim, tuple(cells), raw)

    def _cat(self, raw: Raw) -> Register | None:
        parts = raw.args[0]
        if not (any(isinstance(p, Ref) and p.name in self.held for p in parts) or _mixes(raw, self.trace.nodes)):
            return None
        if any(self._value(p).ndim != self.values[raw.name].ndim for p in parts):
            return None  # torch drops empty parts
        dim = (raw.args[1] if len(raw.args) > 1 else 0) % self.values[raw.name].ndim
        cells = [cell for part in parts for cell in self._cells(part, dim)[1]]
        return Register(dim, tuple(cells), raw, plain=not any(isinstance(p, Ref) and p.name in self.held for p in parts))

    def _stack(self, raw: Raw) -> Register | None:
        if not (any(isinstance(p, Ref) and p.name in self.same for p in raw.args[0]) or _mixes(raw, self.trace.nodes)):
            return None
        dim = (raw.args[1] if len(raw.args) > 1 else 0) % self.values[raw.name].ndim
        return Register(dim, tuple(Cell(self._leaf(part), None) for part in raw.args[0]), raw, plain=True)

    def _roll(self, raw: Raw) -> Register | None:
        shifts, dims = raw.args[1], raw.args[2] if len(raw.args) > 2 else []
        if len(shifts) != 1 or len(dims) != 1 or not self._kept(raw.args[0]):
            return None
        dim, cells = self._cells(raw.args[0], dims[0])
        return Register(dim, tuple(cells[(k - shifts[0]) % len(cells)] for k in range(len(cells))), raw)

    # what reads one -------------------------------------------------------------------------------------------------

    def _slice(self, raw: Raw) -> Register | None:
        dim, start, end, step = (*raw.args[1:], *(0, None, None, 1)[len(raw.args) - 1 :])[:4]
        register = self._along(raw.args[0], dim)
        if register is None:
            return None
        return Register(register.dim, register.cells[slice(start, end, step)], raw)

    def _select(self, raw: Raw) -> Any:
        register = self._along(raw.args[0], raw.args[1])
        return None if register is None else self._place(register, raw.args[2], raw)

    def _item(self, raw: Raw) -> Any:
        source = self.trace.nodes[raw.args[0].name]
        if not source.op.startswith("unbind."):
            return None
        register = self._along(source.args[0], source.args[1] if len(source.args) > 1 else 0)
        return None if register is None else self._place(register, raw.args[1], raw)

    def _unbind(self, raw: Raw) -> Any:
        return () if self._along(raw.args[0], raw.args[1] if len(raw.args) > 1 else 0) is not None else None  # its items are read

    def _sum(self, raw: Raw) -> Any:
        """The sum over all places, oldest first: the same at every step, wherever a ring buffer stands."""
        dims = raw.args[1] if len(raw.args) > 1 else None
        axes = [dims] if isinstance(dims, int) else list(dims or [])
        register = self._along(raw.args[0], axes[0]) if len(axes) == 1 else None
        if register is None or register.plain or raw.kwargs.get("dtype") is not None:
            return None
        order = {name: k for k, name in enumerate(self.nodes)}
        cells = sorted(register.cells, key=lambda c: order.get(c.leaf.name, -1) if isinstance(c.leaf, Ref) else -1)
        places = [self._place(replace(register, cells=(cell,)), 0, raw) for cell in cells]
        total = places[0]
        for place in places[1:]:
            total = self._emit(raw, "add.Tensor", aten.add.Tensor, (place, total))
        kept = len(raw.args) > 2 and bool(raw.args[2])
        return self._emit(raw, "unsqueeze.default", aten.unsqueeze.default, (total, register.dim)) if kept else total

    def _place(self, register: Register, k: int, reader: Raw) -> Any:
        cell = register.cells[k]
        if cell.k is None:
            return cell.leaf
        return self._emit(reader, "select.int", aten.select.int, (cell.leaf, register.dim, cell.k))

    # values ---------------------------------------------------------------------------------------------------------

    def _kept(self, leaf: Any) -> bool:
        return isinstance(leaf, torch.Tensor) or leaf.name in self.held or not self.trace.nodes[leaf.name].refs

    def _value(self, leaf: Any) -> Any:
        return self.values[leaf.name] if isinstance(leaf, Ref) else leaf

    def _along(self, leaf: Any, dim: int) -> Register | None:
        register = self.held.get(leaf.name) if isinstance(leaf, Ref) else None
        return register if register is not None and register.dim == dim % self._value(leaf).ndim else None

    def _leaf(self, leaf: Any) -> Any:
        """What a name stands for: a place of a register, or itself."""
        return self._whole(leaf)

    def _cells(self, leaf: Any, dim: int) -> tuple[int, list[Cell]]:
        dim %= self._value(leaf).ndim
        register = self._along(leaf, dim)
        if register is not None:
            return dim, list(register.cells)
        whole = self._whole(leaf)
        return dim, [Cell(whole, k) for k in range(self._value(leaf).shape[dim])]

    def _whole(self, leaf: Any) -> Any:
        """A value that is read as it is: a register as the concatenation of what it holds."""
        if not isinstance(leaf, Ref):
            return leaf
        if leaf.name in self.same:
            return self.same[leaf.name]
        register = self.held.get(leaf.name)
        if register is None or leaf.name in self.nodes:
            return leaf
        raw, parts = register.raw, self._parts(register)
        if all(cell.k is None for cell in register.cells):
            joined = self._emit(raw, "stack.default", aten.stack.default, ([c.leaf for c in register.cells], register.dim))
        else:
            joined = parts[0] if len(parts) == 1 else self._emit(raw, "cat.default", aten.cat.default, (parts, register.dim))
        self.same[leaf.name] = joined
        return joined

    def _parts(self, register: Register) -> list[Any]:
        """The values to concatenate: neighbours in one value as a slice of it."""
        if all(cell.k is None for cell in register.cells):
            return []
        parts: list[Any] = []
        runs: list[list[Cell]] = []
        for cell in register.cells:
            last = runs[-1][-1] if runs else None
            joins = last is not None and last.k is not None and cell.k == last.k + 1 and _one(cell.leaf, last.leaf)
            runs[-1].append(cell) if joins else runs.append([cell])
        dim = register.dim
        for run in runs:
            leaf, first, last_k = run[0].leaf, run[0].k, run[-1].k
            if first is None or last_k is None:
                parts.append(self._emit(register.raw, "unsqueeze.default", aten.unsqueeze.default, (leaf, dim)))
            elif len(run) == self._value(leaf).shape[dim]:
                parts.append(leaf)
            else:
                parts.append(self._emit(register.raw, "slice.Tensor", aten.slice.Tensor, (leaf, dim, first, last_k + 1)))
        return parts

    def _emit(self, raw: Raw, op: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Ref:
        name = f"{raw.name}/{len(self.nodes)}"
        self.nodes[name] = replace(raw, name=name, op=op, function=function, args=args, kwargs={})
        self.values[name] = function(*replace_leaves(args, lambda leaf: described(self._value(leaf))))
        return Ref(name)


def _one(a: Any, b: Any) -> bool:
    return a is b or (isinstance(a, Ref) and a == b)


__all__ = ["has_registers", "resolve_registers"]

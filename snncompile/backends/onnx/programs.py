"""Neuron programs as ONNX nodes: one instruction after the other, on int64; rounding and limits as ``neurons`` spells them."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from snncompile.backends.onnx.neurons import NeuronWriter, Stepped
from snncompile.ir.graph import Array
from snncompile.ir.program import IntProgram
from snncompile.ir.program_code import Instruction

KINDS = {"add": "Add", "sub": "Sub", "mul": "Mul", "neg": "Neg", "abs": "Abs", "ge": "GreaterOrEqual", "gt": "Greater"}


def program_states(n: IntProgram) -> dict[str, Array]:
    """What a program keeps from step to step, with its value before step 0: ``z0``, ``z1``..."""
    return {f"z{k}": value for k, value in enumerate(n.initial)}


class ProgramWriter(NeuronWriter):
    """Writes programs; ``limits`` is the range of a register."""

    def __init__(self, writer: NeuronWriter, limits: tuple[int, int]) -> None:
        super().__init__(writer.w, writer.step)
        self.limits = limits

    def program(self, n: IntProgram, accumulators: list[str], state: dict[str, str]) -> Stepped:
        """One step of a population from its accumulators and its states."""
        w, env = self.w, dict(state)
        for k in range(len(n.gain)):
            env[f"i{k}"] = self._current(n, k, accumulators)
        shape = env["i0"]
        for k, c in enumerate(n.constants):
            env[f"c{k}"] = self._at_step(c, f"c{k}")
        for made in n.instructions:
            env[made.target] = self._instruction(n, made, [env[a] for a in made.args])
        zero = w.op("Mul", shape, w.number(0), label="zero")

        def whole(register: str, label: str) -> str:
            """A register with every axis of the population: what rests on constants alone lacks some."""
            return w.op("Add", env[register], zero, label=label)

        sent = self._round_shift(whole(n.payload, "sent"), np.asarray(n.payload_shift))
        payload = self._min(self._max(sent, w.number(n.payload_min), "at_least"), w.number(n.payload_max), "payload")
        m = whole(n.membrane, "m")
        after = {f"z{k}": whole(name, f"z{k}") for k, name in enumerate(n.following)}
        return Stepped(payload, m, after["z0"] if after else m, after)

    def _current(self, n: IntProgram, k: int, accumulators: list[str]) -> str:
        w, total = self.w, None
        for x, e, current in zip(accumulators, n.exponents, n.currents, strict=True):
            if current == k:
                scaled = w.op("Mul", x, w.number(2**e), label="scaled") if e else x
                total = scaled if total is None else w.op("Add", total, scaled, label="input")
        assert total is not None
        gained = w.op("Mul", total, self._at_step(n.gain[k], f"gain{k}"), label="gained")
        rounded = self._round_shift(gained, np.asarray(n.gain_shift[k]))
        return w.op("Add", rounded, self._at_step(n.bias[k], f"bias{k}"), label=f"i{k}")

    def _instruction(self, n: IntProgram, made: Instruction, args: list[str]) -> str:
        w = self.w
        x = [w.op("Mul", a, w.number(2**k), label="aligned") if k else a for a, k in zip(args, made.lefts, strict=True)]
        if made.op == "table":
            value = self._table(n, made.table, x[0])
        elif made.op in ("min", "max"):
            value = (self._min if made.op == "min" else self._max)(x[0], x[1], made.target)
        elif made.op == "select":
            value = w.op("Where", w.op("Not", w.op("Equal", x[0], w.number(0), label="off"), label="on"), x[1], x[2], label=made.target)
        elif made.op == "copy":
            value = x[0]
        else:
            value = w.op(KINDS[made.op], *x, label=made.target)
            if made.op in ("ge", "gt"):
                value = w.op("Cast", value, label=f"{made.target}/bit", to=TensorProto.INT64)
        value = self._round_shift(value, np.asarray(made.right))
        if made.saturates:
            value = self._min(self._max(value, w.number(self.limits[0]), "at_least"), w.number(self.limits[1]), "limited")
        return value

    def _table(self, n: IntProgram, k: int, x: str) -> str:
        """Both knots around the argument are gathered, and the line between them read."""
        w, low, shift, last = self.w, n.table_low[k], n.table_shift[k], n.tables[k].size - 2
        inside = w.op("Sub", x, w.number(low), label="offset")
        inside = self._min(self._max(inside, w.number(0), "at_least"), w.number((last + 1) << shift), "inside")
        j = self._min(w.op("Div", inside, w.number(2**shift), label="index"), w.number(last), "knot")
        y = w.op("Gather", w.whole(n.tables[k][:-1], f"table{k}"), j, label="y", axis=0)
        slope = w.op("Gather", w.whole(np.diff(n.tables[k]), f"table{k}/slopes"), j, label="slope", axis=0)
        rest = w.op("Sub", inside, w.op("Mul", j, w.number(2**shift), label="start"), label="rest")
        rise = self._round_shift(w.op("Mul", slope, rest, label="rise"), np.asarray(shift))
        return w.op("Add", y, rise, label="line")


__all__ = ["ProgramWriter", "program_states"]

"""Neuron programs: a straight line of integer operations in place of the neuron step.

Registers: currents i0.., states z0.., constants c0.., then one new register for every instruction

    (target, op, arguments, left shifts, right shift, saturates, table)

    value = op(argument << left, ...), rounded half to even when it is shifted right, then limited to the membrane range if it saturates
    i_k   = round(sum of the current's accumulators * gain_k[t] / 2**shift_k) + bias_k[t]
    table: straight lines between knots at low + j * 2**shift; beyond the ends the value at the end
    payload n = clamp(round(register / 2**payload_shift), payload_min, payload_max)

A register that leaves the membrane range without saturating raises RangeViolation: the compiler had proved that it cannot.
"""

from __future__ import annotations

import numpy as np

from .neuron import at, check, shift_half_even
from .plan import Plan, Population
from .program_plan import Program, Step, Table


class ProgramState:
    """The states of one population, and how they advance; ``v`` is what is recorded as its membrane."""

    def __init__(self, plan: Plan, population: Population) -> None:
        assert population.program is not None
        self.program: Program = population.program
        self.shape = population.shape
        self.membrane = plan.membrane
        self.payload = population.payload
        self.start_sample()

    def start_sample(self) -> None:
        """Every state at its initial value."""
        self.z = [np.array(np.broadcast_to(value, self.shape)) for value in self.program.initial]
        self.v = self.z[0] if self.z else np.zeros(self.shape, np.int64)

    def step(self, t: int, sums: list[np.ndarray]) -> np.ndarray:
        """Advance by model step ``t`` with each current's sum; return the payload, leave the first state in ``self.v``."""
        p = self.program
        file: dict[str, np.ndarray] = {f"z{k}": z for k, z in enumerate(self.z)}
        file.update((f"c{k}", at(c, t)) for k, c in enumerate(p.constants))
        for k, total in enumerate(sums):
            file[f"i{k}"] = shift_half_even(total * at(p.gains[k], t), np.asarray(p.shifts[k])) + at(p.biases[k], t)
            check(file[f"i{k}"], self.membrane, f"current {k}")
        for made in p.steps:
            file[made.target] = self.do(made, [file[a] << k for a, k in zip(made.args, made.lefts, strict=True)])
        self.z = [np.broadcast_to(file[name], self.shape) for name in p.following]
        self.v = self.z[0] if self.z else np.broadcast_to(file[p.membrane], self.shape)
        sent: np.ndarray = np.clip(shift_half_even(file[p.payload], np.asarray(p.payload_shift)), p.payload_min, p.payload_max)
        check(sent, self.payload, "the payload")
        return np.broadcast_to(sent, self.shape)

    def do(self, made: Step, x: list[np.ndarray]) -> np.ndarray:
        """One instruction on aligned arguments."""
        op = made.op
        if op == "table":
            value = self.look_up(self.program.tables[made.table], x[0])
        elif op in ("add", "sub"):
            value = x[0] + (x[1] if op == "add" else -x[1])
        elif op == "mul":
            value = x[0] * x[1]
        elif op in ("neg", "abs"):
            value = -x[0] if op == "neg" else np.where(x[0] < 0, -x[0], x[0])
        elif op in ("min", "max"):
            value = np.where((x[0] < x[1]) == (op == "min"), x[0], x[1])
        elif op in ("ge", "gt"):
            value = np.where(x[0] > x[1], 1, np.where(x[0] == x[1], int(op == "ge"), 0))
        elif op == "select":
            value = np.where(x[0] == 0, x[2], x[1])
        else:
            value = x[0]
        value = shift_half_even(value, np.asarray(made.right))
        if made.saturates:
            value = np.clip(value, self.membrane.low, self.membrane.high)
        check(value, self.membrane, f"register {made.target}")
        return value

    def look_up(self, table: Table, x: np.ndarray) -> np.ndarray:
        """A table between its knots."""
        last = table.values.size - 2
        inside = np.clip(x, table.low, table.low + ((last + 1) << table.shift)) - table.low
        j = np.minimum(inside >> table.shift, last)
        y = table.values[j]
        slope = table.values[j + 1] - y
        found: np.ndarray = y + shift_half_even(slope * (inside - (j << table.shift)), np.asarray(table.shift))
        return found

"""Which outputs of a step function are the next values of which inputs.

In this order: what the user says; what the file says (``snncompile.states``, a JSON object, in its metadata); names. By name, an
input and an output of one shape and type belong together if they are equal without their marks, and at least one has a mark:

    input   mem_in, mem_prev, mem_old, mem_before, prev_mem, old_mem        (or plainly mem)
    output  mem_out, mem_next, mem_new, mem_after, next_mem, new_mem        (or plainly mem)

An input that is left over is the network's input, if it is the only one or if no output that is left over could be its next value;
everything else is an error that lists the candidates.

    SNN173 a state cannot be told, or nothing is left      SNN174 ``--state`` names what is not there or does not fit
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from snncompile.capture.onnx.file import OnnxFile, Value
from snncompile.errors import CompileError, Diagnostic, fail

MARKS = r"in|prev|previous|old|before|out|next|new|after|updated"
MARKED = re.compile(rf"^(?:(?P<first>{MARKS})[_./]+(?P<rest>.+)|(?P<name>.+?)[_./]+(?P<last>{MARKS}))$", re.IGNORECASE)
BEFORE, AFTER = {"in", "prev", "previous", "old", "before"}, {"out", "next", "new", "after", "updated"}


@dataclass(frozen=True)
class Roles:
    """Inputs and outputs of the network, and its states: name of the input to name of the output, with how that is known."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    states: dict[str, str]
    reasons: dict[str, str]


def find_roles(file: OnnxFile, given: Mapping[str, str]) -> Roles:
    """Tell inputs, outputs and states apart (SNN173, SNN174)."""
    ins, outs = {v.name: v for v in file.inputs}, {v.name: v for v in file.outputs}
    states, reasons = dict(given), dict.fromkeys(given, "--state")
    _check_given(file, given, ins, outs)
    for name, after in _told(file, ins, outs).items():
        if name not in states and after not in states.values():
            states[name], reasons[name] = after, "the file's metadata"
    for name, after in _by_name(file, states).items():
        states[name], reasons[name] = after, "their names"
    left_in = [v for v in file.inputs if v.name not in states]
    left_out = [v for v in file.outputs if v.name not in states.values()]
    if not left_in:
        raise fail(
            "SNN173", f"{file.path}: every input is a state: {_pairs(states)}",
            notes=[f"they were matched by {', '.join(set(reasons.values()))}"],
            help="rename the network's input, or give every state yourself with --state IN=OUT",
        )  # fmt: skip
    if len(left_in) > 1:
        unclear = {v.name: [o for o in left_out if fits(v, o)] for v in left_in}
        if any(unclear.values()):
            raise CompileError(_unclear(file, v, unclear[v.name], left_in, left_out) for v in left_in if unclear[v.name])
    if not left_out:
        if len(states) != 1:
            raise fail(
                "SNN173", f"{file.path}: every output is a state ({_pairs(states)}), none is the network's answer",
                help="add the answer as an output of its own when you export, even if it equals a state",
            )  # fmt: skip
        left_out = [outs[next(iter(states.values()))]]
    return Roles(tuple(left_in), tuple(left_out), states, reasons)


def fits(before: Value, after: Value) -> bool:
    """Whether an output could be the next value of an input: the same type, and sizes that do not contradict each other."""
    if before.dtype != after.dtype:
        return False
    if before.shape is None or after.shape is None:
        return True
    return len(before.shape) == len(after.shape) and all(
        a is None or b is None or a == b for a, b in zip(before.shape, after.shape, strict=True)
    )


def _check_given(file: OnnxFile, given: Mapping[str, str], ins: dict[str, Value], outs: dict[str, Value]) -> None:
    for name, after in given.items():
        for which, wanted, known in (("input", name, ins), ("output", after, outs)):
            if wanted not in known:
                near = difflib.get_close_matches(wanted, known, n=1)
                raise fail(
                    "SNN174", f"--state {name}={after}: {file.path} has no {which} '{wanted}'",
                    notes=[f"its {which}s: {', '.join(map(str, known.values()))}"], help=f"did you mean '{near[0]}'?" if near else None,
                )  # fmt: skip
        if not fits(ins[name], outs[after]):
            message = f"--state {name}={after}: {ins[name]} and {outs[after]} differ in shape or type"
            raise fail("SNN174", message, help="a state comes back as it went in")
    twice = next((o for o in given.values() if list(given.values()).count(o) > 1), None)
    if twice is not None:
        raise fail("SNN174", f"--state gives the output '{twice}' to two inputs")


def _told(file: OnnxFile, ins: dict[str, Value], outs: dict[str, Value]) -> dict[str, str]:
    """The table in the file's metadata."""
    text = file.metadata.get("snncompile.states")
    if text is None:
        return {}
    try:
        table = json.loads(text)
        if not isinstance(table, dict) or any(k not in ins or v not in outs or not fits(ins[k], outs[v]) for k, v in table.items()):
            raise ValueError("it names values that are not there, or that differ in shape")
    except (ValueError, TypeError) as e:
        raise fail(
            "SNN173", f"{file.path}: its metadata 'snncompile.states' is of no use: {e}", help="give states with --state IN=OUT"
        ) from e
    return table


def _by_name(file: OnnxFile, known: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    outs = [v for v in file.outputs if v.name not in known.values()]
    for v in (v for v in file.inputs if v.name not in known):
        matching = [o for o in outs if o.name not in found.values() and fits(v, o) and _belong(v.name, o.name)]
        if len(matching) == 1:
            found[v.name] = matching[0].name
    return found


def _belong(before: str, after: str) -> bool:
    (a, mark_a), (b, mark_b) = _unmarked(before, BEFORE), _unmarked(after, AFTER)
    return a.lower() == b.lower() and (mark_a or mark_b)


def _unmarked(name: str, marks: set[str]) -> tuple[str, bool]:
    match = MARKED.match(name)
    if match is None or (match["first"] or match["last"]).lower() not in marks:
        return name, False
    return match["rest"] or match["name"], True


def _unclear(file: OnnxFile, v: Value, candidates: list[Value], left_in: list[Value], left_out: list[Value]) -> Diagnostic:
    return Diagnostic(
        "SNN173", f"{file.path}: the input {v} may be a state: which output is its next value?", None,
        (f"candidates: {', '.join(map(str, candidates))}",), _suggestion(left_in, left_out),
    )  # fmt: skip


def _suggestion(left_in: list[Value], left_out: list[Value]) -> str:
    """If the last outputs fit the last inputs in order, as step functions are mostly written, say so in full."""
    count = min(len(left_in) - 1, len(left_out))
    pairs = list(zip(left_in[len(left_in) - count :], left_out[len(left_out) - count :], strict=True))
    if pairs and all(fits(a, b) for a, b in pairs):
        return f"say it with --state IN=OUT; in the order of the file: {' '.join(f'--state {a.name}={b.name}' for a, b in pairs)}"
    return "say it with --state IN=OUT, once for every state"


def _pairs(states: Mapping[str, str]) -> str:
    return ", ".join(f"{a} -> {b}" for a, b in states.items())


__all__ = ["Roles", "find_roles", "fits"]

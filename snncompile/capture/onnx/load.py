"""From a file to a network that can be captured: roles, shapes, and what the file tells about itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snncompile.capture.driver import Layout
from snncompile.capture.onnx.file import OnnxFile, Value, read_onnx
from snncompile.capture.onnx.fixed import check_operators, find_fixed
from snncompile.capture.onnx.module import OnnxNetwork
from snncompile.capture.onnx.states import find_roles
from snncompile.errors import CompileError, fail
from snncompile.ir.graph import Shape


@dataclass(frozen=True)
class OnnxModel:
    """A network from a file: the module, its input's shape at one step, its number of steps where the graph holds the whole loop."""

    model: OnnxNetwork
    input_shape: Shape
    steps: int | None
    facts: dict[str, Any]


def load_onnx(
    path: Path, *, states: Mapping[str, str] | None = None, input_shape: Shape | None = None, layout: Layout = "step",
    steps: int | None = None,
) -> OnnxModel:  # fmt: skip
    """Load a step function (``layout`` step), or a graph that runs all steps on an input with a time axis (TB, BT, static).

    states       name of the input to name of the output, for those that the file does not make plain
    input_shape  of one sample at one step, where the file leaves it open
    steps        what the user wants; a graph that holds the whole loop takes its own number only
    raises       CompileError SNN170 to SNN174, SNN177
    """
    file = read_onnx(path)
    roles = find_roles(file, states or {})
    fixed = find_fixed(file, roles)
    check_operators(file, fixed)
    if len(roles.inputs) > 1:
        names = ", ".join(map(str, roles.inputs))
        raise fail("SNN173", f"{path} has {len(roles.inputs)} inputs that are no states: {names}", help="concatenate them when you export")
    kept = {name: _state_shape(path, name, after, file) for name, after in roles.states.items()}
    (source,) = roles.inputs
    shape, own = _input_shape(path, source, input_shape, layout)
    if own and steps and own != steps:
        raise fail("SNN171", f"--steps is {steps}, {path} takes {own} steps at once", help="leave --steps out")
    facts = {
        "kind": "ONNX step function" if layout == "step" else "ONNX graph", "opset": file.opset, "producer": file.producer,
        "nodes": len(file.nodes), "input": source.name, "outputs": [v.name for v in roles.outputs],
        "states": {name: {"next": after, "known by": roles.reasons[name], "start": 0} for name, after in roles.states.items()},
    }  # fmt: skip
    return OnnxModel(OnnxNetwork(file, roles, fixed, kept, layout).eval(), shape, own, facts)


def state_options(texts: Sequence[str]) -> dict[str, str]:
    """``--state IN=OUT``, any number of times (SNN174)."""
    found: dict[str, str] = {}
    for text in texts:
        before, sign, after = text.partition("=")
        if not sign or not before or not after:
            raise fail("SNN174", f"--state is '{text}'", help="write the name of the input and of the output: --state mem_in=mem_out")
        if before in found:
            raise fail("SNN174", f"--state names the input '{before}' twice")
        found[before] = after
    return found


def refuse_code(path: str) -> CompileError:
    """What builds a network from code means nothing for a file that holds all of it."""
    message = f"{path} holds the whole network: --arch, --arch-args and --trust-pickle mean nothing for it"
    return fail("SNN175", message, help="leave them out")


def refuse_states(path: str) -> CompileError:
    """States are named for ONNX files only."""
    return fail("SNN175", f"--state is for ONNX files, not for {path}", help="leave it out")


def _state_shape(path: Path, name: str, after: str, file: OnnxFile) -> Shape:
    """A state's shape with a batch of one; what the input leaves open, the output may tell."""
    before = next(v for v in file.inputs if v.name == name)
    back = next(v for v in file.outputs if v.name == after)
    known = before.shape if before.shape is not None else back.shape
    if known is None:
        raise _open(path, before, "give it a fixed shape when you export")
    other = back.shape or known
    shape = tuple(a if a is not None else b for a, b in zip(known, other, strict=True))
    shape = (1, *shape[1:]) if shape and shape[0] is None else shape
    if any(n is None for n in shape):
        raise _open(path, before, "give it a fixed shape when you export; only the batch may be dynamic")
    return tuple(int(n) for n in shape if n is not None)


def _input_shape(path: Path, v: Value, given: Shape | None, layout: Layout) -> tuple[Shape, int | None]:
    """The input's shape without batch and time, and the length of the time axis."""
    axes = 2 if layout in ("TB", "BT") else 1
    if v.shape is None:
        if given is None:
            raise _open(path, v, "give the shape of one sample at one step with --input-shape")
        return given, None
    if len(v.shape) < axes:
        raise fail("SNN171", f"{path}: the input {v} has no batch axis", help="export the step function for a batch: (1, ...)")
    batch, time = (v.shape[1], v.shape[0]) if layout == "TB" else (v.shape[0], v.shape[1] if layout == "BT" else None)
    if batch not in (None, 1):
        raise fail("SNN171", f"{path}: the input {v} holds a batch of {batch}", help="export it for a batch of 1, or a dynamic one")
    shape = v.shape[axes:]
    if given is not None and (len(given) != len(shape) or any(n is not None and n != k for n, k in zip(shape, given, strict=True))):
        raise fail("SNN171", f"--input-shape is {list(given)}, {path} takes {v}", help="leave --input-shape out, or correct it")
    if given is None and any(n is None for n in shape):
        raise _open(path, v, "give the shape of one sample at one step with --input-shape")
    return given or tuple(int(n) for n in shape if n is not None), time


def _open(path: Path, v: Value, way_out: str) -> Exception:
    return fail("SNN171", f"{path} leaves the shape of {v} open", help=way_out)


__all__ = ["OnnxModel", "load_onnx", "refuse_code", "refuse_states", "state_options"]

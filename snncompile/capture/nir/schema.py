"""The node types of NIR 1.0 and their fields, and the check of one node against them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from snncompile.capture.nir.nodes import RawNode
from snncompile.errors import Diagnostic
from snncompile.hdf5 import Refused


@dataclass(frozen=True)
class Field:
    """What a field holds.

    kind   values  finite real numbers             weight  the same, of a given number of axes
           tau     positive times, infinity allowed (no decay)
           scale   real numbers, infinity allowed beside an infinite time constant
           shape   whole numbers from 1            pair    one or two whole numbers from ``low``
           pad     the same from 0, or ``same`` or ``valid``       whole  one whole number
    """

    kind: str
    required: bool = True
    axes: tuple[int, ...] = ()
    low: int = 1


VALUES, OPTIONAL = Field("values"), Field("values", required=False)
TAU, SCALE, PAIR, PAD, SHAPE = Field("tau"), Field("scale"), Field("pair"), Field("pad"), Field("shape")
ANY_SHAPE = Field("shape", required=False)
POOL = {"kernel_size": PAIR, "stride": PAIR, "padding": Field("pair", low=0)}
WINDOW = {"stride": PAIR, "padding": PAD, "dilation": PAIR, "groups": Field("whole"), "bias": VALUES}

NODES: Mapping[str, Mapping[str, Field]] = {
    "Input": {"shape": SHAPE},
    "Output": {"shape": ANY_SHAPE},
    "Affine": {"weight": Field("weight", axes=(2,)), "bias": VALUES},
    "Linear": {"weight": Field("weight", axes=(2,))},
    "Scale": {"scale": VALUES},
    "Conv1d": {"input_shape": ANY_SHAPE, "weight": Field("weight", axes=(3,)), **WINDOW},
    "Conv2d": {"input_shape": ANY_SHAPE, "weight": Field("weight", axes=(4,)), **WINDOW},
    "SumPool2d": POOL,
    "AvgPool2d": POOL,
    "Flatten": {"start_dim": Field("whole", low=-8), "end_dim": Field("whole", low=-8), "input_type": ANY_SHAPE},
    "Delay": {"delay": VALUES},
    "Threshold": {"threshold": VALUES},
    "I": {"r": VALUES},
    "LI": {"tau": TAU, "r": SCALE, "v_leak": VALUES},
    "IF": {"r": VALUES, "v_threshold": VALUES, "v_reset": OPTIONAL},
    "LIF": {"tau": TAU, "r": SCALE, "v_leak": VALUES, "v_threshold": VALUES, "v_reset": OPTIONAL},
    "CubaLI": {"tau_syn": TAU, "tau_mem": TAU, "r": SCALE, "v_leak": VALUES, "w_in": Field("scale", required=False)},
    "CubaLIF": {
        "tau_syn": TAU, "tau_mem": TAU, "r": SCALE, "v_leak": VALUES, "v_threshold": VALUES, "v_reset": OPTIONAL,
        "w_in": Field("scale", required=False),
    },
}  # fmt: skip
NEURONS = ("Threshold", "I", "LI", "IF", "LIF", "CubaLI", "CubaLIF")
SPIKING = ("IF", "LIF", "CubaLIF")


def check_node(node: RawNode) -> Iterator[Diagnostic]:
    """Yield SNN161 for every field that is missing, unknown, of the wrong kind, or does not fit the others."""
    known = NODES[node.type]
    for name, form in known.items():
        if name not in node.fields:
            if form.required:
                yield _wrong(node, name, f"is missing; it has {', '.join(sorted(node.fields)) or 'no fields'}")
            continue
        reason = _reason(form, node.fields[name])
        if reason is not None:
            yield _wrong(node, name, reason)
    for name in node.fields:
        if name not in known:
            yield _wrong(node, name, f"is no field of a {node.type} node; those are {', '.join(known)}")


def _wrong(node: RawNode, name: str, reason: str) -> Diagnostic:
    return Diagnostic("SNN161", f"node {node.label}: field '{name}' {reason}")


def _reason(form: Field, value: Any) -> str | None:
    """Why a value is not of this form."""
    if isinstance(value, str):
        return None if form.kind == "pad" and value in ("same", "valid") else f"is the text '{value[:40]}'"
    if isinstance(value, (Refused, Mapping)):
        return f"holds {value.detail}, not numbers" if isinstance(value, Refused) else "is a group, not a value"
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        return f"holds {array.dtype}, not numbers"
    if not array.size:
        return "is empty"
    if form.kind in ("shape", "pair", "pad", "whole"):
        return _whole(form, array)
    if np.isnan(array).any():
        return "holds NaN"
    if form.kind not in ("tau", "scale") and not np.isfinite(array).all():
        return "holds infinity"
    if form.kind == "tau" and np.min(array) <= 0:
        return f"must be positive, its lowest value is {np.min(array):g}"
    if form.axes and array.ndim not in form.axes:
        return f"has {array.ndim} axes {list(array.shape)}, must have {form.axes[0]}"
    return None


def _whole(form: Field, array: Any) -> str | None:
    numbers = np.ravel(array).astype(np.float64)
    if not np.array_equal(numbers, np.rint(numbers)):
        return f"must hold whole numbers, is {numbers.tolist()}"
    limit = {"shape": 8, "pair": 2, "pad": 2, "whole": 1}[form.kind]
    if len(numbers) > limit:
        return f"must hold at most {limit} number{'s' if limit > 1 else ''}, has {len(numbers)}"
    low = 0 if form.kind == "pad" else form.low
    return f"must be at least {low}, is {numbers.astype(int).tolist()}" if numbers.min() < low else None


def numbers(node: RawNode, name: str, count: int = 1) -> tuple[int, ...]:
    """A field of whole numbers; one number stands for ``count`` equal ones."""
    values = tuple(int(n) for n in np.ravel(node.fields[name]))
    return values * count if len(values) == 1 else values


__all__ = ["NEURONS", "NODES", "SPIKING", "Field", "check_node", "numbers"]

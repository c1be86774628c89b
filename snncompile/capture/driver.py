"""How to run a network's time loop: the one place that knows about calling conventions.

Layouts
    step    ``model(x_t)`` once per step, x_t of shape (B, *shape); state lives in the module, or goes in and out
    TB, BT  ``model(x)`` with x of shape (T, B, *shape) or (B, T, *shape)

Several inputs are positional arguments, or keyword arguments where the user named them. What a convention needs to know beyond
the layout is found by ``snncompile.capture.convention.detect``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import torch
from torch.utils import _pytree as pytree

from snncompile.capture.pristine import pristine
from snncompile.errors import fail

Layout = Literal["step", "TB", "BT"]
LAYOUTS: tuple[Layout, ...] = ("step", "TB", "BT")
Inputs = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Carried:
    """State that goes in and out of every call.

    ``names``: forward's parameters that take it. It comes back as the ``rest`` of the returned tuple, ``packed`` as one tuple at its
    end, or under the same ``keys`` of a dict. ``initial`` is a method of the model that makes the first state, if one is needed.
    """

    names: tuple[str, ...]
    form: Literal["rest", "packed", "keys"]
    initial: str = ""

    def split(self, result: Any) -> tuple[Any, dict[str, Any]]:
        """The outputs, and the state by parameter."""
        if self.form == "keys":
            return {k: v for k, v in result.items() if k not in self.names}, {k: result[k] for k in self.names}
        count = 1 if self.form == "packed" else len(self.names)
        head, tail = tuple(result[:-count]), tuple(result[-count:])
        values = tuple(tail[0]) if self.form == "packed" else tail
        return head[0] if len(head) == 1 else head, dict(zip(self.names, values, strict=True))


@dataclass(frozen=True)
class Driver:
    """A calling convention.

    names        keywords of the inputs; empty if they are positional
    first_kwarg  is passed as ``True`` on the first step of a sample (OTTT's ``init``)
    sliced       drives a TB or BT model one step at a time
    reduced      for each output of a model that takes all steps at once, its reduction over time (``mean``, ``sum``, ``last``), if any
    carried      state that is passed in and out
    labels       names of the outputs, if the model names them
    """

    layout: Layout = "step"
    names: tuple[str, ...] = ()
    first_kwarg: str | None = None
    sliced: bool = False
    reduced: tuple[str, ...] = ()
    carried: Carried | None = None
    labels: tuple[str, ...] = ()
    dtype: torch.dtype = torch.float32

    @property
    def per_step(self) -> bool:
        """Whether the model is called once per step."""
        return self.layout == "step" or self.sliced

    @property
    def time_axis(self) -> int:
        """Where the time axis stands in the model's own input."""
        return 1 if self.layout == "BT" else 0

    def frame(self, x: torch.Tensor) -> torch.Tensor:
        """One step's input ``(B, *shape)`` as the recorded operations see it: with a time axis of length 1, if the model has one."""
        return x.unsqueeze(self.time_axis) if self.layout != "step" else x

    def frames(self, xs: Inputs) -> list[Inputs]:
        """Every step's inputs, from inputs ``(T, B, *shape)``."""
        return [tuple(self.frame(x[t]) for x in xs) for t in range(len(xs[0]))]

    def whole(self, xs: Inputs) -> Inputs:
        """The inputs of a model that runs its own loop, from inputs ``(T, B, *shape)``."""
        return tuple(x.transpose(0, 1) if self.layout == "BT" else x for x in xs)

    def calls(self, xs: Inputs) -> list[Inputs]:
        """The arguments of every call that one sample takes."""
        return self.frames(xs) if self.per_step else [self.whole(xs)]


class Session:
    """A fresh model in the middle of a sample: knows the first call from later ones, and carries explicit state between them."""

    def __init__(self, driver: Driver, model: torch.nn.Module) -> None:
        self.driver, self.model = driver, model
        self.calls = 0
        self.state: dict[str, Any] = {}

    def __call__(self, inputs: Inputs) -> list[torch.Tensor]:
        """One call: the flat list of output tensors."""
        return flatten(self.raw(inputs))

    def raw(self, inputs: Inputs) -> Any:
        """One call: what the model returns, without carried state."""
        d = self.driver
        kwargs: dict[str, Any] = dict(zip(d.names, inputs, strict=True)) if d.names else {}
        if d.first_kwarg and self.calls == 0:
            kwargs[d.first_kwarg] = True
        if d.carried is not None:
            if self.calls == 0:
                self.state = first_state(self.model, d.carried, inputs)
            kwargs |= self.state
        result = self.model(*(() if d.names else inputs), **kwargs)
        self.calls += 1
        if d.carried is not None:
            result, self.state = d.carried.split(result)
        return result


def first_state(model: torch.nn.Module, carried: Carried, inputs: Inputs) -> dict[str, Any]:
    """What the state's parameters get at the first step: nothing, unless they need something."""
    if not carried.initial:
        return {}
    if carried.initial == "None":
        return dict.fromkeys(carried.names)
    method = getattr(model, carried.initial)
    try:
        value = method()
    except TypeError:
        value = method(len(inputs[0]))
    return {carried.names[0]: value} if len(carried.names) == 1 else dict(zip(carried.names, value, strict=True))


def flatten(outputs: object) -> list[torch.Tensor]:
    """The tensors in whatever a model returned, in order."""
    leaves = [leaf for leaf in leaves_of(outputs) if isinstance(leaf, torch.Tensor)]
    if not leaves:
        raise fail("SNN110", f"the model returned no tensor but {type(outputs).__name__}", help="return the output of the last layer")
    return leaves


def leaves_of(value: object) -> list[Any]:
    """The leaves of nested tuples, lists, dicts and dataclasses."""
    found = []
    for leaf in pytree.tree_leaves(value):
        parts = [getattr(leaf, f.name) for f in fields(leaf)] if is_dataclass(leaf) and not isinstance(leaf, type) else None
        found += [leaf] if parts is None else leaves_of(parts)
    return found


def labels_of(outputs: object) -> tuple[str, ...]:
    """The names that a model gives its outputs: keys of a dict, fields of a named tuple or dataclass; none otherwise."""
    if isinstance(outputs, Mapping):
        named: Sequence[tuple[str, object]] = [(str(k), v) for k, v in outputs.items()]
    elif isinstance(outputs, tuple) and hasattr(outputs, "_fields"):
        named = list(zip(outputs._fields, outputs, strict=True))
    elif is_dataclass(outputs) and not isinstance(outputs, type):
        named = [(f.name, getattr(outputs, f.name)) for f in fields(outputs)]
    else:
        return ()
    found = tuple(k for k, v in named if isinstance(v, torch.Tensor))
    return found if len(found) == len(flatten(outputs)) and all(k.isidentifier() for k in found) else ()


@torch.no_grad()
def run(model: torch.nn.Module, driver: Driver, xs: Inputs, twin: torch.nn.Module | None = None) -> list[torch.Tensor]:
    """Run a batch of samples from a fresh state, on a copy of the model or the one that is given.

    ``xs``: by input, (T, B, *shape). Returns every output as (T, B, ...), as (1, B, ...) where the model reduces over time.
    """
    session = Session(driver, pristine(model) if twin is None else twin)
    return collected(driver, [session(call) for call in driver.calls(xs)], len(xs[0]))


def collected(driver: Driver, answers: list[list[torch.Tensor]], steps: int) -> list[torch.Tensor]:
    """What every call of one run returned, as ``run`` returns it."""
    if driver.per_step:
        outs = [torch.stack(ys) for ys in zip(*answers, strict=True)]
        return [y.squeeze(1 + driver.time_axis) for y in outs] if driver.sliced else outs
    (whole,) = answers
    reduced = driver.reduced or ("",) * len(whole)
    batch_first = driver.layout == "BT" or any(y.shape[:1] != (steps,) for y in whole)
    return [
        y[None] if kind else y.transpose(0, 1) if batch_first and y.shape[1:2] == (steps,) else y
        for y, kind in zip(whole, reduced, strict=True)
    ]

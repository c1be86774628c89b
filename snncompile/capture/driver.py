"""How to run a network's time loop: the one place that knows about calling conventions.

Layouts
    step    ``model(x_t)`` once per step, x_t of shape (B, *shape); state lives in the module
    TB, BT  ``model(x)`` with x of shape (T, B, *shape) or (B, T, *shape)

A fresh deep copy of the model as it was handed over is the reset: it needs to know nothing about the library. A stateful
multi-step model (called with one step at a time it gives the same answer) is driven step by step.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch.utils import _pytree as pytree

from snncompile.errors import CompileError, fail

Layout = Literal["step", "TB", "BT"]
LAYOUTS: tuple[Layout, ...] = ("step", "TB", "BT")


@dataclass(frozen=True)
class Driver:
    """A calling convention.

    ``first_kwarg`` is passed as ``True`` on the first step of a sample (OTTT's ``init``). ``sliced`` drives a TB or BT model one
    step at a time. ``reduced`` names, for each output of a model that takes all steps at once, its reduction over time, if any.
    """

    layout: Layout = "step"
    first_kwarg: str | None = None
    sliced: bool = False
    reduced: tuple[str, ...] = ()

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

    def call(self, model: torch.nn.Module, x: torch.Tensor, t: int) -> list[torch.Tensor]:
        """One call of a per-step model: the flat list of output tensors."""
        kwargs = {self.first_kwarg: True} if self.first_kwarg and t == 0 else {}
        return flatten(model(self.frame(x), **kwargs))

    def whole(self, model: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
        """One call over all steps; ``x`` already has the time axis."""
        return flatten(model(x))


def flatten(outputs: object) -> list[torch.Tensor]:
    """The tensors in whatever a model returned, in order."""
    leaves = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
    if not leaves:
        raise fail("SNN110", f"the model returned no tensor but {type(outputs).__name__}", help="return the output of the last layer")
    return leaves


def _leftovers(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Tensors of an earlier run that hang in an autograd graph, which Python's copy refuses."""
    stack: list[object] = [vars(m) for m in model.modules()]
    while stack:
        value = stack.pop()
        if isinstance(value, torch.Tensor) and not value.is_leaf:
            yield value
        elif isinstance(value, dict):
            stack += value.values()
        elif isinstance(value, (list, tuple)):
            stack += value


RESETS = ("reset", "reset_mem", "reset_hidden")


def pristine(model: torch.nn.Module) -> torch.nn.Module:
    """A copy in evaluation mode and initial state, whose state changes do not reach the caller's model.

    Modules that know how to reset themselves (a method without arguments, by one of the libraries' names) are asked to.
    """
    try:
        twin = copy.deepcopy(model, {id(t): t.detach().clone() for t in _leftovers(model)}).eval()
    except Exception as e:
        raise fail(
            "SNN111",
            f"the model cannot be copied: {e}",
            notes=["the compiler runs copies so that your model's state stays untouched"],
            help="reset the network's state (it may hold tensors of an earlier run), then compile",
        ) from e
    for module in twin.modules():
        for method in (getattr(type(module), name, None) for name in RESETS):
            if callable(method) and len(inspect.signature(method).parameters) == 1:
                method(module)
    return twin


def detect(model: torch.nn.Module, layout: Layout, sample: torch.Tensor) -> Driver:
    """Find the calling convention: a first-step keyword, and whether a multi-step model keeps its state between calls.

    ``sample``: (T, 1, *shape) input to try.
    """
    if layout == "step":
        names = inspect.signature(model.forward).parameters
        return Driver(layout, first_kwarg=next((k for k in ("init", "first_step") if k in names), None))
    driver = Driver(layout)
    sliced = replace(driver, sliced=True)
    try:
        full = run(model, driver, sample)
        parts = run(model, sliced, sample)
    except CompileError:
        raise
    except Exception:
        return driver
    agree = len(full) == len(parts) and all(
        a.shape == b.shape and torch.allclose(a, b, atol=1e-5) for a, b in zip(full, parts, strict=True)
    )
    return sliced if agree and len(sample) > 1 else driver


@torch.no_grad()
def run(model: torch.nn.Module, driver: Driver, x: torch.Tensor) -> list[torch.Tensor]:
    """Run a batch of samples from a fresh state.

    ``x``: (T, B, *shape). Returns every output as (T, B, ...), as (1, B, ...) where the model reduces over time.
    """
    twin = pristine(model)
    if not driver.per_step:
        whole = driver.whole(twin, x.transpose(0, 1) if driver.layout == "BT" else x)
        reduced = driver.reduced or ("",) * len(whole)
        batch_first = driver.layout == "BT" or any(y.shape[0] != len(x) for y in whole)
        return [
            y[None] if kind else y.transpose(0, 1) if batch_first and y.shape[1:2] == x.shape[:1] else y
            for y, kind in zip(whole, reduced, strict=True)
        ]
    per_step = [driver.call(twin, frame, t) for t, frame in enumerate(x)]
    outs = [torch.stack(ys) for ys in zip(*per_step, strict=True)]
    return [y.squeeze(1 + driver.time_axis) for y in outs] if driver.sliced else outs

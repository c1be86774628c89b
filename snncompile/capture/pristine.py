"""A fresh copy of a model: in evaluation mode, in its initial state, on the CPU, in a precision in which it can be compared.

Such a copy is the reset of every run: it needs to know nothing about the library, and the caller's model stays as it is.
"""

from __future__ import annotations

import copy
import inspect
import io
from collections.abc import Callable, Iterator
from typing import Any

import torch

from snncompile.errors import fail

RESETS = ("reset", "reset_mem", "reset_hidden", "reset_states", "reset_state")
HALF = (torch.float16, torch.bfloat16)


def as_module(model: torch.nn.Module | Callable[..., Any]) -> torch.nn.Module:
    """A module; a plain function becomes the ``forward`` of one."""
    if isinstance(model, torch.nn.Module):
        return model
    if not callable(model):
        raise fail("SNN126", f"a network is a torch.nn.Module or a function, this is {type(model).__name__}", help="hand over the module")
    wrapper = torch.nn.Module()
    wrapper.forward = model
    return wrapper


def pristine(model: torch.nn.Module) -> torch.nn.Module:
    """A copy in evaluation mode and initial state, whose state changes do not reach the caller's model.

    Modules that know how to reset themselves (a method that needs no argument, by one of the libraries' names) are asked to.
    Weights in half precision are widened to float32, which holds them exactly.
    """
    twin = _copy(model).eval()
    tensors = [*twin.parameters(), *twin.buffers()]
    if any(t.device.type != "cpu" for t in tensors):
        twin = twin.cpu()
    if any(t.dtype in HALF for t in tensors):
        twin = twin.float()
    for module in twin.modules():
        for method in (getattr(type(module), name, None) for name in RESETS):
            if callable(method) and _takes_nothing(method):
                method(module)
    return twin


def precision(model: torch.nn.Module) -> torch.dtype:
    """The precision of the inputs that a copy of the model takes: float64 where its weights have it, else float32."""
    kinds = {t.dtype for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()}
    return torch.float64 if torch.float64 in kinds and torch.float32 not in kinds else torch.float32


def is_half(model: torch.nn.Module) -> bool:
    """Whether any weight is in half precision."""
    return any(t.dtype in HALF for t in (*model.parameters(), *model.buffers()))


def _takes_nothing(method: Callable[..., Any]) -> bool:
    """Whether an unbound method can be called on its instance alone."""
    instance, *rest = inspect.signature(method).parameters.values() or (None,)
    return instance is not None and all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in rest)


def _copy(model: torch.nn.Module) -> torch.nn.Module:
    """Python's copy, or where the model's own way to be copied fails, a round trip through its pickled form."""
    try:
        return copy.deepcopy(model, {id(t): t.detach().clone() for t in _leftovers(model)})
    except Exception as first:
        try:
            buffer = io.BytesIO()
            torch.save(model, buffer)
            buffer.seek(0)
            twin: torch.nn.Module = torch.load(buffer, weights_only=False)  # what this process wrote a line ago
            return twin
        except Exception:
            raise fail(
                "SNN111",
                f"the model cannot be copied: {first}",
                notes=["the compiler runs copies so that your model's state stays untouched"],
                help="reset the network's state (it may hold tensors of an earlier run), then compile",
            ) from first


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

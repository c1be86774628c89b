"""Find out how a network wants to be called: by its signature, and by calling it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from snncompile.capture.driver import Carried, Driver, Inputs, Layout, Session, first_state, labels_of, leaves_of, run
from snncompile.capture.pristine import precision, pristine
from snncompile.errors import CompileError

FIRST = ("init", "first_step")
INITIAL = ("init_state", "initial_state", "init_states", "initial_states", "init_hidden", "get_initial_state", "get_initial_states")


def detect(model: torch.nn.Module, layout: Layout, xs: Inputs, names: tuple[str, ...] = ()) -> Driver:
    """The calling convention: a first-step keyword, state that goes in and out, whether a multi-step model can be run in slices.

    ``xs``: by input, (T, 1, *shape) to try.
    """
    found = parameters(model)
    first = next((k for k in FIRST if k in found), None) if layout == "step" else None
    driver = Driver(layout, names=names, first_kwarg=first, dtype=precision(model))
    driver = replace(driver, carried=_carried(model, driver, xs, found))
    driver = replace(driver, labels=_labels(model, driver, xs))
    if layout not in ("TB", "BT"):
        return driver
    sliced = replace(driver, sliced=True)
    try:
        full, parts = run(model, driver, xs), run(model, sliced, xs)
    except CompileError:
        raise
    except Exception:
        return driver
    agree = len(full) == len(parts) and all(
        a.shape == b.shape and torch.allclose(a, b, atol=1e-5) for a, b in zip(full, parts, strict=True)
    )
    return sliced if agree and len(xs[0]) > 1 else driver


def parameters(model: torch.nn.Module) -> dict[str, inspect.Parameter]:
    """The named parameters of ``forward``."""
    try:
        found = inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return {}
    return {k: p for k, p in found.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


@torch.no_grad()
def _carried(model: torch.nn.Module, driver: Driver, xs: Inputs, parameters: dict[str, inspect.Parameter]) -> Carried | None:
    """State that the model takes and returns: what it returns, it must take, and return again in the same form."""
    given = driver.names or tuple(parameters)[: len(xs)]
    free = [k for k, p in parameters.items() if k not in given and k not in FIRST and "mask" not in k and _nothing_yet(p.default)]
    needed = [k for k in free if parameters[k].default is inspect.Parameter.empty]
    slices = driver.frames(xs)
    for carried in _candidates(model, tuple(free), bool(needed)):
        if any(k not in carried.names for k in needed):
            continue
        twin = pristine(model)
        try:
            states = []
            state = first_state(twin, carried, slices[0])
            for t in (0, 1, 2):
                args = slices[min(t, len(slices) - 1)]
                inputs: dict[str, Any] = dict(zip(driver.names, args, strict=True)) if driver.names else {}
                first = {driver.first_kwarg: True} if driver.first_kwarg and t == 0 else {}
                result = twin(*(() if driver.names else args), **inputs, **first, **state)
                if not isinstance(result, dict if carried.form == "keys" else (tuple, list)):
                    break
                outputs, state = carried.split(result)
                if not _tensors(outputs) or not _tensors(state):
                    break
                states.append([getattr(leaf, "shape", type(leaf)) for leaf in leaves_of(state)])
        except CompileError:
            raise
        except Exception:  # noqa: S112 - not the model's convention
            continue
        if len(states) == 3 and states[1] == states[2]:
            return carried
    return None


def _nothing_yet(default: Any) -> bool:
    """Whether a parameter's default may stand for a state before the first step."""
    return default is inspect.Parameter.empty or default is None or (isinstance(default, (tuple, list, dict)) and not default)


def _candidates(model: torch.nn.Module, free: tuple[str, ...], needed: bool) -> Iterator[Carried]:
    """Ways in which the free parameters may take state, the most of them first."""
    makers = [name for name in INITIAL if callable(getattr(model, name, None))]
    starts = [*makers, "None"] if needed else [""]
    for count in range(len(free), 0, -1):
        for initial in starts:
            yield Carried(free[:count], "rest", initial)
            if count > 1:
                yield Carried(free[:count], "packed", initial)
            yield Carried(free[:count], "keys", initial)


def _tensors(value: Any) -> bool:
    return any(isinstance(leaf, torch.Tensor) for leaf in leaves_of(value))


@torch.no_grad()
def _labels(model: torch.nn.Module, driver: Driver, xs: Inputs) -> tuple[str, ...]:
    """The names of the outputs, if the model names them."""
    try:
        return labels_of(Session(driver, pristine(model)).raw(driver.calls(xs)[0]))
    except CompileError:
        raise
    except Exception:  # the trace will say what is wrong
        return ()

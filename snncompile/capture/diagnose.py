"""Why a recorded run does not stand for the network: randomness outside PyTorch, state outside the modules, values taken out of tensors.

A network that was handed over in the middle of a sample is found before it is traced: what it then still holds of the last call
would become every sample's initial state.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from snncompile.capture.driver import Driver, Inputs, Session, run
from snncompile.capture.pristine import pristine
from snncompile.capture.trace import innermost
from snncompile.errors import CompileError, Location, fail

RANDOM = (random.Random, np.random.RandomState)


def reason(model: torch.nn.Module, driver: Driver, xs: Inputs, mismatch: CompileError) -> CompileError:
    """A better error than "the replay differs" (SNN117), where its cause can be found."""
    if _same(run(model, driver, xs), run(model, driver, xs)):
        return mismatch
    with seeded():
        first = run(model, driver, xs)
    with seeded():
        again = run(model, driver, xs)
    if not _same(first, again):
        return _outlives("a place outside its modules")
    drawn = _draws(model, driver, xs)
    return fail(
        "SNN116", f"the network draws random numbers in evaluation mode{f' ({drawn[0][0]!r})' if drawn else ''}",
        loc=drawn[0][1] if drawn else None, notes=["its answers to one input differ from run to run"],
        help="make the network deterministic in evaluation mode (dropout off, noise off)",
    )  # fmt: skip


def _outlives(place: str) -> CompileError:
    return fail(
        "SNN128",
        f"the network's answer depends on what it was run on before: it keeps state in {place}",
        notes=["a copy of the network shares that state, so no sample ever starts afresh"],
        help="keep state in attributes of the modules, or pass it in and out of forward",
    )


@torch.no_grad()
def refuse_memories(model: torch.nn.Module, driver: Driver, xs: Inputs) -> None:
    """Refuse what the network remembers of earlier runs: state outside its modules (SNN128), leftovers inside (SNN129)."""
    xs = tuple(x[:2] for x in xs) if driver.per_step else xs
    twin = pristine(model)
    held = {k: v.clone() for k, v in _tensors(twin).items()}
    try:
        before = _outside(model)
        first = run(model, driver, xs, twin)
        after = _outside(model)
        names = sorted(k for k, v in after.items() if len(before.get(k, ())) != len(v) or not _same(before[k], v))
        if names:
            run(model, driver, tuple(3 * x + 1 for x in xs))
            if not _same(first, run(model, driver, xs)):
                raise _outlives(", ".join(names))
    except CompileError:
        raise
    except Exception:  # leftovers of another batch size, or a mistake that the trace will locate
        left: dict[str, torch.Tensor] = {}
    else:
        left = _tensors(twin)
    _refuse_leftovers(model, driver, driver.calls(xs)[:2], held, left)


def _refuse_leftovers(
    model: torch.nn.Module, driver: Driver, calls: list[Inputs], before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]
) -> None:
    """Raise SNN129 if the model still holds the state of an earlier run (``before`` and ``after`` a run), and its outputs depend on it."""
    old = [k for k, v in before.items() if not _uniform(v) and (k not in after or not _equal(after[k], v))]
    if not old:
        return
    clean, as_is = pristine(model), pristine(model)
    held = _tensors(clean)
    for k in old:
        held[k].zero_()
    try:
        fresh = _run(clean, driver, calls)
    except Exception:
        fresh, old = [], [k for k in old if before[k].shape[:1] != (1,)]
        if not old:
            return
    try:
        apart = not fresh or not all(_same(a, b) for a, b in zip(fresh, _run(as_is, driver, calls), strict=True))
    except Exception:
        apart = True
    if apart:
        raise fail(
            "SNN129",
            f"the network still holds the state of an earlier run: {', '.join(sorted(old)[:4])}",
            notes=["it would become the initial state of every sample"],
            help="reset the network before you compile it (set these to None or zero, or give the module a reset() method)",
        )


def _run(model: torch.nn.Module, driver: Driver, calls: list[Inputs]) -> list[list[torch.Tensor]]:
    session = Session(driver, model)
    return [session(call) for call in calls]


@contextmanager
def seeded() -> Iterator[None]:
    """Python's and NumPy's global generators from a fixed seed; as before afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _same(xs: list[torch.Tensor], ys: list[torch.Tensor]) -> bool:
    return len(xs) == len(ys) and all(_equal(x, y) for x, y in zip(xs, ys, strict=True))


def _equal(x: torch.Tensor, y: torch.Tensor) -> bool:
    return x.shape == y.shape and bool(torch.allclose(x.double(), y.double(), rtol=1e-4, atol=1e-5, equal_nan=True))


def _uniform(x: torch.Tensor) -> bool:
    return x.numel() == 0 or bool((x == x.reshape(-1)[0]).all())


def _tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies' state candidates by path: tensors that are no parameters, in attributes, lists and dicts of the modules."""
    found: dict[str, torch.Tensor] = {}
    for path, module in model.named_modules():
        places = {k: v for k, v in vars(module).items() if k not in ("_parameters", "_modules", "_buffers")} | dict(module._buffers)
        for name, value in places.items():
            leaves = [v for v in pytree.tree_leaves(value) if isinstance(v, torch.Tensor) and not isinstance(v, torch.nn.Parameter)]
            for k, leaf in enumerate(leaves):
                label = f"{path}.{name}" if path else name
                found[label if len(leaves) == 1 else f"{label}[{k}]"] = leaf
    return {k: v for k, v in found.items() if v.is_floating_point()}


def _draws(model: torch.nn.Module, driver: Driver, xs: Inputs) -> list[tuple[str, Location | None]]:
    """The calls of Python's and NumPy's random functions that a run makes, with the user's lines."""
    places: list[tuple[str, Location | None]] = []
    patched: list[tuple[Any, str, Any]] = []

    def noting(name: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            frame = sys._getframe(1)
            places.append((name, innermost([(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)])))
            return function(*args, **kwargs)

        return call

    for module in (random, np.random):
        for name, function in list(vars(module).items()):
            if isinstance(getattr(function, "__self__", None), RANDOM):
                patched.append((module, name, function))
                setattr(module, name, noting(f"{module.__name__}.{name}", function))
    try:
        run(model, driver, xs)
    finally:
        for module, name, function in patched:
            setattr(module, name, function)
    return places


def _outside(model: torch.nn.Module) -> dict[str, list[torch.Tensor]]:
    found: dict[str, list[torch.Tensor]] = {}
    for module in model.modules():
        forward = getattr(module.forward, "__func__", module.forward)
        names = set(getattr(getattr(forward, "__code__", None), "co_names", ()))
        places = {k: v for k, v in getattr(forward, "__globals__", {}).items() if k in names}
        places |= {f"{type(module).__name__}.{k}": v for k, v in vars(type(module)).items()}
        cells = zip(
            getattr(getattr(forward, "__code__", None), "co_freevars", ()), getattr(forward, "__closure__", None) or (), strict=False
        )
        for name, cell in cells:
            try:
                places[name] = cell.cell_contents
            except ValueError:
                continue
        for name, value in places.items():
            tensors = [v.detach().clone() for v in pytree.tree_leaves(value) if isinstance(v, torch.Tensor)]
            if tensors or isinstance(value, (dict, list)):
                found[f"'{name}'"] = tensors
    return found

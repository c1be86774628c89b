"""What an executor may do wrong with a program that is right: for runs whose model is known to be the same on both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from snncompile.ir.graph import Array
from snncompile.ir.integer import IntNeuron
from snncompile.ir.neuron import Fire, Neuron, Reset, constant
from snncompile.verify.hypotheses import FLAT, Hypothesis, fit, number, scaled, shifted
from snncompile.verify.replay import Response, replay
from snncompile.verify.unit import Trace

COARSER = (1, 2, 3, 4)
Weights = Callable[[int], Mapping[str, Array] | None]


def mutated(mine: Response, found: Trace, coarser: Weights | None = None) -> Iterator[Hypothesis]:
    """Ways in which an executor that gave ``found`` may have left the model; ``coarser(k)`` are currents without k low weight bits."""
    labels = [(k,) for k in mine.linear]
    for chosen in [*labels, *([tuple(mine.linear)] if len(labels) > 1 else [])]:
        what = " and ".join(f"'{k}'" for k in chosen)
        yield Hypothesis(cause="hop misalignment", detail=f"{what} arrives one step late in it", repair=shifted(chosen, 1))
        early = shifted(chosen, -1)
        yield Hypothesis(cause="hop misalignment", detail=f"{what} arrives one step early in it", repair=early, steps=slice(0, -1))
    yield from _comparison(mine)
    yield from _resets(mine)
    if np.any(mine.offset) or np.any(mine.neuron.bias):
        yield Hypothesis(cause="missing bias", detail="it runs without its bias", repair=_without_bias)
    yield from _saturation(mine, found)
    yield from _rounding(mine)
    yield from _scaling(mine, found)
    for k in COARSER if coarser is not None else ():
        currents = coarser(k) if coarser is not None else None
        if currents is not None:
            yield Hypothesis(
                cause="weight rounding", detail=f"it drops the lowest {k} bit(s) of its weights",
                repair=lambda r, currents=currents: replace(r, linear=currents),  # type: ignore[misc]
            )  # fmt: skip


def _comparison(mine: Response) -> Iterator[Hypothesis]:
    n = mine.neuron
    if isinstance(n, Neuron) and n.spiking:
        flipped, sign = (Fire.STEP_GE, ">=") if n.fire is Fire.STEP_GT else (Fire.STEP_GT, ">")
        yield _change("`>` against `>=`", f"it fires at {sign} the threshold", lambda n: replace(n, fire=flipped))
    elif isinstance(n, IntNeuron) and n.fire == "step":
        for step, sign in ((1, ">"), (-1, ">= where the program means >")):
            yield _change("`>` against `>=`", f"it fires at {sign}", lambda n, step=step: replace(n, threshold=n.threshold + step))


def _resets(mine: Response) -> Iterator[Hypothesis]:
    n = mine.neuron
    theta = n.theta if isinstance(n, Neuron) else n.threshold
    zero = np.zeros_like(theta)
    kinds = {
        Reset.SUBTRACT: {"reset_amount": theta}, Reset.SET: {"reset_value": zero}, Reset.KEEP: {},
        Reset.STATELESS: {}, Reset.CLAMP: {},
    }  # fmt: skip
    for kind, fields in kinds.items():
        if kind is not n.reset:
            text = f"it resets by '{kind.value}', the program by '{n.reset.value}'"
            changes = {"reset": kind, "adapt_reset": False, "reset_keep": None, **fields}
            yield _change("reset kind", text, lambda n, changes=changes: replace(n, **changes))


def _change(cause: str, detail: str, change: Callable[..., Neuron | IntNeuron]) -> Hypothesis:
    return Hypothesis(cause=cause, detail=detail, repair=lambda r: replace(r, neuron=change(r.neuron)))


def _without_bias(r: Response) -> Response:
    none = np.zeros_like(r.neuron.bias) if isinstance(r.neuron, IntNeuron) else constant(0.0)
    return replace(r, offset=np.zeros_like(r.offset), neuron=replace(r.neuron, bias=none))


def _saturation(mine: Response, found: Trace) -> Iterator[Hypothesis]:
    """Membranes and payloads that end where those of the run end."""
    n = mine.neuron
    if not isinstance(n, Neuron) and found.v is not None:
        after = found.v if found.m is None else np.concatenate([found.m.ravel(), found.v.ravel()])
        low, high = int(after.min()), int(after.max())
        if n.fire != "none":
            yield Hypothesis(
                cause="saturation", detail=f"its membranes end at {low} and {high}", repair=lambda r: replace(r, membrane=(low, high))
            )
    if (n.fire is Fire.RELU) if isinstance(n, Neuron) else n.fire in ("relu", "none"):
        limits = (float(found.payload.min()), float(found.payload.max()))
        text = f"its payloads end at {number(limits[0])} and {number(limits[1])}"
        yield Hypothesis(cause="saturation", detail=text, repair=lambda r: replace(r, ceiling=limits))


def _rounding(mine: Response) -> Iterator[Hypothesis]:
    n = mine.neuron
    if not isinstance(n, IntNeuron):
        return
    for mode, text in (("nearest", "rounds to the nearest LSB"), ("floor", "rounds down"), ("keep", "does not take place")):
        yield Hypothesis(cause="leak rounding", detail=f"its decay {text}", repair=lambda r, mode=mode: replace(r, decay=mode))  # type: ignore[misc]
    for step in (1, -1):
        text = f"its leak is {abs(step)} code {'larger' if step > 0 else 'smaller'}"
        yield _change("leak rounding", text, lambda n, step=step: replace(n, leak=n.leak + step))
    if n.fire == "relu":
        for mode, text in (("floor", "down"), ("half up", "to the nearest, ties upward")):
            yield Hypothesis(
                cause="payload rounding", detail=f"its payloads round {text}",
                repair=lambda r, mode=mode: replace(r, rounding=mode),  # type: ignore[misc]
            )  # fmt: skip


def _scaling(mine: Response, found: Trace) -> Iterator[Hypothesis]:
    """The factor that brings the first step's membranes closest to the run's, which no reset has touched yet if ``m`` is known."""
    if found.m is None or len(mine.linear) != 1:
        return
    ((label, linear),) = mine.linear.items()
    silent = replay(replace(mine, linear={label: np.zeros_like(linear)}))
    whole = replay(mine)
    assert silent.m is not None
    assert whole.m is not None
    factor, _ = fit(whole.m[:, 0] - silent.m[:, 0], found.m[:, 0] - silent.m[:, 0])
    if abs(factor - 1) >= FLAT:
        yield Hypothesis(
            cause="input scaling", detail=f"'{label}' counts {number(factor)} times as much in it", repair=scaled(label, factor)
        )


__all__ = ["mutated"]

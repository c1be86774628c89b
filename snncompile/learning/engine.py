"""The integer learning engine: what a plastic synapse on the chip does, bit for bit, in plain NumPy.

One hardware step of a plastic dense synapse, and at the end of every epoch its learning:

    output[t]  = the accumulator of step t - 1;   accumulator = (W @ s) << exponent         W as it was before this step's learning
    trace      = round(exp(-1/tau) * trace), then + impulse where a spike came, clipped to 0..2**7 - 1
    product    = clip((mantissa * product of factors >> max(0, bits of the factors + 4 - 15)) << (exponent + 7))
    variable   = clip(round((variable << 7 + sum of products) / 2**7))

Both roundings are stochastic with one random number for all traces or all synapses: up where the fraction is larger. Source: measured
on lava-nc 0.10.0 (PyLearningDenseModelBitApproximate); the widths are the target's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from snncompile.learning.rule import SYNAPTIC, TRACES, Factor, Product, Rule
from snncompile.learning.widths import Widths

Ints = npt.NDArray[np.int64]
BLOCK = 1024
WEIGHT_SEED = 2
"""Lava seeds the rounding of weights with this number, whatever the rule's seed."""


class Draws:
    """Random numbers by their place in Lava's sequence, where places never go back: uniform in [0, 1), or integers below ``below``.

    Lava draws one number when a generator is made, then two a hardware step; most are never looked at, so they come in blocks.
    """

    def __init__(self, seed: int, below: int | None = None) -> None:
        self._generator, self._below = np.random.default_rng(seed), below
        self._block, self._values = -1, [0.0]

    def at(self, place: int) -> float:
        """The number at ``place``, from 0."""
        block, k = divmod(place, BLOCK)
        if self._block < block:
            self._skip(block - self._block - 1)
            g, below = self._generator, self._below
            self._values = (g.random(BLOCK) if below is None else g.integers(0, below, size=BLOCK)).tolist()
            self._block = block
        return self._values[k]

    def _skip(self, blocks: int) -> None:
        """Pass over blocks: a uniform number takes 64 bits of the generator, an integer below a power of two 32."""
        below = self._below
        if below is None or below & (below - 1) == 0:
            self._generator.bit_generator.advance(blocks * BLOCK // (1 if below is None else 2))  # type: ignore[attr-defined]
            return
        for _ in range(blocks):
            self._generator.integers(0, below, size=BLOCK)


@dataclass(frozen=True, eq=False)
class _Traces:
    """Traces of one side: values at the end of the previous epoch, and how they move. ``now`` is (traces, neurons)."""

    now: Ints
    factor: npt.NDArray[np.float64]
    whole: Ints
    fraction: Ints
    high: int
    adds: bool

    def add(self, traces: Ints, random: float) -> Ints:
        """Traces after one impulse each."""
        return np.asarray(np.minimum(np.maximum(traces + (self.whole + (random < self.fraction)), 0), self.high))

    def decayed(self, traces: Ints, random: float) -> Ints:
        """Traces one step later."""
        scaled = self.factor * traces
        whole = np.floor(scaled)
        scaled -= whole
        whole += random < scaled
        return whole.astype(np.int64)

    def history(self, epoch: int, fired: Ints | None, decay: float, impulse: float) -> Ints:
        """Values at the steps 0..epoch of an epoch, (epoch + 1, traces, neurons); ``fired`` holds when each neuron did, 0 for never."""
        if not (fired is not None and self.adds) and not self.now.any():
            return np.zeros((epoch + 1, *self.now.shape), dtype=np.int64)
        out = np.empty((epoch + 1, *self.now.shape), dtype=np.int64)
        out[0] = self.now
        for t in range(1, epoch + 1):
            out[t] = self.decayed(out[t - 1], decay)
            if fired is not None:
                np.copyto(out[t], self.add(out[t], impulse), where=fired == t)
        return out

    def of(self, rows: Ints) -> _Traces:
        """The traces of some neurons."""
        return replace(self, now=self.now[:, rows])


@dataclass(eq=False)
class PlasticDense:
    """State of a plastic dense synapse; ``step`` advances it by one hardware step.

    weights  (post, pre) integers; rounded down to even at the first step (8 bits and a sign), odd ones are only learned
    sign     "mixed", "excitatory" or "inhibitory": what weights may be          graded_input  payloads are multiplied, not counted
    """

    rule: Rule
    widths: Widths
    weights: Ints
    weight_bits: int = 8
    exponent: int = 0
    sign: str = "mixed"
    graded_input: bool = False
    delay: Ints | None = None
    tag: Ints | None = None
    time: int = 0
    buffer: Ints = field(init=False)

    def __post_init__(self) -> None:
        """Round the weights as loading does, and start all traces and generators."""
        post, pre = self.weights.shape
        self._synaptic = {"w": self._loaded(self.weights), "d": _or_zeros(self.delay, (post, pre)), "t": _or_zeros(self.tag, (post, pre))}
        self.buffer = self._nothing = np.zeros(post, dtype=np.int64)
        regular = self.rule.graded == "regular"
        self._x = self._side(("x1", "x2"), pre, silent=() if regular else ("x1",))
        self._y = self._side(("y1", "y2", "y3"), post, silent=())
        seed, below = self.rule.seed, self.widths.trace_high + 1
        self._x_decay, self._x_impulse = Draws(seed), Draws(seed + 1, below)
        self._y_decay, self._y_impulse = Draws(seed + 2), Draws(seed + 3, below)
        self._rounding = Draws(WEIGHT_SEED)
        self._fired_x, self._fired_y = np.zeros(pre, dtype=np.int64), np.zeros(post, dtype=np.int64)
        self._spiked_x = self._spiked_y = self._taught = False  # whether anything above, and any third factor, is not 0
        self._silent = self.rule.delivered and _needs_post(self.rule)
        used = {f.variable for products in self.rule.targets.values() for p in products for f in p.factors} | self.rule.targets.keys()
        self._used = [v for v in self._synaptic if v in used]
        self._ready = {v: [(p, *_shifts(p, self.widths)) for p in products] for v, products in self.rule.targets.items()}

    @property
    def w(self) -> Ints:
        """The weights now, (post, pre)."""
        return self._synaptic["w"]

    @property
    def x(self) -> Ints:
        """The traces x1 and x2 now, (2, pre)."""
        return self._x.now

    def state(self) -> dict[str, Ints]:
        """Copies of everything that the next step depends on, beside ``time``, which says where the random numbers are."""
        moving = {"x": self._x.now, "y": self._y.now, "fired_x": self._fired_x, "fired_y": self._fired_y, "buffer": self.buffer}
        return {k: v.copy() for k, v in {**self._synaptic, **moving}.items()}

    def restore(self, state: Mapping[str, Ints], time: int) -> None:
        """Go on from a ``state``, taken after ``time`` steps."""
        kept = {k: v.copy() for k, v in state.items()}
        self._synaptic = {v: kept[v] for v in self._synaptic}
        self._x, self._y = replace(self._x, now=kept["x"]), replace(self._y, now=kept["y"])
        self._fired_x, self._fired_y, self.buffer, self.time = kept["fired_x"], kept["fired_y"], kept["buffer"], time
        self._spiked_x, self._spiked_y, self._taught = (bool(a.any()) for a in (self._fired_x, self._fired_y, self._y.now))

    def variable(self, name: str) -> Ints:
        """A synaptic variable now: w, d (delay) or t (tag)."""
        return self._synaptic[name]

    def step(self, s: Ints | None, y: Ints | None = None, post: npt.NDArray[np.bool_] | None = None) -> Ints:
        """Advance by one hardware step and return the accumulator that is sent in it.

        s  (pre,) spikes or payloads;  y  (3, post) third factors, for rules to which they are delivered;  post  (post,) whether it fired
        None, each, where nothing comes
        """
        self.time += 1
        sent = self.buffer
        if self._silent and self.rule.epoch == 1 and s is None and y is None and post is None:
            self.buffer = self._nothing
            self._receive_post(None, None)
            if self._x.now.any():
                self._x.now[:] = self._x.decayed(self._x.now, self._x_decay.at(2 * self.time))
            return sent
        fired = None if s is None else s != 0
        if s is not None and fired is not None and fired.any():
            total = self.w @ s if self.graded_input else self.w[:, fired].sum(axis=1)
            self.buffer = total << self.exponent if self.exponent > 0 else total >> -self.exponent
            self._receive_pre(s if self.graded_input else fired.astype(np.int64), fired)
        else:
            self.buffer = self._nothing
        self._receive_post(y, post)
        if self.time % self.rule.epoch == 0:
            self._learn()
        return sent

    @property
    def _within(self) -> int:
        """The step of the epoch, from 1."""
        return (self.time - 1) % self.rule.epoch + 1

    def _receive_post(self, y: Ints | None, post: npt.NDArray[np.bool_] | None) -> None:
        if post is not None:
            again = (self._fired_y > 0) & post
            self._y.now[:, again] = self._y.add(self._y.now[:, again], self._y_impulse.at(2 * self.time - 1))
            self._fired_y[post] = self._within
            self._spiked_y = True
        if self.rule.delivered and (y is not None or self._taught):
            self._y.now[:] = 0 if y is None else y
            self._taught = y is not None

    def _receive_pre(self, s: Ints, fired: npt.NDArray[np.bool_]) -> None:
        """A second spike in an epoch acts at once; a graded one sets or moves x1."""
        self._spiked_x = True
        if self.rule.epoch == 1 and self.rule.graded == "regular":
            self._fired_x[fired] = 1
            return
        x1 = self._x.now[0]
        again, counted = (self._fired_x > 0) & fired, fired
        halves = np.rint(s / 2).astype(np.int64) & 0xFF
        if self.rule.graded == "regular":
            x1[again] = self._x.add(self._x.now[:, again], 0)[0]
        elif self.rule.graded == "overwrite":
            x1[fired] = halves[fired]
        else:
            sums = (x1 + halves) & 0xFF
            over = sums > self.widths.trace_high
            if self.rule.graded == "add_saturating":
                x1[:] = np.minimum(sums, self.widths.trace_high)
            else:
                x1[:] = np.where(over, sums - self.widths.trace_high, sums)
                again, counted = again & over, fired & over
        self._x.now[1, again] = self._x.add(self._x.now[:, again], 0)[1]
        self._fired_x[counted] = self._within

    def _learn(self) -> None:
        """Advance the traces to the epoch's end, then change the synaptic variables."""
        epoch, place = self.rule.epoch, 2 * self.time
        fired_x = self._fired_x if self._spiked_x else None
        x = self._x.history(epoch, fired_x, self._x_decay.at(place), self._x_impulse.at(place))
        self._x.now[:] = x[-1]
        if self._silent:  # where no third factor comes all products are 0, and a whole weight rounds to itself
            rows = np.flatnonzero(self._y.now.any(axis=0)) if self._taught else np.zeros(0, dtype=np.int64)
        else:
            rows = np.arange(len(self._fired_y))
        if rows.size:
            self._change(x, rows)
        if self._spiked_x:
            self._fired_x[:] = 0
        if self._spiked_y:
            self._fired_y[:] = 0
        self._spiked_x = self._spiked_y = False

    def _change(self, x: Ints, rows: Ints) -> None:
        """New synaptic variables of some postsynaptic neurons."""
        epoch, place, fired_y = self.rule.epoch, 2 * self.time, self._fired_y[rows]
        history = self._y.of(rows).history(epoch, fired_y if self._spiked_y else None, self._y_decay.at(place), self._y_impulse.at(place))
        if not self.rule.delivered:
            self._y.now[:, rows] = history[-1]
        values = _Values(x, history, self._fired_x, fired_y, {v: self._synaptic[v][rows] for v in self._used}, self._decimated())
        for v, products in self._ready.items():
            self._synaptic = {**self._synaptic, v: self._synaptic[v].copy()}
            self._synaptic[v][rows] = self._changed(v, products, values)

    def _decimated(self) -> int:
        return int(self.time // self.rule.epoch % 2**self.rule.decimation == 0)

    def _changed(self, variable: str, products: list[_Ready], values: _Values) -> Ints:
        """One synaptic variable after learning."""
        w, limit = self.widths, 2**self.widths.accumulator
        total = values.synaptic[variable] << w.headroom
        for ready in products:
            total = np.minimum(np.maximum(total + self._product(ready, values), -limit - 1), limit - 1)
        if variable == "d" or (variable == "w" and self.sign == "excitatory"):
            total = np.maximum(total, 0)
        elif variable == "w" and self.sign == "inhibitory":
            total = np.minimum(total, 0)
        whole, part = total >> w.headroom, (total & (2**w.headroom - 1)) / 2**w.headroom
        return self._clipped(variable, whole + (self._rounding.at(self.time // self.rule.epoch) < part))

    def _product(self, ready: _Ready, values: _Values) -> Ints:
        (p, bits, right, left), limit = ready, 2**self.widths.accumulator
        mac = np.multiply(values.condition(p.condition), np.int32(p.mantissa), dtype=np.int32)
        for f, b in zip(p.factors, bits, strict=True):
            value = np.minimum(np.maximum(values.factor(f, p.condition), -(2**b)), 2**b - 1).astype(np.int32)
            mac = mac * value  # 32 bits, which wrap, as in Lava
        return np.asarray(np.minimum(np.maximum((mac >> right) << left, -limit - 1), limit - 1))

    def _clipped(self, variable: str, values: Ints) -> Ints:
        if variable == "w":
            high = 2**self.widths.weight
            low, top = {"mixed": (-high, high - 1), "excitatory": (0, high - 1), "inhibitory": (1 - high, 0)}[self.sign]
            return np.clip(values, low, top)
        if variable == "d":
            return np.clip(values, 0, 2**self.widths.delay - 1)
        return np.clip(values, -(2**self.widths.tag) - 1, 2**self.widths.tag - 1)

    def _loaded(self, weights: Ints) -> Ints:
        """Weights as the chip holds them at first: the lowest bits that do not fit are cut off."""
        drop = self.widths.weight - self.weight_bits + (self.sign == "mixed")
        if self.sign == "inhibitory":
            return -((-weights.astype(np.int64) >> drop) << drop)
        return (weights.astype(np.int64) >> drop) << drop

    def _side(self, names: tuple[str, ...], neurons: int, silent: tuple[str, ...]) -> _Traces:
        delivered = self.rule.delivered and names[0] == "y1"
        taus = np.array([65535.0 if delivered else getattr(self.rule, n).tau for n in names])
        impulses = np.array([0.0 if n in silent or delivered else getattr(self.rule, n).impulse for n in names])
        keeps = taus != 0
        whole = np.floor(impulses).astype(np.int64)
        return _Traces(
            now=np.zeros((len(names), neurons), dtype=np.int64), whole=whole[:, None],
            factor=np.where(keeps, np.exp(-1 / np.where(keeps, taus, 1.0)), 0.0)[:, None],
            fraction=np.rint((impulses - whole) * 2**self.widths.impulse_fraction).astype(np.int64)[:, None], high=self.widths.trace_high,
            adds=bool(impulses.any()),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Values:
    """What factors of a product stand for: traces at the moment that the product's condition names, synaptic variables as they were."""

    x: Ints
    y: Ints
    fired_x: Ints
    fired_y: Ints
    synaptic: dict[str, Ints]
    decimated: int

    def condition(self, name: str) -> npt.NDArray[np.bool_] | int:
        """x0 as (1, pre), y0 as (post, 1), u as a number."""
        if name == "u":
            return self.decimated
        return (self.fired_x > 0)[None, :] if name == "x0" else (self.fired_y > 0)[:, None]

    def factor(self, f: Factor, condition: str) -> Ints:
        """The factor's value, broadcastable to (post, pre)."""
        if f.variable in SYNAPTIC:
            value = self.synaptic[f.variable] + (f.constant or 0)
            return np.asarray(np.sign(value) if f.sign else value)
        if f.variable in ("x0", "y0"):
            return np.asarray(self.condition(f.variable), dtype=np.int64) + (f.constant or 0)
        return self._trace(f.variable, condition) + (f.constant or 0)

    def _trace(self, name: str, condition: str) -> Ints:
        k = TRACES.index(name)
        history, pre = (self.x[:, k], True) if name.startswith("x") else (self.y[:, k - 2], False)
        if condition == "u":
            return np.asarray(history[-1][None, :] if pre else history[-1][:, None])
        moment = self.fired_x if condition == "x0" else self.fired_y
        if pre:
            return history[moment, np.arange(history.shape[1])][None, :] if condition == "x0" else history[moment]
        return history[moment].T if condition == "x0" else history[moment, np.arange(history.shape[1])][:, None]


_Ready = tuple[Product, tuple[int, ...], int, int]
"""A product with the bits of its factors and its shifts, right and left."""


def _shifts(p: Product, w: Widths) -> tuple[tuple[int, ...], int, int]:
    bits = tuple(w.factor(f.variable) for f in p.factors)
    return bits, max(0, sum(bits) + w.mantissa - w.accumulator), p.exponent - w.exponent_low


def _needs_post(rule: Rule) -> bool:
    """Whether every product has a plain delivered third factor, so that nothing changes without one."""
    plain = ("y1", "y2", "y3")
    return all(any(f.variable in plain and not f.constant for f in p.factors) for ps in rule.targets.values() for p in ps)


def _or_zeros(array: Ints | None, shape: tuple[int, int]) -> Ints:
    return np.zeros(shape, dtype=np.int64) if array is None else array.astype(np.int64)


__all__ = ["Draws", "PlasticDense"]

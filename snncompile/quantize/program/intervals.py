"""What the registers of a program can be: interval analysis over all steps, of real numbers or of the integers themselves.

Plain interval arithmetic forgets that one state stands in several places (``v + a * (v - r) * (v - c)`` explodes within a few steps).
So the box of states is cut into pieces, every piece is followed alone, once for either outcome of each comparison, with what that
outcome says of the compared register (behind a spike the membrane is above the threshold, else below it), and the results are joined.
The analysis ends early where a box is found that the step maps into itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from snncompile.ir.graph import Array
from snncompile.ir.program_code import COMPARISONS, FUNCTIONS, OPERATIONS, Instruction

Pair = tuple[Array, Array]
Apply = Callable[[Instruction, Sequence[Pair]], Pair]
CELLS = 2**13
"""Pieces times channels that are followed at once."""
MOST_PATHS = 5
"""Comparisons that are followed to both sides; what further ones decide stays open."""
FAR = 1e30
CHECKED = (2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Steps after which a box that maps into itself is looked for; from ``LATE`` on also among wider ones."""
LATE = 64
WIDER = (0.0, 0.02, 0.2)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A program and what it starts from, every bound an array over the channels, ``(L,)``.

    currents, constants   per step: ``value(t)`` gives their bounds by register
    states                bounds at the start                 whole  integers: ends are exact, and ``a > b`` is ``a >= b + 1``
    periodic              the step is the same at every t
    accept, reject        called when the last applications count, or were a trial that failed
    """

    code: tuple[Instruction, ...]
    given: Callable[[int], dict[str, Pair]]
    states: tuple[Pair, ...]
    following: tuple[str, ...]
    binary: frozenset[str]
    steps: int
    periodic: bool
    whole: bool
    apply: Apply
    accept: Callable[[], None] = lambda: None
    reject: Callable[[], None] = lambda: None


@dataclass(kw_only=True)
class Found:
    """Bounds by register over all steps and channels; ``complete`` is False where the analysis gave up because they explode."""

    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    complete: bool = True

    def add(self, found: Mapping[str, Pair]) -> None:
        """Join the bounds of a step."""
        for name, (low, high) in found.items():
            a, b = self.ranges.get(name, (np.inf, -np.inf))
            self.ranges[name] = (min(a, float(low.min())), max(b, float(high.max())))


def together(lanes: dict[str, Pair]) -> dict[str, Pair]:
    """Bounds for all channels at once where channels differ in nothing but their currents."""
    if any(low.size > 1 and (np.ptp(low) or np.ptp(high)) for name, (low, high) in lanes.items() if not name.startswith("i")):
        return lanes
    return {name: (low.min(keepdims=True), high.max(keepdims=True)) for name, (low, high) in lanes.items()}


def analyse(task: Task) -> Found:
    """Bounds of every register over all steps."""
    found, box = Found(), task.states
    union = box
    for t in range(task.steps):
        step = _step(task, box, t)
        found.add(step)
        task.accept()
        box = tuple(step[name] for name in task.following)
        if not all(np.all(np.isfinite(end)) and np.abs(end).max(initial=0) < FAR for pair in step.values() for end in pair):
            found.complete = False
            break
        if not box and task.periodic:
            break
        before, union = union, tuple(_hull(a, b) for a, b in zip(union, box, strict=True))
        if task.periodic and t + 1 in CHECKED:
            invariant = _invariant(task, before, union, WIDER if t + 1 >= LATE else WIDER[:1])
            if invariant is not None:
                found.add(invariant)
                task.accept()
                break
    return found


def _invariant(task: Task, before: tuple[Pair, ...], union: tuple[Pair, ...], wider: Sequence[float]) -> dict[str, Pair] | None:
    """The registers' bounds in a box that the step maps into itself: ``union``, or one wider on the sides on which it still grows."""
    for share in wider:
        box = []
        for (low, high), (old_low, old_high) in zip(union, before, strict=True):
            reach = (high - low) * share
            reach = np.ceil(reach).astype(np.int64) if task.whole else reach
            box.append((low - np.where(low < old_low, reach, 0), high + np.where(high > old_high, reach, 0)))
        step = _step(task, tuple(box), 0)
        slack = 0 if task.whole else 1e-9
        inside = all(
            np.all(step[name][0] >= low - slack * np.abs(low)) and np.all(step[name][1] <= high + slack * np.abs(high))
            for name, (low, high) in zip(task.following, box, strict=True)
        )
        if inside:
            return step
        task.reject()
    return None


def _hull(a: Pair, b: Pair) -> Pair:
    return np.minimum(a[0], b[0]), np.maximum(a[1], b[1])


@np.errstate(all="ignore")
def _step(task: Task, box: tuple[Pair, ...], t: int) -> dict[str, Pair]:
    """Bounds of all registers in one step, over pieces of the box and outcomes of comparisons."""
    given = task.given(t)
    uses = [a for made in task.code for a in set(made.args)]
    several = {name: pair for name, pair in given.items() if name[0] == "i" and uses.count(name) > 1}
    env = {**given, **_pieces(task, {**{f"z{k}": pair for k, pair in enumerate(box)}, **several})}
    undecided = [made.target for made in task.code if made.op in COMPARISONS][:MOST_PATHS]
    joined: dict[str, Pair] = {}
    for outcome in product((True, False), repeat=len(undecided)):
        for name, pair in _path(task, env, dict(zip(undecided, outcome, strict=True))).items():
            joined[name] = _hull(joined[name], pair) if name in joined else pair
    return joined


def _pieces(task: Task, box: Mapping[str, Pair]) -> dict[str, Pair]:
    """States, and currents that are used more than once, cut into pieces: every combination is one row, (P, L)."""
    if not box:
        return {}
    lanes = max(low.size for low, _ in box.values())
    real = [name for name in box if name not in task.binary]
    budget = max(CELLS // lanes, 128) // 2 ** (len(box) - len(real))
    count = max(1, int(budget ** (1 / max(len(real), 1)))) if real else 1
    counts = [count if name in real else 2 for name in box]
    grids = np.meshgrid(*(np.arange(n) for n in counts), indexing="ij")
    env: dict[str, Pair] = {}
    for (name, (low, high)), n, grid in zip(box.items(), counts, grids, strict=True):
        j = grid.reshape(-1, 1)
        if name not in real:  # 0 or 1, each alone
            value = np.clip(j + 0 * low, low, high)
            env[name] = (value, value)
        elif task.whole:
            env[name] = (low + (high - low) * j // n, low + (high - low) * (j + 1) // n)
        else:
            width = (high - low) / n
            env[name] = (low + width * j, np.where(j + 1 == n, high, low + width * (j + 1)))
    return env


def _path(task: Task, start: Mapping[str, Pair], outcomes: Mapping[str, bool]) -> dict[str, Pair]:
    """Bounds of all registers where the comparisons come out like this, joined over the pieces where they can; none if nowhere."""
    env = dict(start)
    alive = np.ones((1, 1), dtype=bool)
    for made in task.code:
        args = [env[a] for a in made.args]
        if made.target not in outcomes:
            env[made.target] = task.apply(made, args)
            continue
        truth = outcomes[made.target]
        (a_low, a_high), (b_low, b_high) = (
            (low << k, high << k) if task.whole else (low, high) for (low, high), k in zip(args, made.lefts, strict=True)
        )
        apart = int(task.whole and (made.op == "gt") == truth)
        if truth:  # a >= b + apart
            alive = alive & (a_high >= b_low + apart)
            new_a, new_b = (np.maximum(a_low, b_low + apart), a_high), (b_low, np.minimum(b_high, a_high - apart))
        else:  # a <= b - apart
            alive = alive & (a_low <= b_high - apart)
            new_a, new_b = (a_low, np.minimum(a_high, b_high - apart)), (np.maximum(b_low, a_low + apart), b_high)
        for name, pair, k in zip(made.args, (new_a, new_b), made.lefts, strict=True):
            narrowed = (-((-pair[0]) >> k), pair[1] >> k) if task.whole else pair
            empty = narrowed[0] > narrowed[1]  # a piece that is not alive
            env[name] = (np.where(empty, env[name][0], narrowed[0]), np.where(empty, env[name][1], narrowed[1]))
        one = np.full((1, 1), int(truth), dtype=np.int64 if task.whole else np.float64)
        env[made.target] = (one, one)
    if not alive.any():
        return {}
    return {name: _joined(pair, alive) for name, pair in env.items()}


def _joined(pair: Pair, alive: Array) -> Pair:
    """Bounds over the pieces that are alive, per channel; a channel with none takes the others' bounds."""
    low, high, on = np.broadcast_arrays(*pair, alive)
    if low.ndim < 2:
        low, high, on = (x.reshape(1, -1) for x in (low, high, on))
    kind = np.iinfo(np.int64) if np.issubdtype(low.dtype, np.integer) else np.finfo(np.float64)
    lows, highs = np.where(on, low, kind.max).min(axis=0), np.where(on, high, kind.min).max(axis=0)
    some = on.any(axis=0)
    return np.where(some, lows, lows[some].min()), np.where(some, highs, highs[some].max())


def real_bounds(made: Instruction, args: Sequence[Pair]) -> Pair:
    """One instruction on intervals of real numbers."""
    if made.op in FUNCTIONS:
        low, high = args[0]
        function = FUNCTIONS[made.op]
        if made.op == "reciprocal":
            across = (low <= 0) & (high >= 0)
            return np.where(across, -np.inf, function(high)), np.where(across, np.inf, function(low))
        return function(low), function(high)
    return monotone(made, args)


def monotone(made: Instruction, args: Sequence[Pair]) -> Pair:
    """An operation without tables on intervals, of real numbers or of aligned integers: the extremes lie at the ends."""
    (a_low, a_high), *rest = args
    if made.op == "mul" and made.args[0] == made.args[1]:
        ((b_low, b_high),) = rest
        ends = np.stack(np.broadcast_arrays(a_low * b_low, a_high * b_high))
        across = (a_low <= 0) & (a_high >= 0)
        return np.where(across, 0, ends.min(axis=0)), ends.max(axis=0)
    if made.op == "abs":
        ends = np.stack(np.broadcast_arrays(np.abs(a_low), np.abs(a_high)))
        return np.where((a_low <= 0) & (a_high >= 0), 0, ends.min(axis=0)), ends.max(axis=0)
    if made.op == "neg":
        return -a_high, -a_low
    if made.op == "copy":
        return a_low, a_high
    if made.op == "select":
        (b_low, b_high), (c_low, c_high) = rest
        yes, no = (a_low > 0) | (a_high < 0), (a_low == 0) & (a_high == 0)
        low = np.where(yes, b_low, np.where(no, c_low, np.minimum(b_low, c_low)))
        return low, np.where(yes, b_high, np.where(no, c_high, np.maximum(b_high, c_high)))
    ((b_low, b_high),) = rest
    if made.op in COMPARISONS:
        compare = OPERATIONS[made.op]
        return compare(a_low, b_high), compare(a_high, b_low)
    if made.op == "sub":
        return np.asarray(a_low - b_high), np.asarray(a_high - b_low)
    if made.op == "mul":
        ends = np.stack(np.broadcast_arrays(a_low * b_low, a_low * b_high, a_high * b_low, a_high * b_high))
        ends = np.where(np.isnan(ends), 0.0, ends) if ends.dtype.kind == "f" else ends
        return ends.min(axis=0), ends.max(axis=0)
    same = OPERATIONS[made.op]  # add, min, max grow with either operand
    return same(a_low, b_low), same(a_high, b_high)


__all__ = ["Apply", "Found", "Pair", "Task", "analyse", "monotone", "real_bounds", "together"]

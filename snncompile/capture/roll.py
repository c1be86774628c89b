"""Roll the time loop: fold the steps of a trace into one step graph with references to earlier steps.

From some step on all steps must run the same operations; what one reads from the one before is state. Constants that differ
from step to step become per-step values. The first steps may differ (nothing is there yet to be read): initial values are found
by aligning step 0 with the repeated step, or else by trial, and are always confirmed by running the rolled loop against the trace.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from snncompile.capture.driver import Inputs
from snncompile.capture.replay import Values, execute, last_readers, replay
from snncompile.capture.trace import Raw, Ref, Trace, replace_leaves, walk
from snncompile.errors import fail


@dataclass(frozen=True)
class Prev:
    """The value of a node ``delay`` model steps ago."""

    name: str
    delay: int = 1


@dataclass(frozen=True, eq=False)
class PerStep:
    """A constant with a value for every traced step."""

    values: tuple[Any, ...]


@dataclass
class Rolled:
    """One step of the network.

    nodes    in execution order; arguments hold ``Ref`` (this step), ``Prev`` (an earlier step), ``PerStep`` and constants
    inputs   by name, the shape of one step's value as PyTorch sees it
    initial  by node name, the value that ``Prev`` has before the first step
    """

    nodes: dict[str, Raw]
    inputs: dict[str, tuple[int, ...]]
    outputs: list[str]
    initial: dict[str, torch.Tensor]
    static: bool
    traced: int

    @property
    def per_step(self) -> bool:
        """Whether any constant differs between steps, so that T is fixed."""
        return any(isinstance(leaf, PerStep) for raw in self.nodes.values() for leaf in _leaves(raw))


def _leaves(raw: Raw) -> list[object]:
    return list(walk((raw.args, tuple(raw.kwargs.values()))))


def roll(trace: Trace, folded: Trace, constants: Values, values: Values) -> Rolled:
    """Roll a per-step trace. ``trace`` is unfolded (for step 0), ``values`` are those of its replay."""
    count = len(folded.outputs)
    lists: list[list[Raw]] = [[] for _ in range(count)]
    for raw in folded.nodes.values():
        if raw.op != "input":
            lists[raw.step].append(raw)
    body = _first_repeated([[(raw.op, *(isinstance(leaf, Ref) for leaf in _leaves(raw))) for raw in raws] for raws in lists])
    index = {raw.name: (t, i) for t, raws in enumerate(lists) for i, raw in enumerate(raws)}
    inputs = {name: (t, k) for t, names in reversed(list(enumerate(folded.inputs))) for k, name in enumerate(names)}
    matcher = _Matcher(lists, index, inputs, body, places(folded), folded)
    for t in range(body + 1, count):
        matcher.compare(t, last=t == count - 1)
    for t in reversed(range(body)):
        matcher.constants_of_early_step(t, trace, constants)
    rolled = matcher.build(folded, count, values)
    rolled.initial = _initial_values(rolled, trace, constants, values, body)
    return live(_confirm(rolled, trace, folded, constants, values, matcher.pairs))


def live(rolled: Rolled) -> Rolled:
    """Without the nodes on which no output depends, at this step or a later one."""
    needed: set[str] = set()
    stack = list(rolled.outputs)
    while stack:
        name = stack.pop()
        if name in rolled.nodes and name not in needed:
            needed.add(name)
            stack += [leaf.name for leaf in _leaves(rolled.nodes[name]) if isinstance(leaf, (Ref, Prev))]
    return replace(rolled, nodes={name: raw for name, raw in rolled.nodes.items() if name in needed})


def _first_repeated(ops: list[list[tuple[Any, ...]]]) -> int:
    """The first step after step 0 whose operations, on values in the same places, all later ones run again; else the last step.

    The last step of a loop may run fewer.
    """
    last = len(ops) - 1
    body = next((t for t in range(1, last) if all(ops[u] == ops[t] for u in range(t, last))), last)
    if ops[body] == ops[last]:
        return body
    following = iter(ops[body])
    lacks = all(op in following for op in ops[last])
    return last if body == last - 1 or not lacks else body


class _Matcher:
    """Compares the argument lists of step ``t`` with those of the body step, leaf by leaf."""

    def __init__(
        self, lists: list[list[Raw]], index: dict[str, tuple[int, int]], inputs: dict[str, tuple[int, int]], body: int,
        place: dict[str, str], trace: Trace,
    ) -> None:  # fmt: skip
        self.lists, self.index, self.inputs, self.body, self.places = lists, index, inputs, body, place
        self.trace = trace
        self._aligned: dict[int, dict[str, str]] = {}
        self.varying: dict[tuple[int, int], dict[int, Any]] = {}
        self.pairs: dict[int, list[tuple[Raw, Raw]]] = {body: [(r, r) for r in lists[body]]}
        self.crossing: dict[str, str] = {}  # a node before the body that the body reads, and its counterpart in the body

    def compare(self, t: int, *, last: bool) -> None:
        """Step ``t`` against the body. The last step of a loop may lack what only a next step would have read."""
        ours, theirs = self.lists[self.body], self.lists[t]
        if last and [r.op for r in ours] != [r.op for r in theirs]:
            self._constants_of_last(ours, theirs, t)
            return
        self.pairs[t] = list(zip(ours, theirs, strict=False))
        for i, (a, b) in enumerate(self.pairs[t]):
            left, right = _leaves(a), _leaves(b)
            if a.op != b.op or len(left) != len(right):
                raise self._differ(a, b, t)
            for k, (x, y) in enumerate(zip(left, right, strict=True)):
                if not self._same_leaf(x, y, t):
                    if isinstance(x, Ref) or isinstance(y, Ref) or not _may_vary(a, x):
                        raise self._differ(a, b, t)
                    self.varying.setdefault((i, k), {self.body: x})[t] = y
                elif (i, k) in self.varying:
                    self.varying[i, k][t] = y
        if len(ours) != len(theirs):
            longer = ours if len(ours) > len(theirs) else theirs
            raise self._differ(longer[min(len(ours), len(theirs))], longer[min(len(ours), len(theirs))], t)

    def _constants_of_last(self, ours: list[Raw], theirs: list[Raw], t: int) -> None:
        self.pairs[t] = []
        for block in _common(ours, theirs, self.places):
            for k in range(block.size):
                a, b = ours[block.a + k], theirs[block.b + k]
                self.pairs[t].append((a, b))
                for leaf, (x, y) in enumerate(zip(_leaves(a), _leaves(b), strict=False)):
                    if not isinstance(x, Ref) and not isinstance(y, Ref) and not equal(x, y):
                        self.varying.setdefault((block.a + k, leaf), {self.body: x})[t] = y

    def _differ(self, a: Raw, b: Raw, t: int) -> Exception:
        return fail(
            "SNN118",
            f"step {t + 1} of the network does something else than step {self.body + 1} ('{a.op}' and '{b.op}')",
            loc=b.loc or a.loc,
            notes=["a network is compiled from one step, repeated; only the first step may differ (nothing to read yet)"],
            help="make the operations of every step the same; values that change with the step may be constants",
        )

    def _same_leaf(self, x: Any, y: Any, t: int) -> bool:
        if isinstance(x, Ref) and isinstance(y, Ref):
            if x.name in self.inputs or y.name in self.inputs:
                if x.name not in self.inputs or y.name not in self.inputs:
                    return False
                (s, i), (u, j) = self.inputs[x.name], self.inputs[y.name]
                return i == j and u - s in (t - self.body, 0)
            (s, i), (u, j) = self.index[x.name], self.index[y.name]
            if s == u:
                return x.name == y.name
            if u - s != t - self.body:
                return False
            if s < self.body:  # state: that step may have fewer operations, so its counterpart is what a later one reads from the body
                name = self.lists[self.body][j].name if u >= self.body else self.aligned(u).get(y.name)
                return name is None or self.crossing.setdefault(x.name, name) == name
            return i == j
        return equal(x, y)

    def aligned(self, early: int) -> dict[str, str]:
        """For the nodes of a step before the body, their counterparts in the body."""
        if early not in self._aligned:
            self._aligned[early] = {twin.name: name for name, twin in align(self.trace, self.body, early).items()}
        return self._aligned[early]

    def constants_of_early_step(self, t: int, trace: Trace, constants: Values) -> None:
        """Find per-step constants that differ before the body, and that step's value of those that vary."""
        early, body = align(trace, self.body, t), self.lists[self.body]
        for name, twin in early.items():
            self.crossing.setdefault(twin.name, name)
        for i, raw in enumerate(body):
            counterpart = early.get(raw.name)
            if counterpart is None:
                continue
            for k, (x, y) in enumerate(zip(_leaves(raw), _leaves(counterpart), strict=False)):
                value = constants.get(y.name) if isinstance(y, Ref) else y
                if isinstance(x, Ref) or value is None or isinstance(value, tuple):
                    continue
                if (i, k) in self.varying:
                    self.varying[i, k][t] = value
                elif not equal(x, value) and _may_vary(raw, x):
                    self.varying[i, k] = {t: value, **dict.fromkeys(range(t + 1, len(self.lists)), x)}

    def build(self, folded: Trace, count: int, values: Values) -> Rolled:
        """The body's nodes, with ``Prev`` and ``PerStep`` leaves, and hoisted nodes of step 0 in front."""
        hoisted: dict[str, Raw] = {}
        static = False
        name_of = [f"input:{k}" for k in range(len(folded.inputs[0]))]

        def hoist(name: str) -> None:
            nonlocal static
            static = True
            raw = folded.nodes[name]
            for ref in raw.refs:
                if ref not in self.inputs and ref not in hoisted:
                    hoist(ref)
            hoisted[name] = replace(raw, args=replace_leaves(raw.args, to_input))

        def to_input(leaf: Any) -> Any:
            return Ref(name_of[self.inputs[leaf.name][1]]) if isinstance(leaf, Ref) and leaf.name in self.inputs else leaf

        nodes: dict[str, Raw] = {}
        hold = self._held_references()
        for i, raw in enumerate(self.lists[self.body]):
            counter = iter(range(10_000))

            def convert(leaf: Any, i: int = i, counter: Any = counter, raw: Raw = raw) -> Any:
                k = next(counter)
                if (i, k) in self.varying:
                    known = self.varying[i, k]
                    return PerStep(tuple(known.get(t, known[self.body]) for t in range(count)))
                if not isinstance(leaf, Ref):
                    return leaf
                if leaf.name in self.inputs:
                    return self._input(leaf.name, name_of, leaf.name in hold)
                if self.index[leaf.name][0] == self.body:
                    return leaf
                if leaf.name in hold:
                    hoist(leaf.name)
                    return leaf
                if leaf.name not in self.crossing:
                    raise self._differ(raw, folded.nodes[leaf.name], self.body)
                return Prev(self.crossing[leaf.name], self.body - self.index[leaf.name][0])

            nodes[raw.name] = replace(
                raw, args=replace_leaves(raw.args, convert), kwargs={k: replace_leaves(v, convert) for k, v in raw.kwargs.items()}
            )
        shapes = {name: values[folded.inputs[0][k]].shape for k, name in enumerate(name_of)}
        held_inputs = any(name in self.inputs for name in hold)
        return Rolled({**hoisted, **nodes}, shapes, list(folded.outputs[self.body]), {}, static or held_inputs, count)

    def _input(self, name: str, name_of: list[str], held: bool) -> Ref | Prev:
        t, k = self.inputs[name]
        return Ref(name_of[k]) if held or t == self.body else Prev(name_of[k], self.body - t)

    def _held_references(self) -> set[str]:
        """Inputs and nodes before the body that every later step reads unchanged: what is computed once from a constant input."""
        if self.body + 1 >= len(self.lists):
            return set()
        both = self.lists[self.body : self.body + 2]
        before = {**{name: t for name, (t, _) in self.inputs.items()}, **{name: t for name, (t, _) in self.index.items()}}
        names = [{r for raw in raws for r in raw.refs if before.get(r, self.body) < self.body} for raws in both]
        return names[0] & names[1]


def _may_vary(raw: Raw, value: Any) -> bool:
    """Whether an argument may be another one at every step: a number that is computed with, no position, size or name."""
    return isinstance(value, (float, torch.Tensor)) or (isinstance(value, int) and raw.op.startswith(ARITHMETIC))


def equal(x: Any, y: Any) -> bool:
    """Whether two constants are the same, bit for bit."""
    if isinstance(x, torch.Tensor) or isinstance(y, torch.Tensor):
        return x is y or (isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor) and x.shape == y.shape and torch.equal(x, y))
    return bool(x == y)


def align(trace: Trace, body: int, early: int = 0) -> dict[str, Raw]:
    """For the body step's nodes, their counterparts in an early step of the unfolded trace, by longest common subsequence."""
    first = [r for r in trace.nodes.values() if r.step == early and r.op != "input"]
    later = [r for r in trace.nodes.values() if r.step == body and r.op != "input"]
    blocks = _common(first, later, places(trace))
    return {later[b.b + k].name: first[b.a + k] for b in blocks for k in range(b.size)}


def places(trace: Trace) -> dict[str, str]:
    """By module path, the place that it has in a step: a module that only one step runs (a batch norm per step) shares its siblings'.

    ``act.bn.0`` of step 0 and ``act.bn.1`` of step 1 both stand at ``act.bn.*``.
    """
    seen: dict[str, set[int]] = {}
    for raw in trace.nodes.values():
        parts = raw.module.split(".")
        for depth in range(1, len(parts) + 1):
            seen.setdefault(".".join(parts[:depth]), set()).add(raw.step)
    several = len({step for steps in seen.values() for step in steps}) > 1
    found: dict[str, str] = {}
    for path in sorted(seen):  # parents first
        above, _, last = path.rpartition(".")
        own = "*" if several and len(seen[path]) == 1 else last
        found[path] = f"{found[above]}.{own}" if above else own
    return found


def _common(first: list[Raw], later: list[Raw], place: Mapping[str, str]) -> list[difflib.Match]:
    """Runs of operations that two steps share: the same operation, line and place among the modules."""
    keys = [[(r.op, place[r.module], str(r.loc)) for r in raws] for raws in (first, later)]
    return difflib.SequenceMatcher(None, keys[0], keys[1], autojunk=False).get_matching_blocks()


def _initial_values(rolled: Rolled, trace: Trace, constants: Values, values: Values, body: int) -> dict[str, torch.Tensor]:
    """Initial value of each state: the constant that stands in its place in step 0, else zero."""
    twins = align(trace, body) if body else {}
    values = {**values, **{name: values[trace.inputs[0][k]] for k, name in enumerate(rolled.inputs)}}
    found: dict[str, torch.Tensor] = {}
    for raw in rolled.nodes.values():
        twin = twins.get(raw.name)
        for k, leaf in enumerate(_leaves(raw)):
            if isinstance(leaf, Prev):
                shape = values[leaf.name].shape
                there = _leaves(twin) if twin is not None else []
                other = there[k] if k < len(there) else None
                value = constants.get(other.name) if isinstance(other, Ref) else other
                if isinstance(value, (int, float, torch.Tensor)):
                    start = torch.as_tensor(value, dtype=values[leaf.name].dtype)
                    if np.broadcast_shapes(tuple(start.shape), tuple(shape)) == tuple(shape):
                        found.setdefault(leaf.name, start.expand(shape).clone())
    for raw in rolled.nodes.values():
        for leaf in _leaves(raw):
            if isinstance(leaf, Prev):
                found.setdefault(leaf.name, _zeros(values[leaf.name]))
    return found


def _zeros(value: torch.Tensor) -> torch.Tensor:
    """Zeros of the shape and dtype of a value, of which no more may be known."""
    return torch.zeros(value.shape, dtype=value.dtype)


def execute_rolled(rolled: Rolled, xs: list[Inputs], keep: Collection[str]) -> Iterator[Values]:
    """Run the rolled loop in torch on one sample, ``xs[t]`` by input: step by step, the values of the nodes to ``keep``.

    Other values are held until their last reader, in this step or a later one.
    """
    read = {(leaf.name, leaf.delay) for raw in rolled.nodes.values() for leaf in _leaves(raw) if isinstance(leaf, Prev)}
    past, reach = {name for name, _ in read}, max((delay for _, delay in read), default=1)
    last = last_readers(rolled.nodes.values(), {*past, *keep})
    history: list[Values] = []
    for t, x in enumerate(xs):
        now: Values = dict(zip(rolled.inputs, x, strict=True))
        with torch.no_grad():
            for raw in rolled.nodes.values():
                now[raw.name] = execute_at(rolled, raw, now, history, t)
                for name in last.get(raw.name, ()):
                    del now[name]
        history.append({name: now[name] for name in past})
        if t >= reach:
            history[t - reach] = {}
        yield {name: now[name] for name in keep}


def execute_at(rolled: Rolled, raw: Raw, now: Mapping[str, Any], history: list[Values], t: int) -> Any:
    """The value of one rolled node at step ``t``."""

    def value(leaf: Any) -> Any:
        if isinstance(leaf, Prev):
            return history[t - leaf.delay][leaf.name] if t >= leaf.delay else rolled.initial[leaf.name]
        return leaf.values[min(t, len(leaf.values) - 1)] if isinstance(leaf, PerStep) else leaf

    ready = replace(raw, args=replace_leaves(raw.args, value), kwargs={k: replace_leaves(v, value) for k, v in raw.kwargs.items()})
    return execute(ready, now)


def _confirm(
    rolled: Rolled, trace: Trace, folded: Trace, constants: Values, values: Values, pairs: dict[int, list[tuple[Raw, Raw]]]
) -> Rolled:
    """Run the rolled loop against the trace; if only the first step differs, retime what step 0 leaves out, and try again."""
    xs = [tuple(values[name] for name in names) for names in folded.inputs]
    states = [
        (t, mine.name, theirs.name)
        for t, matched in pairs.items()
        for mine, theirs in matched
        if mine.name in rolled.initial and isinstance(values[theirs.name], torch.Tensor)
    ]
    outputs = [(t, k, theirs) for t, names in enumerate(folded.outputs) for k, theirs in enumerate(names)]
    recorded = replay(trace, xs, constants, [name for _, _, name in (*states, *outputs)])
    for candidate in (rolled, retime(rolled, values)):
        if candidate is None:
            break
        claims: dict[int, list[tuple[str, str]]] = {t: [] for t in range(len(xs))}
        for t, mine, theirs in (*((t, candidate.outputs[k], theirs) for t, k, theirs in outputs), *states):
            claims[t].append((mine, theirs))
        run = execute_rolled(candidate, xs, {*candidate.outputs, *(name for _, name, _ in states)})
        if all(_close(now[mine], recorded[theirs]) for t, now in enumerate(run) for mine, theirs in claims[t]):
            return candidate
    for t, _, name in (*states, *outputs):
        if not bool(torch.isfinite(recorded[name]).all()):
            raise fail(
                "SNN125", f"the network computes NaN or infinity in step {t}", loc=trace.nodes[name].loc if name in trace.nodes else None,
                help="look for constants that are not finite (infinity times 0 is NaN) and for values that overflow",
            )  # fmt: skip
    raise fail(
        "SNN119",
        "the first step of the network does something that no initial value of its states explains",
        loc=next((r.loc for r in rolled.nodes.values() if r.loc), None),
        help="let the first step run the same operations as the later ones, on initial states",
    )


def _close(mine: torch.Tensor, theirs: torch.Tensor) -> bool:
    return torch.allclose(mine.float(), theirs.float(), rtol=1e-4, atol=1e-5)


def retime(rolled: Rolled, values: Values) -> Rolled | None:
    """Move delays behind the layers that read only earlier steps, so that at the first steps they contribute nothing.

    f(x[t-d]) becomes (f(x))[t-d] with initial value 0: what a feedback layer that is skipped at the first d steps means.
    """
    past: set[str] = set()
    for raw in rolled.nodes.values():
        leaves = [leaf for leaf in _leaves(raw) if isinstance(leaf, (Ref, Prev))]
        if (
            leaves
            and all(isinstance(leaf, Prev) or leaf.name in past for leaf in leaves)
            and not any(isinstance(x, PerStep) for x in _leaves(raw))
        ):
            past.add(raw.name)
    layered = {r.name for r in rolled.nodes.values() if r.name in past and not _elementwise(r)}
    for raw in rolled.nodes.values():  # everything downstream of a layer, still in the past
        if raw.name in past and any(r in layered for r in raw.refs):
            layered.add(raw.name)
    frontier = {r for raw in rolled.nodes.values() if raw.name not in past for r in raw.refs if r in layered}
    if not frontier:
        return None
    cone: set[str] = set()
    stack = list(frontier)
    while stack:
        name = stack.pop()
        cone.add(name)
        stack += [r for r in rolled.nodes[name].refs if r not in cone]
    if any(r in cone and r not in frontier for raw in rolled.nodes.values() if raw.name not in cone for r in raw.refs):
        return None
    behind = min((leaf.delay for name in cone for leaf in _leaves(rolled.nodes[name]) if isinstance(leaf, Prev)), default=1)
    initial = dict(rolled.initial)
    initial.update({name: _zeros(values[name]) for name in frontier})

    def earlier(leaf: Any) -> Any:
        return (Ref(leaf.name) if leaf.delay == behind else Prev(leaf.name, leaf.delay - behind)) if isinstance(leaf, Prev) else leaf

    def later(leaf: Any) -> Any:
        return Prev(leaf.name, behind) if isinstance(leaf, Ref) and leaf.name in frontier else leaf

    nodes = {}
    for raw in rolled.nodes.values():
        change = earlier if raw.name in cone else later
        nodes[raw.name] = replace(
            raw, args=replace_leaves(raw.args, change), kwargs={k: replace_leaves(v, change) for k, v in raw.kwargs.items()}
        )
    ordered: dict[str, Raw] = {}

    def place(name: str) -> None:
        if name in ordered or name in rolled.inputs:
            return
        for r in nodes[name].refs:
            place(r)
        ordered[name] = nodes[name]

    for name in nodes:
        place(name)
    return replace(rolled, nodes=ordered, initial=initial)


ARITHMETIC = (
    "add.", "sub.", "rsub.", "mul.", "div.", "pow.", "ge.", "gt.", "le.", "lt.", "eq.", "ne.", "clamp", "maximum.", "minimum.", "where.",
    "masked_fill.", "lerp.", "addc", "full_like.", "fill.",
)  # fmt: skip
LAYERS = ("convolution", "addmm", "mm", "linear", "matmul", "bmm", "baddbmm")


def _elementwise(raw: Raw) -> bool:
    return not raw.op.startswith(LAYERS)

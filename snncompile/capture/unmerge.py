"""Take a trace apart into steps where the time loop runs inside ``forward``.

A value that holds all steps along one axis is followed through views, layers and pointwise operations, which treat its steps
alike, and becomes one value per step; ``unbind`` and ``select`` along that axis pick a step, ``stack`` gathers them again. A mean or
sum over time at the very end, or the last step's value alone, is the network's readout, not a part of its step. The result is
replayed against the network like any other trace, so a wrong guess here is an error, never a wrong program.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch

from snncompile.capture.replay import Values
from snncompile.capture.roll import align
from snncompile.capture.trace import Raw, Ref, Trace, replace_leaves, walk
from snncompile.errors import CompileError, fail

VIEWS = ("view", "reshape", "_unsafe_view")
BATCHED = (
    "convolution",
    "addmm",
    "mm",
    "linear",
    "native_batch_norm",
    "avg_pool2d",
    "max_pool2d",
    "_adaptive_avg_pool2d",
    "upsample_nearest2d",
)


@dataclass(frozen=True)
class Merged:
    """A value with all steps along ``axis``: one node per step, whose ``axis`` has length 1."""

    axis: int
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Unbound:
    """The tuple that ``unbind`` or a split into single steps gives; ``keep`` says that the axis stays, with length 1."""

    source: Merged
    keep: bool


@dataclass(frozen=True)
class Reduced:
    """The mean or sum of all steps."""

    source: Merged
    kind: str


def unmerge(flat: Trace, values: Values, axis: int) -> Trace:
    """A per-step trace from a trace over all steps; ``values`` are the flat trace's own, ``axis`` the input's time axis."""
    return _Unmerger(flat, values, axis).run()


@dataclass
class _Unmerger:
    flat: Trace
    values: Values
    axis: int
    nodes: dict[str, Raw] = field(default_factory=dict)
    env: dict[str, Any] = field(default_factory=dict)
    steps: int = 0

    def run(self) -> Trace:
        names = self.flat.inputs[0]
        self.steps = steps = self.values[names[0]].shape[self.axis]
        for name in names:
            parts = tuple(f"{name}@{t}" for t in range(steps))
            for t, part in enumerate(parts):
                self.nodes[part] = replace(self.flat.nodes[name], name=part, step=t)
            self.env[name] = Merged(self.axis, parts)
        inputs = [tuple(f"{name}@{t}" for name in names) for t in range(steps)]
        needed = self._needed()
        for raw in self.flat.nodes.values():
            if raw.name in needed and raw.op != "input":
                self.env[raw.name] = self._value(raw)
        outputs, reduced = [], []
        for label in self.flat.outputs[0]:
            value = self.env[label]
            reduced.append(value.kind if isinstance(value, Reduced) else "")
            merged = value.source if isinstance(value, Reduced) else value
            if isinstance(merged, Ref):
                merged, reduced[-1] = self._readout(merged)
            if not isinstance(merged, Merged) or len(merged.parts) != steps:
                raise fail(
                    "SNN123", "an output of the network is no sequence over the time steps, nor their mean or sum",
                    loc=self.flat.nodes[label].loc, help="return one value per step, or drive the network step by step (--layout step)",
                )  # fmt: skip
            outputs.append(merged.parts)
        per_step = [list(names) for names in zip(*outputs, strict=True)]
        self._as_late_as_possible({name: t for t, names in enumerate(per_step) for name in names})
        return Trace(self.nodes, inputs, per_step, True, tuple(reduced))

    def _readout(self, last: Ref) -> tuple[Any, str]:
        """A readout that the loop makes itself: a sum or mean over the steps, added up one by one, or the last step's value."""
        raw, kind, total = self.nodes[last.name], "sum", last
        factor = raw.args[1] if len(raw.args) == 2 else None
        if isinstance(factor, (int, float)) and factor == {"div.Tensor": self.steps, "mul.Tensor": 1 / self.steps}.get(raw.op):
            kind, total = "mean", raw.args[0]
        parts = self._summands(total)
        if parts is not None:
            return Merged(0, tuple(parts)), kind
        parts = self._at_every_step(last)
        return (last, "") if parts is None else (Merged(0, tuple(parts)), "last")

    def _summands(self, total: Ref) -> list[str] | None:
        """The values, one of each step, that were added up."""
        parts: list[str] = []
        for t in reversed(range(self.steps)):
            raw = self.nodes[total.name]
            first, second = raw.args[:2] if raw.op == "add.Tensor" and raw.kwargs.get("alpha", 1) == 1 else (None, None)
            if t == 0:
                found = total if first is None else first if self._nothing(second) else second if self._nothing(first) else None
            else:
                steps = [self.nodes[a.name].step if isinstance(a, Ref) else t + 1 for a in (first, second)]
                found, total = (
                    (second, first) if steps[0] < steps[1] == t else (first, second) if steps[1] < steps[0] == t else (None, total)
                )
            if not isinstance(found, Ref) or self.nodes[found.name].step != t:
                return None
            parts.append(found.name)
        return parts[::-1]

    def _nothing(self, leaf: Any) -> bool:
        """Whether this is the zero that a sum starts from."""
        if isinstance(leaf, Ref):
            value = self.values.get(leaf.name)
            fixed = not self.nodes[leaf.name].refs and self.nodes[leaf.name].op != "input"
            return fixed and isinstance(value, torch.Tensor) and not value.is_meta and not bool(value.any())
        return not bool(torch.as_tensor(leaf).any())

    def _at_every_step(self, last: Ref) -> list[str] | None:
        """What an output of the last step is at every step; what follows the loop is repeated there."""
        final = self.steps - 1
        if self.nodes[last.name].step != final:
            return None
        so_far = Trace(self.nodes, [], [], per_step=True)
        twins = [align(so_far, final, t) for t in range(final)]
        tail: list[str] = []

        def visit(name: str) -> None:
            if name not in tail and self.nodes[name].step == final and twins and name not in twins[-1] and self.nodes[name].op != "input":
                for ref in self.nodes[name].refs:
                    visit(ref)
                tail.append(name)

        visit(last.name)
        parts = []
        for t, twin in enumerate(twins):
            names = {name: raw.name for name, raw in twin.items()}

            def there(leaf: Any, names: dict[str, str] = names) -> Any:
                return Ref(names.get(leaf.name, leaf.name)) if isinstance(leaf, Ref) else leaf

            for name in tail:
                raw = self.nodes[name]
                names[name] = f"{name}@{t}"
                self.nodes[names[name]] = replace(raw, name=names[name], step=t, args=replace_leaves(raw.args, there))
            if last.name not in names:
                return None
            parts.append(names[last.name])
        return [*parts, last.name]

    def _needed(self) -> set[str]:
        """What the outputs depend on; the rest (a library's own statistics) may do with time what it likes."""
        needed: set[str] = set()
        stack = list(self.flat.outputs[0])
        while stack:
            name = stack.pop()
            if name not in needed:
                needed.add(name)
                stack += self.flat.nodes[name].refs
        return needed

    def _as_late_as_possible(self, outputs: dict[str, int]) -> None:
        """Move what only later steps read into the first of them: a loop that begins with last step's reset is one step, not two halves."""
        needed = dict(outputs)
        for raw in reversed(self.nodes.values()):
            raw.step = max(raw.step, needed.get(raw.name, raw.step)) if raw.op != "input" else raw.step
            for ref in raw.refs:
                needed[ref] = min(needed.get(ref, raw.step), raw.step)

    def _value(self, raw: Raw) -> Any:
        op = raw.op.partition(".")[0]
        found = [self.env[r] for r in raw.refs]
        if any(isinstance(v, Reduced) for v in found):
            raise self._refuse(raw, "computes with the mean or sum over time")
        if raw.function is operator.getitem and isinstance(found[0], Unbound):
            return self._pick(raw, found[0])
        if op in ("stack", "cat") and len(raw.args[0]) >= min(self.steps, 2) and all(isinstance(v, Ref) for v in found):
            return self._gather(raw, op, found)
        merged = [v for v in found if isinstance(v, Merged)]
        if not merged:
            return self._plain(raw)
        lengths = {len(m.parts) for m in merged}
        if len(lengths) != 1:
            raise self._refuse(raw, "combines different numbers of steps")
        special = getattr(self, f"_{op}", None) if op in ("select", "slice", "unbind", "split", "mean", "sum") else None
        if special is not None:
            result = special(raw, merged[0])
            if result is not None:
                return result
        if self._over_time(raw, op, merged[0]):
            raise self._refuse(raw, "works along the time axis")
        return self._each(raw, merged[0], self._new_axis(raw, op, merged[0]))

    def _over_time(self, raw: Raw, op: str, m: Merged) -> bool:
        """Whether a maximum, a cumulated sum or the like mixes the steps."""
        if op not in ("max", "min", "amax", "amin", "argmax", "argmin", "cumsum", "cumprod", "_softmax", "_log_softmax", "softmax", "var",
                      "std", "prod", "logsumexp", "norm", "linalg_vector_norm", "any", "all", "sort", "topk", "flip", "roll"):  # fmt: skip
            return False
        rank = len(self.values[raw.args[0].name].shape)
        dims = raw.args[1] if len(raw.args) > 1 else None
        axes = [dims] if isinstance(dims, int) else dims
        return not isinstance(axes, (list, tuple)) or not axes or m.axis in [d % rank for d in axes]

    # one step of a merged value -------------------------------------------------------------------------------------

    def _select(self, raw: Raw, m: Merged) -> Any:
        dim, k = self._dim(raw, raw.args[1]), raw.args[2]
        return self._drop(raw.name, raw, m, k % len(m.parts)) if dim == m.axis else None

    def _drop(self, name: str, raw: Raw, m: Merged, k: int) -> Ref:
        part = m.parts[k]
        self.nodes[name] = replace(
            raw,
            name=name,
            op="select.int",
            function=torch.ops.aten.select.int,
            args=(Ref(part), m.axis, 0),
            kwargs={},
            step=self.nodes[part].step,
        )
        return Ref(name)

    def _slice(self, raw: Raw, m: Merged) -> Any:
        dim, start, end, stride = (*raw.args[1:], *(0, None, None, 1)[len(raw.args) - 1 :])[:4]
        if self._dim(raw, dim) != m.axis:
            return None
        parts = m.parts[slice(start, end, stride)]
        return Ref(parts[0]) if len(parts) == 1 else Merged(m.axis, parts)

    def _unbind(self, raw: Raw, m: Merged) -> Any:
        return Unbound(m, keep=False) if self._dim(raw, raw.args[1] if len(raw.args) > 1 else 0) == m.axis else None

    def _split(self, raw: Raw, m: Merged) -> Any:
        dim = self._dim(raw, raw.args[2] if len(raw.args) > 2 else 0)
        return Unbound(m, keep=True) if dim == m.axis and raw.args[1] == 1 else None

    def _pick(self, raw: Raw, u: Unbound) -> Ref:
        k = raw.args[1] % len(u.source.parts)
        return Ref(u.source.parts[k]) if u.keep else self._drop(raw.name, raw, u.source, k)

    # many steps at once ---------------------------------------------------------------------------------------------

    def _gather(self, raw: Raw, op: str, found: list[Ref]) -> Any:
        steps = [self.nodes[r.name].step for r in found]
        dim = raw.args[1] if len(raw.args) > 1 else 0
        shape = self.values[raw.name].shape
        dim %= len(shape)
        if steps != sorted(set(steps)) or shape[dim] != len(found):
            return self._plain(raw)
        if op == "cat":
            return Merged(dim, tuple(r.name for r in found))
        parts = []
        for t, r in enumerate(found):
            name = f"{raw.name}@{t}"
            self.nodes[name] = replace(
                raw, name=name, op="unsqueeze.default", function=torch.ops.aten.unsqueeze.default, args=(r, dim), kwargs={}, step=steps[t]
            )
            parts.append(name)
        return Merged(dim, tuple(parts))

    def _mean(self, raw: Raw, m: Merged, kind: str = "mean") -> Any:
        dims = raw.args[1] if len(raw.args) > 1 and raw.args[1] is not None else list(range(self.values[raw.args[0].name].ndim))
        axes = {self._dim(raw, d) for d in ([dims] if isinstance(dims, int) else dims)}
        if m.axis not in axes:
            return None
        if axes != {m.axis}:
            raise self._refuse(raw, "reduces time and other axes at once")
        kept = bool(raw.args[2]) if len(raw.args) > 2 else False
        parts = m.parts if kept else tuple(self._drop(f"{raw.name}@{t}", raw, m, t).name for t in range(len(m.parts)))
        return Reduced(Merged(m.axis, parts), kind)

    def _sum(self, raw: Raw, m: Merged) -> Any:
        return self._mean(raw, m, "sum")

    def _plain(self, raw: Raw) -> Any:
        """An operation on single steps; it belongs to the latest step that it reads."""
        args = replace_leaves(raw.args, self._resolve)
        kwargs = {k: replace_leaves(v, self._resolve) for k, v in raw.kwargs.items()}
        names = [leaf.name for leaf in walk((args, tuple(kwargs.values()))) if isinstance(leaf, Ref)]
        self.nodes[raw.name] = replace(raw, args=args, kwargs=kwargs, step=max((self.nodes[n].step for n in names), default=0))
        return Ref(raw.name)

    def _resolve(self, leaf: Any) -> Any:
        return self.env[leaf.name] if isinstance(leaf, Ref) else leaf

    def _each(self, raw: Raw, m: Merged, axis: int) -> Merged:
        """The operation on each step alone."""
        names = []
        for t, part in enumerate(m.parts):

            def step_of(leaf: Any, t: int = t) -> Any:
                value = self._resolve(leaf)
                return Ref(value.parts[t]) if isinstance(value, Merged) else value

            args = replace_leaves(raw.args, step_of)
            if raw.op.partition(".")[0] in (*VIEWS, "expand"):
                shape = list(self.values[raw.name].shape)
                shape[axis] //= len(m.parts)
                args = (args[0], shape, *args[2:])
            name = f"{raw.name}@{t}"
            kwargs = {k: replace_leaves(v, step_of) for k, v in raw.kwargs.items()}
            self.nodes[name] = replace(raw, name=name, args=args, kwargs=kwargs, step=self.nodes[part].step)
            names.append(name)
        return Merged(axis, tuple(names))

    # where the time axis goes ---------------------------------------------------------------------------------------

    def _dim(self, raw: Raw, dim: int) -> int:
        source = raw.args[0]
        return int(dim % self.values[source.name].ndim)

    def _new_axis(self, raw: Raw, op: str, m: Merged) -> int:
        value = self.values[raw.name]
        if raw.function is operator.getitem:
            return m.axis
        if isinstance(value, (tuple, list)):
            value = value[0]
        old = next(self.values[r].shape for r in raw.refs if self.env[r] is m)
        count = len(m.parts)
        if op in VIEWS:
            outer = prod(old[: m.axis])
            for k, n in enumerate(value.shape):
                if prod(value.shape[:k]) == outer and n % count == 0 and n >= count:
                    return k
            raise self._refuse(raw, f"rearranges the time axis (from {list(old)} to {list(value.shape)})")
        if op == "permute":
            return [d % len(old) for d in raw.args[1]].index(m.axis)
        if op in ("transpose", "t"):
            a, b = (d % len(old) for d in (raw.args[1:] if op == "transpose" else (0, 1)))
            return int(b if m.axis == a else a if m.axis == b else m.axis)
        if op == "unsqueeze":
            return m.axis + int(raw.args[1] % (len(old) + 1) <= m.axis)
        if op in ("squeeze", "select", "mean", "sum") and value.ndim < len(old):
            dims = raw.args[1] if len(raw.args) > 1 else [k for k, n in enumerate(old) if n == 1]
            gone = {d % len(old) for d in ([dims] if isinstance(dims, int) else dims)}
            return m.axis - sum(int(d < m.axis) for d in gone)
        if op.startswith(BATCHED) and m.axis != 0:
            raise self._refuse(raw, "is a layer that reads several time steps at once")
        return int(m.axis + value.ndim - len(old)) if not op.startswith(BATCHED) else 0

    def _refuse(self, raw: Raw, reason: str) -> CompileError:
        return fail(
            "SNN123", f"'{raw.op}' {reason}", loc=raw.loc,
            help="let every step depend on this and earlier steps only, or drive the network step by step (--layout step)",
        )  # fmt: skip

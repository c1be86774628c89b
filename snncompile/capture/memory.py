"""Values instead of memory: what is written into a part of a tensor becomes a new value of the whole, and readers read that.

A recorded run names values; PyTorch's code also names memory. After ``buffer[t] = s`` every tensor that shares the buffer's memory
holds something else, whatever its own name. Every value is therefore known by the tensor that owns its memory and by the views that
lead to it; a write through views becomes a scatter into the owner, and a view that is read afterwards is taken anew.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from snncompile.capture.trace import Raw, Ref, Trace, replace_leaves
from snncompile.errors import CompileError, fail

aten = torch.ops.aten
RESHAPES = ("view.", "_unsafe_view.", "reshape.", "_reshape_alias.", "squeeze.", "unsqueeze.", "detach.", "alias.", "lift_fresh.")
END = (1 << 63) - 1
WAY_OUT = "collect steps in a list and use torch.stack; shift a buffer with torch.cat instead of writing into it"


@dataclass(frozen=True)
class Place:
    """Where a value lies: the owner of its memory, the views that lead to it, and how often the owner was written to before."""

    owner: str
    views: tuple[Raw, ...] = ()
    version: int = 0


def settle_writes(trace: Trace) -> Trace:
    """The trace with every in-place update of a view as a new value of the whole; raises CompileError SNN115 for exotic views."""
    if not any(is_update(raw) for raw in trace.nodes.values()):
        return trace
    return _Memory(trace).run()


def is_update(raw: Raw) -> bool:
    """Whether an operation writes into its first argument."""
    name = raw.op.partition(".")[0]
    return name.endswith("_") and not name.startswith("_") and not name.endswith("__")


def _is_view(raw: Raw) -> bool:
    """Whether the result shares the first argument's memory."""
    if not isinstance(raw.function, torch._ops.OpOverload):
        return False
    returned = raw.function._schema.returns
    return bool(returned) and returned[0].alias_info is not None and not returned[0].alias_info.is_write


@dataclass
class _Memory:
    trace: Trace
    nodes: dict[str, Raw] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    whole: dict[str, Any] = field(default_factory=dict)  # by owner that was written to: its value now
    written: dict[str, int] = field(default_factory=dict)
    kept: dict[str, torch.Tensor] = field(default_factory=dict)  # constants by their memory
    taken: dict[tuple[str, int], Any] = field(default_factory=dict)

    def run(self) -> Trace:
        outputs: list[list[str]] = []
        pending = deque(self.trace.nodes.values())
        last = len(self.trace.outputs) - 1
        for t, names in enumerate(self.trace.outputs):
            while pending and (pending[0].op == "input" or pending[0].step <= t or t == last):
                self._node(pending.popleft())
            outputs.append([self._read(Ref(name), self.nodes[name]).name for name in names])
        return replace(self.trace, nodes=self.nodes, outputs=outputs)

    def _node(self, raw: Raw) -> None:
        target = raw.args[0] if raw.args else None
        fresh = replace(
            raw, args=replace_leaves(raw.args, lambda leaf: self._read(leaf, raw)),
            kwargs={k: replace_leaves(v, lambda leaf: self._read(leaf, raw)) for k, v in raw.kwargs.items()},
        )  # fmt: skip
        self.nodes[raw.name] = fresh
        place = self._place(target)
        if place is None or not (_is_view(raw) or is_update(raw) or raw.function is operator.getitem):
            self.places[raw.name] = Place(raw.name)
        elif is_update(raw):
            self._update(fresh, place)
        elif raw.function is operator.getitem:
            of = self.nodes[raw.refs[0]]
            item = _item(of, raw) if _is_view(of) else None
            views = place.views[:-1] if _is_view(of) else ()
            self.places[raw.name] = Place(raw.name) if item is None else replace(place, views=(*views, item), version=self._now(place))
        else:
            self.places[raw.name] = replace(place, views=(*place.views, raw), version=self._now(place))

    def _now(self, place: Place) -> int:
        return self.written.get(place.owner, 0)

    def _place(self, leaf: Any) -> Place | None:
        if isinstance(leaf, Ref):
            return self.places[leaf.name]
        if not isinstance(leaf, torch.Tensor) or not leaf.numel():
            return None
        key = f"constant {leaf.untyped_storage().data_ptr()}"
        self.kept.setdefault(key, leaf)
        return Place(key)

    def _read(self, leaf: Any, reader: Raw) -> Any:
        """The value that a name stands for now."""
        place = self._place(leaf)
        if place is None or self._now(place) == place.version:
            return leaf
        whole = self.whole[place.owner]
        if isinstance(leaf, torch.Tensor):
            self._check_constant(leaf, place, reader)
            return whole
        key = (leaf.name, self._now(place))
        if key not in self.taken:
            self.taken[key] = self._views(place, whole, reader)[-1]
        return self.taken[key]

    def _check_constant(self, leaf: torch.Tensor, place: Place, reader: Raw) -> None:
        """Attributes that share their memory must be one and the same tensor."""
        owner = self.kept[place.owner]
        if (owner.shape, owner.stride(), owner.storage_offset()) != (leaf.shape, leaf.stride(), leaf.storage_offset()):
            raise _refusal(reader, "two tensors that are kept share their memory")

    def _views(self, place: Place, whole: Any, reader: Raw) -> list[Any]:
        """The owner's value now, and what each view in turn makes of it."""
        values = [whole]
        for view in place.views:
            values.append(self._emit(view.op, view.function, (values[-1], *view.args[1:]), reader, view))
        return values

    def _update(self, raw: Raw, place: Place) -> None:
        """A write: the value written, and behind views the whole of which it is a part."""
        new: Any = Ref(raw.name)
        before = self.whole.get(place.owner, self.kept.get(place.owner, Ref(place.owner)))
        values = self._views(place, before, raw) if place.views else [before]
        for view, of in reversed(list(zip(place.views, values[:-1], strict=True))):
            new = self._write_back(view, of, new, raw)
        self.whole[place.owner] = new
        self.written[place.owner] = self._now(place) + 1
        self.places[raw.name] = replace(place, version=self.written[place.owner])

    def _write_back(self, view: Raw, of: Any, new: Any, raw: Raw) -> Any:
        """The whole after a view of it was written: the view's inverse, or a scatter."""
        if view.op.startswith("select."):
            return self._emit("select_scatter.default", aten.select_scatter.default, (of, new, *view.args[1:]), raw, view)
        if view.op.startswith("slice."):
            dim, start, end, stride = (*view.args[1:], *(0, None, None, 1)[len(view.args) - 1 :])[:4]
            if (start or 0, END if end is None else end, stride) == (0, END, 1):
                return new
            return self._emit("slice_scatter.default", aten.slice_scatter.default, (of, new, dim, start, end, stride), raw, view)
        if view.op.startswith("transpose."):
            return self._emit(view.op, view.function, (new, *view.args[1:]), raw, view)
        if view.op.startswith("t."):
            return self._emit(view.op, view.function, (new,), raw, view)
        if view.op.startswith("permute."):
            order = [d % len(view.args[1]) for d in view.args[1]]
            inverse = [order.index(d) for d in range(len(order))]
            return self._emit(view.op, view.function, (new, inverse), raw, view)
        if view.op.startswith(RESHAPES):
            return self._emit(RESHAPE_LIKE, reshape_like, (new, of), raw, view)
        raise _refusal(raw, f"'{view.op}'")

    def _emit(self, op: str, function: Callable[..., Any], args: tuple[Any, ...], reader: Raw, view: Raw) -> Ref:
        name = f"{reader.name}:{len(self.nodes)}"
        self.nodes[name] = replace(reader, name=name, op=op, function=function, args=args, kwargs={}, loc=reader.loc or view.loc)
        return Ref(name)


RESHAPE_LIKE = "reshape_like.memory"


def reshape_like(x: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    """``x`` in the shape of another value."""
    return x.reshape(of.shape)


def _item(of: Raw, raw: Raw) -> Raw:
    """An item of a tensor that was taken apart, as the view that it is."""
    k = raw.args[1]
    op = of.op.partition(".")[0]
    if op == "unbind":
        dim = of.args[1] if len(of.args) > 1 else 0
        return replace(raw, op="select.int", function=aten.select.int, args=(of.args[0], dim, k))
    dim = of.args[2] if len(of.args) > 2 else 0
    sizes = of.args[1]
    start, end = (k * sizes, (k + 1) * sizes) if isinstance(sizes, int) else (sum(sizes[:k]), sum(sizes[: k + 1]))
    return replace(raw, op="slice.Tensor", function=aten.slice.Tensor, args=(of.args[0], dim, start, end, 1))


def _refusal(raw: Raw, what: str) -> CompileError:
    return fail(
        "SNN115", f"the network updates a part of a tensor in place ('{raw.op}') and reads the tensor afterwards: {what}", loc=raw.loc,
        help=WAY_OUT,
    )  # fmt: skip


__all__ = ["RESHAPE_LIKE", "is_update", "settle_writes"]

"""Capture by execution: run the model under a dispatch mode and keep every ATen operation that touches the input.

Python side effects, custom autograd functions, keyword arguments and loops dissolve, because the code is executed, not
parsed. Every node keeps the user's file and line and the path of the module that ran it. Nothing but the record is held: a tensor of
the run lives as long as the network itself needs it.
"""

from __future__ import annotations

import operator
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from snncompile.capture.driver import Driver, Inputs, Session
from snncompile.capture.memory import is_update
from snncompile.capture.pristine import pristine
from snncompile.capture.trace import Raw, Ref, Trace, innermost, replace_leaves
from snncompile.errors import CompileError, Location, fail

VALUES = ("numpy", "tolist", "__array__")
AS_CALLED = "check --input-shape, --steps and --layout: the compiler calls the network just as your own evaluation loop does"
MIXED = (
    "the network mixes precisions: its inputs come in that of its weights (float32 where they are half); make spikes and states with"
    " .to(x) or zeros_like instead of .float(), .half() or torch.zeros"
)
METADATA = ("device", "size", "stride", "storage_offset", "sym_size", "sym_stride", "sym_storage_offset", "sym_numel", "is_contiguous")


def record(model: torch.nn.Module, driver: Driver, xs: Inputs, decisions: list[Location | None] | None = None) -> Trace:
    """Run ``model`` on one sample ``xs``, by input (T, 1, *shape), from a fresh state, and record it.

    A decision by the value of a tensor raises CompileError SNN112; a list as ``decisions`` takes its line instead, and the decision of
    this sample is followed.
    """
    twin = pristine(model)
    calls = [tuple(x.clone() for x in call) for call in driver.calls(xs)]  # a network may update its input in place
    recorder = Recorder(twin, decisions)
    taken: list[Location | None] = [] if decisions is None else decisions
    outs, answers = [], []
    try:
        with torch.no_grad(), recorder.modules(twin), recorder.watching(taken), as_written(), recorder:
            session = Session(driver, twin)
            for t, call in enumerate(calls):
                recorder.step = t
                recorder.hear(call)
                answers.append(session(call))
                outs.append([recorder.output(y) for y in answers[-1]])
    except CompileError:
        raise
    except Exception as e:
        raise _explain(e, recorder.running(twin)) from e
    if taken and decisions is None:
        raise fail(
            "SNN112", "the network takes values out of its tensors and computes with them, so one trace cannot stand for all inputs",
            loc=taken[0], help="compute with tensors, and replace the Python branch on a tensor by torch.where",
        )  # fmt: skip
    kept = any(recorder.nodes[name].op == "alias.default" and not recorder.nodes[name].refs for name in outs[-1])
    if kept and not any(is_update(raw) for raw in recorder.nodes.values()):
        raise fail(
            "SNN114", "an output of the network does not depend on its input", help="return the output of the last layer from forward"
        )
    return Trace(recorder.nodes, recorder.inputs, outs, driver.per_step, answers=answers)


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Executes every operation and notes it.

    Parameters, buffers and other tensors from outside the run become constants in the arguments, with the value that they had when they
    were first read. Numbers may be read from tensors that do not depend on the input, such as a buffer that holds the kind of reset.
    """

    def __init__(self, model: torch.nn.Module, decisions: list[Location | None] | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nodes: dict[str, Raw] = {}
        self.inputs: list[tuple[str, ...]] = []
        self.step = 0
        self.decisions = decisions
        self._names: MutableMapping[torch.Tensor, str] = WeakTensorKeyDictionary()
        self._constants: MutableMapping[torch.Tensor, torch.Tensor] = WeakTensorKeyDictionary()
        for p in model.parameters():
            self._constants[p] = p.detach()
        self._buffers = {b.data_ptr(): b.detach().clone() for b in model.buffers() if b.numel()}  # a run may update them in place
        self._free: set[str] = set()  # nodes that depend on the input
        self._counts: Counter[str] = Counter()
        self._path: list[str] = [""]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """PyTorch's hook; ``as_written`` does it where the network brings Dynamo along, whose import takes seconds."""
        return False

    def hear(self, call: Inputs) -> None:
        """The inputs of the next call."""
        for x in call:
            self._names[x] = self._node("input", "input", _no_function)
            self._free.add(self._names[x])
        self.inputs.append(tuple(self._names[x] for x in call))

    def output(self, value: torch.Tensor) -> str:
        """The node that computed a tensor; one from outside the run, which may have been written into, gets a node of its own."""
        alias = torch.ops.aten.alias.default
        return self._names.get(value) or self._node("output", "alias.default", alias, (self._leaf(value),))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation as it is, and note it if it computes tensors."""
        kwargs = kwargs or {}
        base = func.overloadpacket.__name__
        if base in METADATA:
            return func(*args, **kwargs)
        if torch.is_inference_mode_enabled():
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        given, named = replace_leaves(tuple(args), self._leaf), {k: replace_leaves(v, self._leaf) for k, v in kwargs.items()}
        raw = Raw("", str(func).removeprefix("aten."), func, given, named)
        free = any(r in self._free for r in raw.refs)
        if torch.Tag.data_dependent_output in func.tags:
            if free and self.decisions is None:
                raise RuntimeError(f"'{raw.op}' is data-dependent: it takes a number out of a tensor that depends on the input")
            if free and self.decisions is not None:
                self.decisions.append(_location(sys._getframe()))
            return func(*args, **kwargs)
        out = func(*args, **kwargs)
        name = self._node(base, raw.op, func, given, named)
        if free:
            self._free.add(name)
        self._track(out, name)
        return out

    def _leaf(self, leaf: Any) -> Any:
        """An argument as the record holds it: a reference, or a constant."""
        if not isinstance(leaf, torch.Tensor):
            return leaf
        name = self._names.get(leaf)
        if name is not None:
            return Ref(name)
        if leaf not in self._constants:
            buffer = self._buffers.get(leaf.data_ptr()) if leaf.numel() else None
            self._constants[leaf] = buffer if buffer is not None and buffer.shape == leaf.shape else leaf.detach().clone()
        return self._constants[leaf]

    def _node(
        self, base: str, op: str, function: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> str:
        name = f"{base}_{self._counts[base]}"
        self._counts[base] += 1
        loc = None if op == "input" else _location(sys._getframe())
        self.nodes[name] = Raw(name, op, function, args, kwargs or {}, self.step, loc, self._path[-1])
        return name

    def _track(self, out: Any, name: str) -> None:
        if isinstance(out, torch.Tensor):
            self._names[out] = name
        elif isinstance(out, (tuple, list)):
            for k, part in enumerate(out):
                if isinstance(part, (torch.Tensor, tuple, list)):
                    item = self._node("getitem", "getitem", operator.getitem, (Ref(name), k))
                    if name in self._free:
                        self._free.add(item)
                    self._track(part, item)

    def running(self, model: torch.nn.Module) -> list[str]:
        """The module whose forward has not returned, for people."""
        path = self._path[-1]
        if not path:
            return []
        module = model.get_submodule(path)
        what = type(module).__name__ if next(module.children(), None) is not None else repr(module).splitlines()[0]
        return [f"module '{path}' was running, {what}"]

    @contextmanager
    def modules(self, model: torch.nn.Module) -> Iterator[None]:
        """Know the path of the module that is running."""
        handles: list[Any] = []
        for path, module in model.named_modules():
            if isinstance(module, torch.jit.ScriptModule) or not path:
                continue

            def before(*_: object, path: str = path) -> None:
                self._path.append(path)

            def after(*_: object) -> None:
                self._path.pop()

            handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def watching(self, taken: list[Location | None]) -> Iterator[None]:
        """Note the lines that turn a tensor which depends on the input into NumPy's or Python's numbers."""

        def note(frame: Any, event: str, function: Any) -> None:
            if event == "c_call" and function.__name__ in VALUES:
                value = getattr(function, "__self__", None)
                if isinstance(value, torch.Tensor) and self._names.get(value) in self._free:
                    taken.append(innermost([(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)]))

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            yield
        finally:
            sys.setprofile(before)


def as_written() -> AbstractContextManager[Any]:
    """Modules that the user compiled with Dynamo run as they were written."""
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
    return stance


def _no_function(*_: object) -> None:
    raise AssertionError("an input is not computed")


def _location(frame: FrameType | None) -> Location | None:
    """The user's line that led here, no farther out than where the recorder called the network: in a module's ``forward``, if there is
    one, for what a helper computes means something only where it is called."""
    frames = []
    while frame is not None and frame.f_code is not Session.raw.__code__:
        frames.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return innermost([f for f in frames[::-1] if f[2] == "forward"]) or innermost(frames[::-1])


def _explain(e: Exception, running: list[str]) -> CompileError:
    text = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
    loc = innermost([(f.filename, f.lineno or 0, f.name) for f in traceback.extract_tb(e.__traceback__)])
    if "data-dependent" in str(e) or "data_dependent" in type(e).__name__.lower() or "item()" in text:
        return fail(
            "SNN112",
            "the network decides by the value of a tensor what to compute next, so one trace cannot stand for all inputs",
            loc=loc,
            notes=[text, *running],
            help="replace the Python branch on a tensor by torch.where",
        )
    return fail(
        "SNN113",
        f"the network raised {type(e).__name__} when it was run: {text}",
        loc=loc,
        notes=running,
        help=MIXED if "dtype" in text or "scalar type" in text else AS_CALLED,
    )


__all__ = ["record"]

"""Capture by execution: run the model under a dispatch tracer and keep every ATen operation that touches the input.

Python side effects, custom autograd functions, keyword arguments and loops dissolve, because the code is executed, not
parsed. Every node keeps the user's file and line and the path of the module that ran it.
"""

from __future__ import annotations

import operator
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, get_proxy_mode, get_proxy_slot, make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from snncompile.capture.driver import Driver, Inputs, Session
from snncompile.capture.pristine import pristine
from snncompile.errors import CompileError, Location, fail

FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
OWN = str(Path(__file__).parents[1])
TORCH = str(Path(torch.__file__).parent) + "/"
VALUES = ("numpy", "tolist", "__array__")


@dataclass(frozen=True)
class Ref:
    """A reference to another node's value."""

    name: str


@dataclass(eq=False)
class Raw:
    """One executed operation. ``args`` hold ``Ref``, tensors (constants) and plain values; ``step`` is the model step."""

    name: str
    op: str
    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    loc: Location | None = None
    module: str = ""
    shape: tuple[int, ...] = ()

    @property
    def refs(self) -> list[str]:
        """Names of the nodes that this one reads."""
        return [r.name for r in walk((self.args, tuple(self.kwargs.values()))) if isinstance(r, Ref)]


@dataclass
class Trace:
    """The flat record of a run: nodes by name in execution order, names of the inputs and of the outputs of every call.

    ``per_step`` says whether the model was called once per step, so that ``Raw.step`` is known; else there is one call, with a
    time axis in its inputs and outputs. ``reduced`` says for each output whether the network returns its ``mean`` or ``sum`` over time.
    """

    nodes: dict[str, Raw]
    inputs: list[tuple[str, ...]]
    outputs: list[list[str]]
    per_step: bool
    reduced: tuple[str, ...] = ()


def walk(value: object) -> Iterator[object]:
    """All leaves of nested tuples, lists and dicts."""
    if isinstance(value, (tuple, list)):
        for v in value:
            yield from walk(v)
    elif isinstance(value, dict):
        yield from walk(list(value.values()))
    else:
        yield value


def replace_leaves(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply ``function`` to all leaves of nested tuples and lists."""
    if isinstance(value, (tuple, list)):
        return (
            type(value)(replace_leaves(v, function) for v in value)
            if type(value) in (tuple, list)
            else [replace_leaves(v, function) for v in value]
        )
    return function(value)


def trace(model: torch.nn.Module, driver: Driver, xs: Inputs, decisions: list[Location | None] | None = None) -> Trace:
    """Run ``model`` on one sample ``xs``, by input (T, 1, *shape), from a fresh state, and record it.

    A decision by the value of a tensor raises CompileError SNN112; a list as ``decisions`` takes its line instead, and the decision of
    this sample is followed.
    """
    twin = pristine(model)
    buffers = {b.data_ptr(): b.detach().clone() for b in twin.buffers() if b.numel()}  # a run may update them in place
    spans: list[tuple[int, int, str]] = []
    marks: list[int] = []
    record: list[Any] = []
    calls, width = driver.calls(xs), len(xs)
    taken: list[Location | None] = [] if decisions is None else decisions

    def run(*inputs: torch.Tensor) -> list[list[torch.Tensor]]:
        mode = get_proxy_mode()
        tracer = mode.tracer  # type: ignore[union-attr]
        scalars = _ConstantScalars(tracer, decisions)
        with scalars, scalars.watching(taken), _module_spans(twin, spans, lambda: len(tracer.graph.nodes)):
            outs, session = [], Session(driver, twin)
            for t in range(len(calls)):
                outs.append(session(inputs[t * width : (t + 1) * width]))
                marks.append(len(tracer.graph.nodes))
        root: Any = tracer.root  # type: ignore[union-attr]
        record.extend((n, root) for n in tracer.graph.nodes)
        return outs

    try:
        with torch.no_grad():
            graph_module = make_fx(run, record_stack_traces=True, tracing_mode="real")(*[x for call in calls for x in call])
    except CompileError:
        raise
    except Exception as e:
        raise _explain(e) from e
    if taken and decisions is None:
        raise fail(
            "SNN112", "the network takes values out of its tensors and computes with them, so one trace cannot stand for all inputs",
            loc=taken[0], help="compute with tensors, and replace the Python branch on a tensor by torch.where",
        )  # fmt: skip
    return _collect(graph_module, record, marks, spans, driver.per_step, width, buffers)


class _ConstantScalars(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Let Python read numbers from tensors that do not depend on the input, such as a buffer that holds the kind of reset."""

    def __init__(self, tracer: Any, decisions: list[Location | None] | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tracer, self.decisions = tracer, decisions

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Read a constant outside the trace; everything else goes on to the tracer."""
        if func is torch.ops.aten._local_scalar_dense.default:
            free = self._depends_on_input(args[0])
            if free and self.decisions is not None:
                frames = [(f.filename, f.lineno or 0, f.name) for f in traceback.extract_stack()]
                self.decisions.append(innermost(frames))
            if not free or self.decisions is not None:
                with disable_proxy_modes_tracing():
                    return func(*args)
        return func(*args, **(kwargs or {}))

    @contextmanager
    def watching(self, taken: list[Location | None]) -> Iterator[None]:
        """Note the lines that turn a tensor which depends on the input into NumPy's or Python's numbers."""

        def note(frame: Any, event: str, function: Any) -> None:
            if event == "c_call" and function.__name__ in VALUES:
                value = getattr(function, "__self__", None)
                if isinstance(value, torch.Tensor) and self._depends_on_input(value):
                    taken.append(innermost([(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)]))

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            yield
        finally:
            sys.setprofile(before)

    def _depends_on_input(self, value: torch.Tensor) -> bool:
        slot = get_proxy_slot(value, self.tracer, None)
        stack = [] if slot is None else [slot.proxy.node]
        seen = set(stack)
        while stack:
            node = stack.pop()
            if node.op == "placeholder":
                return True
            fresh = [n for n in node.all_input_nodes if n not in seen]
            seen.update(fresh)
            stack += fresh
        return False


def _explain(e: Exception) -> CompileError:
    text = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
    loc = _traceback_location(e)
    if "data-dependent" in str(e) or "data_dependent" in type(e).__name__.lower() or "item()" in text:
        return fail(
            "SNN112",
            "the network decides by the value of a tensor what to compute next, so one trace cannot stand for all inputs",
            loc=loc,
            notes=[text],
            help="replace the Python branch on a tensor by torch.where",
        )
    return fail(
        "SNN113",
        f"the network raised {type(e).__name__} when it was run: {text}",
        loc=loc,
        help="check --input-shape, --steps and --layout: the compiler calls the network just as your own evaluation loop does",
    )


def _traceback_location(e: BaseException) -> Location | None:
    frames = []
    tb = e.__traceback__
    while tb is not None:
        frames.append((tb.tb_frame.f_code.co_filename, tb.tb_lineno, tb.tb_frame.f_code.co_name))
        tb = tb.tb_next
    return innermost(frames)


def innermost(frames: list[tuple[str, int, str]]) -> Location | None:
    """The innermost frame of the user's own code; else of a library other than torch."""
    foreign = [f for f in frames if not f[0].startswith(OWN + "/") or f"{OWN}/online/" in f[0]]
    foreign = [f for f in foreign if not f[0].startswith(TORCH) and not f[0].startswith("<") and "/numpy/" not in f[0]]
    own = [f for f in foreign if "site-packages" not in f[0] and "/lib/python3" not in f[0]]
    chosen = own or [f for f in foreign if "site-packages" in f[0]]
    if not chosen:
        return None
    file, line, function = chosen[-1]
    return Location(_short(file), line, function)


def _short(file: str) -> str:
    """A path relative to the working folder where it lies inside; a library's path from its package on."""
    path = Path(file)
    if "site-packages" in path.parts:
        return str(Path(*path.parts[path.parts.index("site-packages") + 1 :]))
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return path.name if OWN not in file else str(Path("snncompile") / path.relative_to(OWN))


@contextmanager
def _module_spans(model: torch.nn.Module, spans: list[tuple[int, int, str]], count: Callable[[], int]) -> Iterator[None]:
    """Note which nodes each module's call created: (first, end, module path)."""
    starts: list[int] = []
    handles: list[Any] = []

    def before(*_: object) -> None:
        starts.append(count())

    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule) or not path:
            continue

        def after(*_: object, path: str = path) -> None:
            spans.append((starts.pop(), count(), path))

        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _collect(
    graph_module: Any,
    record: list[Any],
    marks: list[int],
    spans: list[tuple[int, int, str]],
    per_step: bool,
    width: int,
    buffers: dict[int, torch.Tensor],
) -> Trace:
    """Turn the tracer's nodes into ``Raw`` nodes; parameters and buffers become constants in the arguments."""
    module_of = [""] * len(record)
    for first, end, path in sorted(spans, key=lambda s: s[0] - s[1]):  # widest first, so that inner modules overwrite
        module_of[first:end] = [path] * (end - first)
    constants: dict[str, Any] = {}
    nodes: dict[str, Raw] = {}
    inputs: list[str] = []
    step = 0

    def convert(value: Any) -> Any:
        if isinstance(value, torch.fx.Node):
            return constants[value.name] if value.name in constants else Ref(value.name)
        return value

    for k, (node, root) in enumerate(record):
        while step < len(marks) - 1 and k >= marks[step]:
            step += 1
        if node.op == "placeholder":
            nodes[node.name] = Raw(node.name, "input", _no_function, step=len(inputs) // width)
            inputs.append(node.name)
        elif node.op == "get_attr":
            value = operator.attrgetter(node.target)(root).detach()
            constants[node.name] = buffers.get(value.data_ptr(), value) if value.numel() else value
        else:
            frames = [(f, int(line), fn) for f, line, fn in FRAME.findall(node.stack_trace or "")]
            args = replace_leaves(tuple(node.args), convert)
            kwargs = {key: replace_leaves(v, convert) for key, v in node.kwargs.items()}
            op = str(node.target).removeprefix("aten.") if node.target is not operator.getitem else "getitem"
            nodes[node.name] = Raw(node.name, op, node.target, args, kwargs, step, innermost(frames), module_of[k])
    (output,) = [n for n in graph_module.graph.nodes if n.op == "output"]
    flat = [n.name if isinstance(n, torch.fx.Node) and n.op != "get_attr" else _constant_output() for n in walk(output.args)]
    returned = len(flat) // len(marks)
    by_call = [tuple(inputs[k : k + width]) for k in range(0, len(inputs), width)]
    return Trace(nodes, by_call, [flat[k * returned : (k + 1) * returned] for k in range(len(marks))], per_step)


def _no_function(*_: object) -> None:
    raise AssertionError("an input is not computed")


def _constant_output() -> str:
    raise fail("SNN114", "an output of the network does not depend on its input", help="return the output of the last layer from forward")

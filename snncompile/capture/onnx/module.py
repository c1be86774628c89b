"""An ONNX graph as a PyTorch module that runs it with PyTorch's operations, one time step a call.

States are kept between calls, from zero. Every sample is run on its own, as a batch of one: graphs are often exported for one
sample with its size written into their reshapes; ``torch.vmap`` runs many at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

from snncompile.capture.driver import Layout
from snncompile.capture.onnx.file import OnnxFile
from snncompile.capture.onnx.fixed import Fixed
from snncompile.capture.onnx.node import OPERATORS, Node
from snncompile.capture.onnx.states import Roles
from snncompile.errors import Location, fail
from snncompile.ir.graph import Shape

Call = Callable[[Callable[..., Any], tuple[Any, ...]], Any]


class OnnxNetwork(nn.Module):
    """``forward`` takes the network's inputs and gives its outputs, a tensor or a dict of tensors by name.

    states  the shapes of the states by the name of their input, with a batch of one
    """

    def __init__(self, file: OnnxFile, roles: Roles, fixed: Fixed, states: dict[str, Shape], layout: Layout) -> None:
        super().__init__()
        self.nodes, self.fixed, self.roles, self.state_shapes, self.layout = file.nodes, fixed, roles, states, layout
        self.kinds = {v.name: v.dtype for v in file.inputs}
        self.state: list[Tensor] | None = None
        self.whole = {name: value for name, value in file.stored.items() if not value.is_floating_point()}
        self.real: dict[str, str] = {}
        for name, value in file.stored.items():
            if name not in self.whole:
                self.real[name] = self._free(name)
                self.register_buffer(self.real[name], value)
        self.scopes: dict[str, str] = {}
        for n in file.nodes:
            if n.scope and n.scope not in self.scopes:
                self.scopes[n.scope] = self._free(n.scope)
                self.add_module(self.scopes[n.scope], _Scope())
        self.calls = {n.number: _call_at(n) for n in file.nodes}

    def forward(self, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
        """One step of a batch, or all steps where the graph holds the whole loop."""
        axis = 1 if self.layout == "TB" else 0
        batch = inputs[0].shape[axis]
        if self.state is None:
            self.state = [self._start(name, batch) for name in self.state_shapes]
        given = [x.to(v.dtype) if v.dtype.is_floating_point else x for x, v in zip(inputs, self.roles.inputs, strict=True)]
        if batch == 1:
            results = self.step(*given, *self.state)
        else:
            apart = [None if name in self.fixed.states else 0 for name in self.state_shapes]  # a fixed state is one for all samples
            run = torch.vmap(self.step, in_dims=(*(axis for _ in given), *apart), out_dims=(*(0 for _ in self.roles.outputs), *apart))  # type: ignore[arg-type]
            results = run(*(x.unsqueeze(axis + 1) for x in given), *self.state)
        count = len(self.roles.outputs)
        self.state = list(results[count:])
        outputs = [y if batch == 1 else self._joined(y, inputs[0]) for y in results[:count]]
        return outputs[0] if count == 1 else {_identifier(v.name): y for v, y in zip(self.roles.outputs, outputs, strict=True)}

    def _start(self, name: str, batch: int) -> Tensor:
        """A state before the first step: zeros, for every sample of a batch of more than one."""
        if name not in self.fixed.states:
            return torch.zeros((*(() if batch == 1 else (batch,)), *self.state_shapes[name]), dtype=self.kinds[name])
        with disable_proxy_modes_tracing():
            return torch.zeros(self.state_shapes[name], dtype=self.kinds[name])

    def _joined(self, y: Tensor, x: Tensor) -> Tensor:
        """Samples as the batch axis of an output that each gave with a batch of one: in front, or behind the time axis."""
        if self.layout == "TB" and y.dim() > 2 and y.shape[1] == len(x) and y.shape[2] == 1:
            return y.squeeze(2).transpose(0, 1)
        return y.squeeze(1)

    def step(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        """One step of one sample: inputs, then states, each with a batch axis of length 1; outputs, then states."""
        names = [*(v.name for v in self.roles.inputs), *self.state_shapes]
        values: dict[str, Any] = dict(zip(names, arguments, strict=True))
        values |= self.whole | {name: getattr(self, attribute) for name, attribute in self.real.items()}
        for n in self.nodes:
            given = tuple(values[name] if name else None for name in n.inputs)
            try:
                found = self._result(n, given)
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
                reason = (str(e).splitlines() or [type(e).__name__])[0]
                raise fail("SNN170", f"node '{n.name}' ({n.op}) cannot be run: {reason}", loc=Location(n.file, n.line, n.function)) from e
            values |= zip(n.outputs, found if isinstance(found, tuple) else (found,), strict=False)
        wanted = [*(v.name for v in self.roles.outputs), *(self.roles.states[name] for name in self.state_shapes)]
        return tuple(values[name] for name in wanted)

    def _result(self, n: Node, given: tuple[Any, ...]) -> Any:
        """What a node makes of its inputs."""
        if all(name in self.fixed.values for name in n.outputs):
            with disable_proxy_modes_tracing():
                return _copied(OPERATORS[n.op].run(n, *given))
        call: Any = getattr(self, self.scopes[n.scope]) if n.scope else _plainly
        return call(self.calls[n.number], OPERATORS[n.op].run, (n, *given))

    def _free(self, wish: str) -> str:
        """An attribute name for a tensor or a module of the file."""
        name = re.sub(r"\W+", "_", wish).strip("_") or "value"
        while hasattr(self, name):
            name += "_"
        return name


def _copied(found: Any) -> Any:
    """Values with memory of their own: the tracer takes what shares a buffer's for the buffer."""
    return tuple(y.clone() for y in found) if isinstance(found, tuple) else found.clone()


class _Scope(nn.Module):
    """Stands for a module of the exported network: operations that run through it are known by its name."""

    def forward(self, call: Call, run: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Run an operation."""
        return call(run, arguments)


def _plainly(call: Call, run: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return call(run, arguments)


_call = lambda run, arguments: run(*arguments)  # noqa: E731 - one line, so that its copies can stand at any line


def _call_at(n: Node) -> Call:
    """A call whose frame in a stack trace is the place where the user wrote the node; the tracer keeps frames called ``forward``."""
    code = _call.__code__.replace(co_filename=n.file, co_firstlineno=n.line, co_name="forward")
    return FunctionType(code, {})


def _identifier(name: str) -> str:
    plain = re.sub(r"\W+", "_", name).strip("_")
    return plain if plain.isidentifier() else f"out_{plain}"


__all__ = ["OnnxNetwork"]

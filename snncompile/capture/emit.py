"""From a rolled step with recognised populations to a float graph.

Starting at the outputs, every value becomes IR: layers one to one, data movement as gathers, leftover pointwise arithmetic as
affine maps and sums, states as delays or linear filters. What has no place in the IR is an error at the user's line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import torch

from snncompile.capture.expressions import RANKS, Expressions, base, strip
from snncompile.capture.layers import LAYERS, MOVES, Layer, is_spatial, moved_index, reduced_axes
from snncompile.capture.membrane import filter_population
from snncompile.capture.population import NotNormal, Population
from snncompile.capture.program import ProgramPopulation, program_around
from snncompile.capture.program_writer import NotPointwise
from snncompile.capture.roll import PerStep, Prev, Rolled
from snncompile.capture.trace import Raw, Ref
from snncompile.errors import CompileError, InternalError, fail
from snncompile.ir.graph import Array, Dialect, Graph, Op, Shape, fresh_name, prune, toposort, validate
from snncompile.ir.linear_ops import Add, Affine, Delay, Gather, Input
from snncompile.ir.neuron import Neuron
from snncompile.ir.program import NeuronProgram

SUMMANDS = 64  # more places than this are no sum of a few


class Builder:
    """Builds the graph of one rolled step."""

    def __init__(
        self,
        rolled: Rolled,
        ex: Expressions,
        populations: list[Population | ProgramPopulation],
        name: str,
        steps: int,
        inputs: Mapping[str, Shape],
    ) -> None:
        self.rolled, self.ex, self.name, self.steps = rolled, ex, name, steps
        self.inputs = dict(zip(rolled.inputs, inputs.items(), strict=True))
        self.ops: dict[str, Op] = {}
        self.refs: dict[str, str] = {}
        self.shapes: dict[str, Shape] = {}
        self.owner = {node: p for p in populations for node in p.ports}
        self.neuron_names: dict[str, str] = {}
        for p in populations:
            self._reserve(p)
        self.pending: list[tuple[str, str]] = []
        self.programs: list[ProgramPopulation] = []

    def build(self, labels: list[str]) -> Graph:
        """The graph whose outputs are the rolled step's outputs, under these labels."""
        outputs = self.outputs(labels)
        while self.pending:  # inputs of delays, which may point forward
            delay, node = self.pending.pop()
            op = self.ops[delay]
            assert isinstance(op, Delay)
            self.ops[delay] = replace(op, inputs=(self.value(node),))
        nodes = toposort(list(self.ops.values()))
        graph = prune(Graph(name=self.name, dialect=Dialect.FLOAT, nodes=nodes, outputs=outputs, steps=self.steps))
        validate(graph)
        return graph

    def outputs(self, labels: list[str]) -> dict[str, str]:
        """References of the outputs by label; a label that names another population (``self.out``, whose membrane is the output) yields."""
        refs = [self.value(node) for node in self.rolled.outputs]
        found: dict[str, str] = {}
        for label, ref in zip(labels, refs, strict=True):
            free = label == ref or label not in self.neuron_names.values()
            found[label if free else fresh_name({*self.neuron_names.values(), *labels}, f"{label}_value")] = ref
        return found

    def shape(self, node: str) -> Shape:
        """A node's shape without batch and time axes."""
        if node in self.inputs:
            return self.inputs[node][1]
        return self.rolled.nodes[node].shape[self.ex.lead.get(node, 1) :] or (1,)

    # values ---------------------------------------------------------------------------------------------------------

    def value(self, node: str) -> str:
        """The reference of a rolled node's value, emitting what it needs."""
        if node not in self.refs:
            self.refs[node] = self._emit(node)
        return self.refs[node]

    def _emit(self, node: str) -> str:
        if node in self.rolled.inputs:
            return self._input(node)
        if node in self.owner:
            return self._port(node, self.owner[node])
        raw = self.rolled.nodes[node]
        op = base(raw)
        if op in MOVES:
            return self._move(raw)
        if op in ("sum", "mean") and not is_spatial(raw, self.raw_shape(raw.args[0])):
            return self._total(raw)
        if op in LAYERS:
            return self._layer(raw, LAYERS[op](raw, self))
        if op in ("cat", "stack"):
            return self._cat(raw)
        if self.ex.is_atom(node):
            raise self.impossible(raw, f"the operation '{raw.op}' has no place in a spiking network on a chip")
        return self._pointwise(node)

    def impossible(self, raw: Raw, message: str, help: str | None = None) -> CompileError:  # noqa: A002 - the word users see
        """The error for an operation that cannot be deployed."""
        where = f" (in module '{raw.module}')" if raw.module else ""
        return fail(
            "SNN121", f"{message}{where}", loc=raw.loc, help=help or "move it out of the network, or replace it by layers and neurons"
        )

    def argument(self, leaf: Any) -> str:
        """The reference of an argument that must be a value of this or an earlier step."""
        if isinstance(leaf, Ref):
            return self.value(leaf.name)
        if isinstance(leaf, Prev):
            return self.past(leaf.name, leaf.delay)
        raise InternalError("an argument is neither a value nor a state")

    def past(self, node: str, delay: int = 1) -> str:
        """The reference of a node's value ``delay`` steps ago; the delay's input is emitted at the end."""
        key = f"prev{delay}:{node}"
        if key not in self.refs:
            size = self.shape(node)
            initial = strip(self.rolled.initial[node].detach().double().numpy(), len(size))
            initial = initial.reshape((1,) * (len(size) - initial.ndim) + initial.shape)
            if initial.size and np.all(initial == initial.flat[0]):
                initial = np.full((1,) * len(size), initial.flat[0])
            source = "" if delay == 1 else self.past(node, delay - 1)
            raw = self.rolled.nodes.get(node)
            name = self._name(f"{self.inputs[node][0] if raw is None else self._wish(raw)}_past")
            loc = None if raw is None else raw.loc
            self.ops[name] = Delay(name=name, inputs=(source,) if source else (), size=size, initial=initial, loc=loc)
            self.refs[key] = name
            if not source:
                self.pending.append((name, node))
        return self.refs[key]

    def _input(self, node: str) -> str:
        wish, size = self.inputs[node]
        name = self._name(wish)
        self.ops[name] = Input(name=name, size=size, static=self.rolled.static)
        return name

    # populations ----------------------------------------------------------------------------------------------------

    def _reserve(self, p: Population | ProgramPopulation) -> None:
        self.neuron_names[p.node] = self._name(self._wish(self.rolled.nodes[p.node], "neuron"))

    def _port(self, node: str, p: Population | ProgramPopulation) -> str:
        name = self.neuron_names[p.node]
        if name not in self.ops:
            if isinstance(p, ProgramPopulation):
                self.ops[name] = self._program(name, p)
            else:
                self.ops[name] = self._neuron(name, p)
        port, factor, shift = p.ports[node]
        ref = f"{name}.{port}" if port else name
        if (factor, shift) == (1.0, 0.0):
            return ref
        rank = len(self.shape(node))
        return self._add(
            Affine(
                name=self._name(f"{name}_out"),
                inputs=(ref,),
                factor=np.full((1,) * (rank + 1), factor),
                shift=np.full((1,) * (rank + 1), shift),
            )
        )

    def _neuron(self, name: str, p: Population) -> Neuron:
        raw = self.rolled.nodes[p.node]
        currents, gain = self._current(raw, p)
        return Neuron(
            name=name, inputs=(currents,), loc=raw.loc, fire=p.fire, reset=p.reset, leak=p.leak, gain=gain, bias=p.bias,
            theta=p.theta, reset_amount=p.reset_amount, reset_value=p.reset_value, v_init=p.v_init, grid=p.grid, levels=p.levels,
            max_spikes=p.max_spikes, reset_keep=p.reset_keep, v_min=p.v_min, adapt_decay=p.adapt_decay, adapt_jump=p.adapt_jump,
            adapt_reset=p.adapt_reset,
        )  # fmt: skip

    def _program(self, name: str, p: ProgramPopulation) -> NeuronProgram:
        shape = self.shape(p.node)
        one, zero = np.ones(1), np.zeros(1)
        return NeuronProgram(
            name=name, inputs=tuple(self._spread(self._atom(key), shape) for key in p.currents), loc=self.rolled.nodes[p.node].loc,
            code=p.code, places=p.places, payload=p.payload, membrane=p.membrane, threshold=p.threshold, following=p.following,
            initial=p.initial, constants=p.constants, gain=(one,) * len(p.currents), bias=(zero,) * len(p.currents),
        )  # fmt: skip

    def _spread(self, ref: str, shape: Shape) -> str:
        """A value as every element of a larger shape reads it."""
        given = self._shape_of(ref)
        if given == shape:
            return ref
        index = np.arange(prod(given)).reshape((1,) * (len(shape) - len(given)) + given)
        index = strip(index, len(shape))
        return self._add(Gather(name=self._name("spread"), inputs=(ref,), index=np.ascontiguousarray(np.broadcast_to(index, shape))))

    def _current(self, raw: Raw, p: Population) -> tuple[str, Array]:
        """The input of a population and its gain; different gains become affine maps."""
        shape = self.shape(p.node)
        one = np.ones((1,) * (len(shape) + 1))
        if not p.currents:
            raise self.impossible(raw, "a neuron has no input current")
        first = next(iter(p.currents.values()))
        if all(np.array_equal(g, first) for g in p.currents.values()):
            return self._sum(raw, [self._atom(a) for a in p.currents], shape), first
        terms = [self._scaled(raw, self._atom(a), g) for a, g in p.currents.items()]
        return self._sum(raw, terms, shape), one

    def _atom(self, key: str) -> str:
        if key.startswith("prev"):
            head, _, node = key.partition(":")
            return self.past(node, int(head[4:] or 1))
        return self.value(key)

    # pointwise leftovers --------------------------------------------------------------------------------------------

    def _pointwise(self, node: str) -> str:
        raw = self.rolled.nodes[node]
        expression = self.ex.of(node)
        if expression is None or expression.products:
            return self._program_value(node)
        if f"prev:{node}" in expression.lin.terms:
            return self._filter(node)
        shape, lin = self.shape(node), expression.lin
        if not lin.terms:
            raise self.impossible(raw, "a value is the same whatever the input is")
        if len(lin.terms) == 1:
            ((key, factor),) = lin.terms.items()
            return self._scaled(raw, self._atom(key), factor, lin.const)
        terms = [self._scaled(raw, self._atom(a), g) for a, g in lin.terms.items()]
        total = self._sum(raw, terms, shape)
        return self._scaled(raw, total, np.ones((1,) * (len(shape) + 1)), lin.const)

    def _program_value(self, node: str) -> str:
        """A value that no threshold leads to, as what a neuron program sends."""
        raw = self.rolled.nodes[node]
        try:
            p = program_around(node, self.rolled, self.ex)
        except NotPointwise as e:
            culprit = self.rolled.nodes.get(e.node, raw)
            raise self.impossible(
                culprit, f"the operation '{culprit.op}' is neither linear nor part of a neuron or its program: {e}"
            ) from None
        self.ex.settle([*p.ports, *p.inner])
        self.owner |= dict.fromkeys(p.ports, p)
        self._reserve(p)
        self.programs.append(p)
        return self._port(node, p)

    def _filter(self, node: str) -> str:
        try:
            p = filter_population(node, self.rolled, self.ex)
        except NotNormal as e:
            raise self.impossible(self.rolled.nodes[node], f"a state has no normal form: {e}") from None
        self.ex.settle(p.ports)
        self.owner[node] = p
        self._reserve(p)
        return self._port(node, p)

    def _scaled(self, raw: Raw, ref: str, factor: Array, shift: Array | None = None) -> str:
        shift = np.zeros_like(factor) if shift is None else shift
        if np.all(factor == 1) and not np.any(shift):
            return ref
        return self._add(Affine(name=self._name(self._wish(raw, "scale")), inputs=(ref,), factor=factor, shift=shift, loc=raw.loc))

    def _sum(self, raw: Raw, refs: list[str], shape: Shape) -> str:
        if len(refs) == 1:
            return refs[0]
        refs = [self._shaped(raw, ref, shape) for ref in refs]
        return self._add(Add(name=self._name(self._wish(raw, "sum")), inputs=tuple(refs), loc=raw.loc))

    def _shaped(self, raw: Raw, ref: str, shape: Shape) -> str:
        """The same elements in another shape: what PyTorch broadcasts over axes of length 1."""
        found = self._shape_of(ref)
        if found == shape:
            return ref
        whole = np.arange(prod(found))
        if prod(found) == prod(shape):
            index = whole.reshape(shape)
        elif len(found) == len(shape) and all(a in (1, b) for a, b in zip(found, shape, strict=True)):
            index = np.array(np.broadcast_to(whole.reshape(found), shape))
        else:
            return ref
        return self._add(Gather(name=self._name(self._wish(raw, "wire")), inputs=(ref,), index=index, loc=raw.loc))

    # layers and wiring ----------------------------------------------------------------------------------------------

    def _layer(self, raw: Raw, layers: list[Layer]) -> str:
        ref = self.argument(layers[0].source)
        if base(raw) in RANKS and "pool2d" in base(raw):  # a vector with axes of length 1 around it is a map, too
            ref = self._shaped(raw, ref, self.raw_shape(layers[0].source)[-3:])
        for make in layers:
            op = make.op(self._name(self._wish(raw)), (ref,), raw.loc)
            try:
                op.infer(self._shape_of(ref))
            except ValueError as e:
                raise self.impossible(raw, f"'{raw.op}': {e}") from None
            ref = self._add(op)
        return ref

    def _move(self, raw: Raw) -> str:
        source = raw.args[0]
        if base(raw) == "constant_pad_nd" and len(raw.args) > 2 and raw.args[2] != 0:
            raise self.impossible(raw, f"padding with {raw.args[2]:g}", "pad with 0")
        ref = self.argument(source)
        shape = self._shape_of(ref)
        index = moved_index(raw, self.raw_shape(source)).reshape(self.shape(raw.name))
        if index.shape == shape and np.array_equal(index.reshape(-1), np.arange(index.size)):
            return ref
        return self._add(Gather(name=self._name(self._wish(raw, "wire")), inputs=(ref,), index=index, loc=raw.loc))

    def _total(self, raw: Raw) -> str:
        """A sum or mean over a few places along other axes: their gathers, added."""
        shape = self.raw_shape(raw.args[0])
        axes = reduced_axes(raw, shape)
        count = prod(shape[d] for d in axes)
        if count > SUMMANDS:
            message = f"'{raw.op}' over axes {axes} of a value of shape {list(shape)}"
            raise self.impossible(raw, message, "reduce over both spatial axes of a feature map, or outside the network")
        ref, size = self.argument(raw.args[0]), self.shape(raw.name)
        places = np.moveaxis(np.arange(prod(shape)).reshape(shape), axes, range(-len(axes), 0)).reshape(-1, count)
        parts = [
            self._add(Gather(name=self._name(self._wish(raw, "part")), inputs=(ref,), index=places[:, k].reshape(size), loc=raw.loc))
            for k in range(count)
        ]
        share = 1.0 / count if base(raw) == "mean" else 1.0
        return self._scaled(raw, self._sum(raw, parts, size), np.full((1,) * (len(size) + 1), share))

    def _cat(self, raw: Raw) -> str:
        """Concatenation: the sum of zero-padded gathers; constant parts are added at the end."""
        parts = raw.args[0]
        shapes = [tuple(p.shape) if isinstance(p, torch.Tensor) else self.raw_shape(p) for p in parts]
        size = self.shape(raw.name)
        kept = [p.detach().double() if isinstance(p, torch.Tensor) else torch.zeros(s) for p, s in zip(parts, shapes, strict=True)]
        shift = raw.function(kept, *raw.args[1:], **raw.kwargs).double().numpy().reshape(1, *size)
        refs = []
        for k, part in enumerate(parts):
            if isinstance(part, torch.Tensor):
                continue
            pieces = [torch.zeros(s, dtype=torch.int64) for s in shapes]
            pieces[k] = torch.arange(1, prod(shapes[k]) + 1).reshape(shapes[k])
            index = raw.function(pieces, *raw.args[1:], **raw.kwargs).numpy().reshape(self.shape(raw.name)) - 1
            ref = self.argument(part)  # before the name is chosen: what it emits may want the same one
            refs.append(self._add(Gather(name=self._name(self._wish(raw, "part")), inputs=(ref,), index=index, loc=raw.loc)))
        joined = self._sum(raw, refs, size)
        return self._scaled(raw, joined, np.ones((1,) * (len(size) + 1)), shift) if np.any(shift) else joined

    def raw_shape(self, leaf: Any) -> tuple[int, ...]:
        """The shape that PyTorch sees."""
        if isinstance(leaf, (Ref, Prev)):
            return self.rolled.inputs[leaf.name] if leaf.name in self.rolled.inputs else self.rolled.nodes[leaf.name].shape
        raise InternalError("an argument is neither a value nor a state")

    def _shape_of(self, ref: str) -> Shape:
        """The IR shape of an emitted value."""
        name = ref.partition(".")[0]
        if name not in self.shapes:
            op = self.ops[name]
            self.shapes[name] = op.size if isinstance(op, (Input, Delay)) else op.infer(*(self._shape_of(r) for r in op.inputs))
        return self.shapes[name]

    def _add(self, op: Op) -> str:
        self.ops[op.name] = op
        return op.name

    def _wish(self, raw: Raw, fallback: str | None = None) -> str:
        """A readable name: the module's path, else the operation."""
        return re.sub(r"\W+", "_", raw.module) if raw.module else fallback or re.sub(r"\W+", "_", base(raw)).strip("_")

    def _name(self, wish: str) -> str:
        taken = {*self.ops, *self.neuron_names.values()}
        return fresh_name(taken, wish)


def coefficients(leaf: Any) -> Array:
    """A constant argument of a layer in float64, per step with a leading axis; refuses a value."""
    if isinstance(leaf, PerStep):
        return np.stack([coefficients(v) for v in leaf.values])
    if isinstance(leaf, torch.Tensor):
        return leaf.detach().double().cpu().numpy()
    raise InternalError("a layer's parameter is not a constant")

"""NIR to the float graph, with nothing decided in silence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from snncompile.capture.nir.choices import Choices, Question, is_own, make_choices
from snncompile.capture.nir.delays import delay_steps, make_delay
from snncompile.capture.nir.flat import Flat, flatten
from snncompile.capture.nir.layers import carried, make_layer, misfit, output_shape, parameter_misfits
from snncompile.capture.nir.loops import order
from snncompile.capture.nir.neurons import make_neuron
from snncompile.capture.nir.nodes import RawGraph, RawNode
from snncompile.capture.nir.own import OWN, own_name, own_op
from snncompile.capture.nir.read import from_memory, read_nir
from snncompile.capture.nir.schema import NEURONS, NODES, SPIKING, numbers
from snncompile.errors import CompileError, Diagnostic, fail
from snncompile.ir.graph import Array, Dialect, Graph, Op, Shape, fresh_name, toposort, validate
from snncompile.ir.interpret import evaluate_stateless
from snncompile.ir.linear_ops import Add, Delay, Gather, Input
from snncompile.ir.neuron import Neuron
from snncompile.ledger import Decision


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A network from a file of another tool.

    graph      what it computes, by the dialect      decisions  everything that the file left open, and who decided it
    dialect    the dialect's name                    facts      plain values about the file
    questions  the decisions on conventions          again      the same file under another dialect, or other conventions
    """

    graph: Graph
    decisions: tuple[Decision, ...]
    dialect: str
    facts: Mapping[str, Any]
    questions: tuple[Question, ...] = ()
    again: Callable[[str | None, Mapping[str, str]], Graph] | None = field(default=None, repr=False, compare=False)

    def measured(self, x: Array | None = None) -> tuple[Decision, ...]:
        """The decisions with what each changes: the network runs under the alternatives, on samples (N, T | 1, *shape) or random input."""
        from snncompile.capture.nir.effects import measure  # noqa: PLC0415 - it imports this module

        return measure(self, x)


def import_nir(
    source: Path | str | Any,
    *,
    steps: int,
    dialect: str | None = None,
    settings: Mapping[str, str] | Iterable[str] = (),
    name: str | None = None,
) -> Imported:
    """Read a ``.nir`` file, or take a ``nir.NIRGraph``, as the network that its tool means.

    steps     T, how many steps a sample has                 dialect   whose conventions hold; see ``DIALECTS``
    settings  what overrides them, ``{"compare": "ge", "lif1.min_v": "-1"}`` or ``["compare=ge"]``; see ``Conventions``
    raises    CompileError: SNN160-163 a malformed file, with every node and field that is wrong; SNN164 no dialect; SNN165 a wrong
              option; SNN166 a file of another dialect; SNN167 what cannot be expressed
    """
    if isinstance(source, (str, Path)):
        return import_raw(read_nir(Path(source)), steps=steps, dialect=dialect, settings=settings, name=name, file=Path(source).name)
    return import_raw(from_memory(source, name or "network"), steps=steps, dialect=dialect, settings=settings, name=name)


def import_raw(
    raw: RawGraph, *, steps: int, dialect: str | None = None, settings: Mapping[str, str] | Iterable[str] = (), name: str | None = None,
    file: str = "",
) -> Imported:  # fmt: skip
    """``import_nir`` of what has been read already."""
    if steps < 1:
        raise fail("SNN165", f"steps is {steps}", help="a sample has at least one step")
    flat = flatten(raw)
    choices = make_choices(raw, flat.nodes, dialect=dialect, settings=settings, file=file)
    graph = _Builder(flat, choices, steps).graph(name or str(raw.metadata.get(f"{OWN}_name", raw.name)))
    kind = "snncompile" if is_own(raw) else choices.dialect.name
    facts = {"kind": "NIR", "nir_version": raw.version, "nir_dialect": kind, "nodes": len(flat.nodes)}
    given = list(settings.items()) if isinstance(settings, Mapping) else [(k, v) for k, _, v in (text.partition("=") for text in settings)]

    def again(other: str | None, more: Mapping[str, str]) -> Graph:
        return import_raw(raw, steps=steps, dialect=other or dialect, settings={**dict(given), **more}, name=name, file=file).graph

    own = is_own(raw)
    return Imported(
        graph=graph, decisions=_decisions(choices, raw), dialect=kind, facts=facts, questions=() if own else tuple(choices.questions()),
        again=None if own else again,
    )  # fmt: skip


def _decisions(choices: Choices, raw: RawGraph) -> tuple[Decision, ...]:
    if not is_own(raw):
        return choices.decisions()
    own = Decision(
        stage="file", what="NIR dialect", value="snncompile", why="its nodes carry their exact meaning as metadata", source="the file",
        where=choices.file,
    )  # fmt: skip
    return (own, *choices.decisions()[1:])


class _Builder:
    """One import: shapes first, then one op or a few for each node, then the loops."""

    def __init__(self, flat: Flat, choices: Choices, steps: int) -> None:
        self.flat, self.choices, self.steps = flat, choices, steps
        cut = {n for n, node in flat.nodes.items() if node.type == "Delay" and delay_steps(node, choices).min() >= 1}
        self.order, self.back = order(flat, cut)
        self.shapes: dict[str, Shape] = {}
        self.names: dict[str, str] = {}
        self.ops: dict[str, Op] = {}
        self.refs: dict[str, str] = {}
        self.taken: set[str] = set()
        self.loops: list[tuple[str, RawNode]] = []

    def graph(self, name: str) -> Graph:
        """The float graph."""
        self.shapes = self._infer_shapes()
        for path, node in self.flat.nodes.items():
            wish = own_name(node) or _identifier(node)
            if node.type == "Output":  # a label, not a node
                self.names[path] = fresh_name({self.names[p] for p in self.names if self.flat.nodes[p].type == "Output"}, wish)
                continue
            self.names[path] = self.refs[path] = self._fresh(wish)
            if node.type == "Input" and carried(self.shapes[path]) != self.shapes[path]:
                self.refs[path] = self._fresh(f"{self.names[path]}_rows")
        outputs: dict[str, str] = {}
        for path in self.order:
            node = self.flat.nodes[path]
            if node.type == "Output":
                outputs[self.names[path]] = self._source(path)
            else:
                self._add_node(node)
        graph = Graph(name=_word(name), dialect=Dialect.FLOAT, nodes=toposort(list(self.ops.values())), outputs=outputs, steps=self.steps)
        validate(graph)
        return self._with_starts(graph)

    def _fresh(self, wish: str) -> str:
        name = fresh_name(self.taken, wish)
        self.taken.add(name)
        return name

    # ------------------------------------------------------------ shapes

    def _infer_shapes(self) -> dict[str, Shape]:
        """NIR shapes by path; inputs that were recorded with axes of batch and time lose them where nothing else fits."""
        given = {p: numbers(n, "shape") for p, n in self.flat.nodes.items() if n.type == "Input"}
        shapes, found = self._attempt(given)
        for extra in (1, 2):
            if not found or min(map(len, given.values())) <= extra:
                break
            shorter, still = self._attempt({p: s[extra:] for p, s in given.items()})
            if still:
                continue
            for path, shape in given.items():
                why = f"the file says {list(shape)}, which does not fit: it begins with the batch of the writer's sample"
                self.choices.say(f"shape of input {path}", str(list(shape[extra:])), why, node=self.flat.nodes[path])
            return shorter
        if found:
            raise CompileError(found)
        return shapes

    def _attempt(self, inputs: Mapping[str, Shape]) -> tuple[dict[str, Shape], list[Diagnostic]]:
        shapes: dict[str, Shape] = dict(inputs)
        found: list[Diagnostic] = []
        waiting = [path for path in self.order if path not in shapes]
        while waiting:
            ready = [p for p in waiting if any(s in shapes for s in self.flat.sources(p))]
            if not ready:
                break
            path = ready[0]
            waiting.remove(path)
            node = self.flat.nodes[path]
            source = next(s for s in self.flat.sources(path) if s in shapes)
            result = self._output(node, shapes[source])
            if isinstance(result, Diagnostic):
                found.append(result)
            else:
                found += parameter_misfits(node, tuple(NODES[node.type]), shapes[source]) if node.type in NEURONS else ()
                shapes[path] = result
        for a, b in self.flat.edges:
            first = next((s for s in self.flat.sources(b) if s in shapes), a)
            if a in shapes and shapes[a] != shapes[first]:
                found.append(
                    misfit(self.flat.nodes[b], f"adds '{first}' of shape {list(shapes[first])} and '{a}' of shape {list(shapes[a])}")
                )
        return shapes, found + list(self._outputs(shapes))

    def _output(self, node: RawNode, shape: Shape) -> Shape | Diagnostic:
        op = own_op(node, "x", ("y",))
        if op is None:
            return output_shape(node, shape)
        try:
            result = op.infer(carried(shape))
        except ValueError as e:
            return misfit(node, str(e))
        return shape if result == carried(shape) else result

    def _outputs(self, shapes: Mapping[str, Shape]) -> Iterator[Diagnostic]:
        for path, node in self.flat.nodes.items():
            if node.type == "Output" and "shape" in node.fields and path in shapes:
                said = numbers(node, "shape")
                if said[max(0, len(said) - len(shapes[path])) :] != shapes[path]:  # some writers keep the batch axis
                    yield misfit(node, f"field 'shape' says {list(said)}, what reaches it has shape {list(shapes[path])}")

    # ------------------------------------------------------------ ops

    def _add(self, op: Op) -> None:
        self.ops[op.name] = op

    def _source(self, path: str) -> str:
        """The value that a node reads: one source, or the sum of several; a backward edge through the step before."""
        parts = []
        for source in self.flat.sources(path):
            ref = self.refs[source]
            if (source, path) in self.back:
                size = carried(self.shapes[source])
                label = self._fresh(f"{ref}_before")
                self.loops.append((label, self.flat.nodes[path]))
                self._add(Delay(name=label, inputs=(ref,), origin=(source,), size=size, initial=np.zeros((1,) * len(size))))
                self._say_loop(source, path)
                ref = label
            parts.append(ref)
        if len(parts) == 1:
            return parts[0]
        label = self._fresh(f"{self.names[path]}_sum")
        self._add(Add(name=label, inputs=tuple(parts), origin=(path,)))
        return label

    def _add_node(self, node: RawNode) -> None:
        name, shape = self.names[node.path], self.shapes[node.path]
        if node.type == "Input":
            self._add(own_op(node, name, ()) or Input(name=name, size=shape, origin=(node.path,)))
            if self.refs[node.path] != name:
                self._add(Gather(
                    name=self.refs[node.path], inputs=(name,), origin=(node.path,), index=np.arange(prod(shape)).reshape(carried(shape))
                ))  # fmt: skip
            return
        sources = self.flat.sources(node.path)
        source = self._source(node.path)
        before = self.shapes[sources[0]]
        own = own_op(node, name, (source,))
        if own is not None:
            self._add(own)
        elif node.type == "Delay":
            for op in make_delay(node, name, source, before, self.choices):
                self._add(op)
        elif node.type in NEURONS:
            self._add(make_neuron(node, name, source, before, self.choices))
        else:
            self._add(make_layer(node, name, source, before))

    # ------------------------------------------------------------ loops

    def _say_loop(self, source: str, path: str) -> None:
        self.choices.say(
            f"loop edge {source} -> {path}", "the value of the step before", "a loop needs a step, and NIR says nothing of where",
            source="default", node=self.flat.nodes[path],
        )  # fmt: skip

    def _with_starts(self, graph: Graph) -> Graph:
        """What the edges of loops carry at the first step: zero, or what the loop answers to no spikes."""
        starts: dict[str, Array] = {}
        for label, node in self.loops:
            if self.choices.of(node, "feedback") == "spike":
                start = at_rest(graph, graph.by_name[label].inputs[0])
                if np.any(start):
                    starts[label] = start
            self._check_loop(node)
        return graph.map_nodes(lambda op: replace(op, initial=starts[op.name]) if isinstance(op, Delay) and op.name in starts else op)

    def _check_loop(self, node: RawNode) -> None:
        of, dialect = self.choices.of, self.choices.dialect
        if dialect.loops:
            raise fail(
                "SNN167", f"node {node.label} stands in a loop, which {dialect.tool}, reads wrongly: {dialect.loops}",
                help="choose the dialect of the tool that wrote the file",
            )  # fmt: skip
        if node.type in SPIKING and dialect.name == "snntorch" and of(node, "reset") == "zero" and of(node, "reset_delay"):
            raise fail(
                "SNN167", f"node {node.label}: snnTorch's recurrent neurons with a delayed reset to zero lose the input of that step, too",
                help="if the network has reset_delay=False, set --nir-set reset_delay=no",
            )  # fmt: skip


def at_rest(graph: Graph, ref: str) -> Array:
    """A value while no population sends anything."""
    op = graph.node(ref)
    if isinstance(op, (Neuron, Delay, Input)):
        return np.zeros(graph.shape(ref))
    out: Array = evaluate_stateless(op, [at_rest(graph, r)[None] for r in op.inputs], 0)[0]
    return out


def _word(text: str) -> str:
    word = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "n"
    return word if not word[0].isdigit() else f"n{word}"


def _identifier(node: RawNode) -> str:
    """A node name as the text form has it; a bare number gets its type in front."""
    word = re.sub(r"\W+", "_", node.path, flags=re.ASCII).strip("_")
    return f"{node.type.lower()}_{word}".rstrip("_") if not word or word[0].isdigit() else word


__all__ = ["Imported", "import_nir", "import_raw"]

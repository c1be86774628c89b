"""What commands that learn share: a compiled network with a plastic layer, the spikes that reach it, a stream and a held-out part."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from snncompile.backends.bundle import Bundle
from snncompile.cli.data import TEACHER, Data
from snncompile.cli.progress import Progress
from snncompile.cli.work.verifying import warn_clipped
from snncompile.errors import fail
from snncompile.ir import reference
from snncompile.ir.graph import Array, Graph
from snncompile.learning import attach
from snncompile.learning.chain import links
from snncompile.learning.float_rule import float_stages
from snncompile.learning.modulator import ACTIVITY_TOP
from snncompile.learning.program import LearningProgram, no_labels, no_teacher, nothing_learns
from snncompile.pipeline import Compiled
from snncompile.verify import default_input
from snncompile.verify.dynamics import input_values
from snncompile.verify.saturation import clipped_inputs

if TYPE_CHECKING:
    from snncompile.online.chain import Stage

BATCH = 32
HELD_OUT = 4
TRIAL = 4096


def make_plastic(
    compiled: Compiled, options: attach.LearnOptions, headroom: str | None, data: Data | None, progress: Progress
) -> tuple[Compiled, LearningProgram]:
    """The compiled network with layers that learn.

    headroom  a number for all layers, or ``layer=number`` with commas between. For layers that it does not name, the float rule is run on
              labelled data (at most 4,096 samples), and what it changes is what the layer's synapse of changes can hold; without such data
              it is ``LearnOptions``' default
    Errors    SNN810 a headroom that is no number, or of a layer that does not learn
    """
    made = _made(compiled, options)
    given = _headroom(made.program, headroom)
    room = {x.population: given.get(x.population, 1.5) for x in made.program.layers}
    moved: dict[str, Array] = {}
    taught = data is not None and _teaches(made.program, made.result.graph, data)
    if len(given) < len(room) and data is not None and data.y is not None and taught:
        progress.phase("trying the float rule for the range of the weights")
        program, graph = made.program, made.result.graph
        part = heard(graph, program, data.first(TRIAL), progress.count)
        reached = float_weights(program, graph, part, keep=(0, len(part.labels)))
        layers = zip(program.layers, reached, strict=True)
        moved = {x.population: w[-1].astype(np.float64) - w[0] for x, w in layers if x.population not in given and np.any(w[-1] != w[0])}
    made = _made(compiled, replace(options, headroom=room, moved=moved))
    return replace(compiled, result=made.result, schedule=made.schedule), made.program


def _headroom(program: LearningProgram, text: str | None) -> dict[str, float]:
    """What the command line says, by population."""
    found: dict[str, float] = {}
    names = {name: x.population for x in program.layers for name in (x.synapse, x.population)}
    for part in [] if text is None else text.split(","):
        layer, equals, number = (piece.strip() for piece in part.rpartition("="))
        layer = layer.replace(".", "_")
        try:
            value = float(number)
        except ValueError:
            raise fail(
                "SNN810", f"learning has no headroom {number!r}", help="write a number, or layer=number with commas between"
            ) from None
        if equals and layer not in names:
            raise fail("SNN810", f"learning has no headroom for '{layer}'", help=f"the layers that learn are: {', '.join(names)}")
        for name in [names[layer]] if layer else dict.fromkeys(names.values()):
            if name in found:
                raise fail("SNN810", f"'{name}' has two headrooms, {found[name]:g} and {value:g}", help="give each layer one")
            found[name] = value
    return found


def float_weights(
    program: LearningProgram, graph: Graph, taught: Features, *, keep: Collection[int], transport: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Array]:  # fmt: skip
    """Weights of the folded layers by PyTorch's online rule on the same spikes, by layer, after ``keep`` numbers of samples."""
    from snncompile.online.chain import learn_chain  # noqa: PLC0415 - torch

    stages = torch_stages(program, graph)
    activity = None
    if program.local:
        named = {x.population: taught.activity[x.population] / ACTIVITY_TOP for x in program.layers if x.population in program.local}
        activity = [named.get(link.population.name) for link in links(graph, [x.population for x in program.layers])]
    return learn_chain(
        stages, taught.spikes, taught.labels, loss=program.error.loss, warm=program.error.warm, activity=activity, keep=keep,
        transport=transport, progress=progress,
    )  # fmt: skip


def torch_stages(program: LearningProgram, graph: Graph) -> list[Stage]:
    """The layers from the first plastic one to the readout, for PyTorch."""
    from snncompile.online.chain import Stage  # noqa: PLC0415 - torch

    return [Stage(**given) for given in float_stages(program, graph)]


def _made(compiled: Compiled, options: attach.LearnOptions) -> attach.Plastic:
    return attach.make_plastic(compiled.result, compiled.float_graph, compiled.source_graph, compiled.target, options)


@dataclass(frozen=True, eq=False)
class Features:
    """A labelled part of the data as the plastic layers see it: input payloads by name, spikes (N, T, pre), labels (N,), and a teacher's
    activities (N, n), 0..255, by population."""

    payloads: Mapping[str, Array]
    spikes: Array
    labels: Array
    activity: Mapping[str, Array]

    def first(self, count: int) -> Features:
        """The first samples."""
        return self._cut(slice(count))

    def since(self, start: int) -> Features:
        """The samples from ``start`` on."""
        return self._cut(slice(start, None))

    def _cut(self, part: slice) -> Features:
        payloads, activity = ({k: v[part] for k, v in given.items()} for given in (self.payloads, self.activity))
        return Features(payloads, self.spikes[part], self.labels[part], activity)


def learning_of(bundle: Bundle) -> LearningProgram:
    """The learning program of a bundle; SNN812 if nothing in it learns."""
    if bundle.learning is None:
        raise nothing_learns(str(bundle.path))
    return bundle.learning


def features(bundle: Bundle, data: Data, progress: Progress, *, teaching: bool = True) -> Features:
    """Run the frozen part of the network on labelled samples that were checked (``check_stream``)."""
    progress.phase("running the frozen layers")
    return heard(bundle.graph, learning_of(bundle), data, progress.count, teaching=teaching)


def check_stream(graph: Graph, program: LearningProgram, data: Data, *, teaching: bool = True) -> None:
    """Refuse samples that nothing can be learned from (SNN813, SNN815); warn of values that the input cuts off."""
    if data.y is None:
        raise no_labels(data.source)
    if teaching:
        teachers(program, graph, data)
    warn_clipped(clipped_inputs(graph, default_input(graph, data.samples)))


def heard(graph: Graph, program: LearningProgram, data: Data, count: Callable[[int, int], None], *, teaching: bool = True) -> Features:
    """What the population in front of the first plastic layer sends in labelled samples that were checked."""
    assert data.y is not None
    payloads = input_values(graph, default_input(graph, data.samples))
    parts = []
    for start in range(0, len(data), BATCH):
        chunk = {k: v[start : start + BATCH] for k, v in payloads.items()}
        given = payloads.get(program.source)
        if given is None:
            sent = reference.run(graph, chunk, record=[program.source], batch=BATCH)[program.source]
        else:  # the network's own input
            sent = np.broadcast_to(given[start : start + BATCH], (len(chunk[program.source]), graph.steps, *given.shape[2:]))
        parts.append(sent.reshape(*sent.shape[:2], -1).astype(np.uint8))
        count(min(start + BATCH, len(data)), len(data))
    return Features(payloads, np.concatenate(parts), data.y, teachers(program, graph, data) if teaching else {})


def _teaches(program: LearningProgram, graph: Graph, data: Data) -> bool:
    """Whether the data have what local errors need; what they do have must be right (SNN815)."""
    if not program.local:
        return True
    there = any(name.startswith(TEACHER) for name in data.extra or {})
    return there and bool(teachers(program, graph, data))


def teachers(program: LearningProgram, graph: Graph, data: Data) -> dict[str, Array]:
    """The teacher's activities of layers with a local error as graded inputs: rint(255 A).

    Errors  SNN815 none in the data, no numbers, of another shape, or beyond 0..1
    """
    found = {}
    for x in program.layers:
        if x.population not in program.local:
            continue
        key = f"{TEACHER}{x.synapse}"
        shape = [len(data), math.prod(graph.shape(x.population))]
        values = (data.extra or {}).get(key)
        wrong = _wrong(values, shape)
        if values is None or wrong is not None:
            others = [f"'{name}' {list(v.shape)}" for name, v in (data.extra or {}).items() if name.startswith(TEACHER) and name != key]
            raise no_teacher(data.source, key, shape, [wrong] if wrong else [f"it holds {', '.join(others)}"] if others else [])
        found[x.population] = np.rint(values * ACTIVITY_TOP).astype(np.int64)
    return found


def _wrong(values: Array | None, shape: list[int]) -> str | None:
    """What is wrong with an array of activities."""
    if values is None:
        return None
    if values.dtype.kind not in "biuf":
        return f"the array there holds {values.dtype}, not real numbers"
    if list(values.shape) != shape:
        return f"the array there has shape {list(values.shape)}"
    if not (values.min() >= 0 and values.max() <= 1):
        return "the array there holds NaN" if np.isnan(values).any() else f"the array there holds {values.min():g}..{values.max():g}"
    return None


def split(data: Data) -> tuple[Data, Data]:
    """The stream, and the last quarter of the samples, held out to measure on."""
    cut = max(1, len(data) - len(data) // HELD_OUT)
    held = data.since(cut)
    return data.first(cut), held if len(held) else data


__all__ = [
    "Features", "check_stream", "features", "float_weights", "heard", "learning_of", "make_plastic", "split", "torch_stages",
]  # fmt: skip

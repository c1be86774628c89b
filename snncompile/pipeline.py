"""The whole flow, readable in one sitting: capture, passes, quantise, schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from snncompile.capture.attention import Gates, decision, gate_populations, with_gates
from snncompile.capture.capture import Captured, InputShape, capture
from snncompile.capture.check import check_capture, predict
from snncompile.capture.circumstances import circumstances
from snncompile.capture.driver import Layout
from snncompile.capture.stand_ins import stand_ins
from snncompile.errors import CompileError, fail
from snncompile.heap import trim
from snncompile.ir.graph import Array, Graph, Op, Readout
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Input
from snncompile.ir.population import FLOAT_POPULATIONS, Synapse
from snncompile.ledger import Decision
from snncompile.mapping.schedule import Schedule, schedule
from snncompile.passes import PassRecord, check_population_form, run_passes
from snncompile.quantize import Options, QuantResult, quantize
from snncompile.target import Target, load_target
from snncompile.verify import Original

if TYPE_CHECKING:
    import torch

Progress = Callable[[str], None]
PROBES = 2
MANY = 2**20
"""Values of all populations over all steps with which one sample tells as much as PROBES do."""

InputRange = tuple[float, float] | tuple[float, float, float]
"""Lowest and highest value of an input, and the grid on which its values lie, if they do."""


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A compiled network with everything that is known about it.

    source_graph  the network as captured or imported               float_graph  after the passes, in population form
    passes        what each pass did, and its measured error        result       the integer graph and its proofs
    schedule      hardware time of every population                 settings     how to capture the same model again
    captured      how it was read off PyTorch; None for a network that came as a graph
    decisions     what the user's file left open, and who decided it: the beginning of the ledger
    stand_ins     what the network's own modules say that they approximate
    """

    name: str
    target: Target
    source_graph: Graph
    float_graph: Graph
    passes: tuple[PassRecord, ...]
    result: QuantResult
    schedule: Schedule
    readout: Readout
    settings: Mapping[str, Any] = field(default_factory=dict)
    captured: Captured | None = None
    decisions: tuple[Decision, ...] = ()
    stand_ins: tuple[Mapping[str, Any], ...] = ()

    def graphs(self) -> dict[str, Graph]:
        """The network at every stage."""
        return {"captured": self.source_graph, "folded": self.float_graph, "integer": self.result.graph}


def compile(  # noqa: A001 - the verb users look for: snncompile.compile(model, ...)
    model: torch.nn.Module,
    *,
    target: str = "loihi2-sim",
    input_shape: InputShape,
    steps: int,
    layout: Layout = "step",
    calibration: Mapping[str, Array] | Array | None = None,
    input_range: InputRange | None = None,
    options: Options | None = None,
    readout: Readout = "sum",
    readout_of: str | None = None,
    name: str = "network",
    seca: Gates = "calibrated",
    progress: Progress | None = None,
) -> Compiled:
    """Compile a PyTorch network for a target.

    model        any module whose spiking dynamics can be read off its execution; left as it is
    input_shape  of one sample at one step; shapes by the name of forward's parameter, or a list of shapes, for several inputs
    steps        T, time steps per sample
    readout_of   the output that decides, of several; by default the first
    calibration  real samples, ``(N, *input_shape)`` (constant over the steps) or ``(N, T, *input_shape)``, or several inputs by name
    input_range  (low, high) or (low, high, grid) of the raw input where known: 8-bit images are (0, 255, 1)
    seca         channel attention with the gates of its calibration, or with live ones: ``exact`` on the chip, ``host`` on its host
    raises       CompileError, each with the user's source line, the limit and a way out
    """
    say = _stages(progress)
    chip = load_target(target)  # an unknown one is said before the capture
    given = model
    model = with_gates(given, seca)
    say("capturing the network by running it")
    captured = capture(model, input_shape=input_shape, steps=steps, layout=layout, name=name)
    graph, samples = describe_input(captured.graph, calibration, input_range)
    if seca == "host":
        graph = replace(graph, meta={**graph.meta, "host": list(gate_populations(captured, given)), "host_latency": chip.host_latency})
    captured = replace(captured, graph=graph)
    readout, decided = _readout(captured, readout_of, readout)
    attention = decision(captured, given, seca, samples, chip.host_latency if seca == "host" else 0)
    say("comparing with PyTorch")
    for probe in probes(graph, samples):
        check_capture(captured, model, probe)
    compiled = compile_graph(
        graph, target=target, calibration=samples, input_range=input_range, options=options, readout=readout, name=name,
        readout_of=readout_of, progress=progress,
        decisions=(*captured.decisions, *decided, *circumstances(model, steps), *(() if attention is None else (attention,))),
    )  # fmt: skip
    settings = {**compiled.settings, "input_shape": plain_shape(input_shape), "layout": layout}
    settings |= {} if seca == "calibrated" else {"seca": seca}
    return replace(compiled, captured=captured, settings=settings, stand_ins=stand_ins(model))


def compile_graph(
    graph: Graph,
    *,
    target: str = "loihi2-sim",
    calibration: Mapping[str, Array] | Array | None = None,
    input_range: InputRange | None = None,
    options: Options | None = None,
    readout: Readout = "sum",
    readout_of: str | None = None,
    name: str | None = None,
    decisions: Sequence[Decision] = (),
    progress: Progress | None = None,
) -> Compiled:
    """Compile a float graph: a network that was imported, or built by hand, and has no original in PyTorch.

    calibration  real samples, as for ``compile``            decisions  what importing it decided; they open the program's ledger
    raises       CompileError
    """
    say = _stages(progress)
    chip = load_target(target)
    chosen = options or Options()
    graph, decided = first_output(graph, readout_of)
    decisions = (*decisions, *decided)
    graph, samples = describe_input(graph, calibration, input_range)
    say("folding")
    folded, records = fold(graph, samples)
    say("quantising and proving bounds")
    result = quantize(folded, chip, calibration=samples or None, options=chosen)
    say("scheduling")
    return Compiled(
        name=name or graph.name, target=chip, source_graph=graph, float_graph=folded, passes=records, result=result,
        schedule=schedule(result.graph), readout=readout, decisions=tuple(decisions),
        settings={
            "input_shape": list(graph.of(Input)[0].size), "steps": graph.steps, "layout": "step",
            "input_range": None if input_range is None else list(as_range(input_range)),
            "options": {f: getattr(chosen, f) for f in ("weight_bits", "input_bits", "payload_bits", "stream_bits", "pursue_exact")},
        },
    )  # fmt: skip


def _stages(progress: Progress | None) -> Progress:
    """What a stage left behind is handed back before the next one is announced and begins."""

    def say(message: str) -> None:
        trim()
        if progress is not None:
            progress(message)

    return say


def _readout(captured: Captured, label: str | None, readout: Readout) -> tuple[Readout, tuple[Decision, ...]]:
    """How to decide from the outputs over time: as the network itself does, where it returns their mean or its last step alone."""
    kinds = dict(zip(captured.graph.outputs, captured.driver.reduced, strict=False))
    own = kinds.get(label or next(iter(captured.graph.outputs)))
    if own == "last" != readout:
        why = "the network returns the last step of its loop alone"
        return "last", (Decision(stage="capture", what="readout over time", value="last", why=why, source="the network"),)
    if own == "mean" and readout == "sum":
        why = "the network returns the mean over its steps; the sum decides alike and is T times as large"
        return "mean", (Decision(stage="capture", what="readout over time", value="mean", why=why, source="the network"),)
    return readout, ()


def first_output(graph: Graph, label: str | None) -> tuple[Graph, tuple[Decision, ...]]:
    """The graph with the output that decides in front of the others, and the ledger's line about it; SNN104 for an unknown one."""
    outputs = graph.outputs
    if label is not None and label not in outputs:
        raise fail("SNN104", f"the network has no output '{label}'", help=f"choose one of {', '.join(outputs)}")
    if len(outputs) == 1:
        return graph, ()
    chosen = label or next(iter(outputs))
    line = Decision(
        stage="capture", what="output that decides", value=repr(chosen), source="default" if label is None else "option --readout-of",
        why=f"the network has {len(outputs)} outputs: {', '.join(outputs)}",
    )  # fmt: skip
    return replace(graph, outputs={chosen: outputs[chosen], **{k: v for k, v in outputs.items() if k != chosen}}), (line,)


def fold(graph: Graph, samples: Mapping[str, Array]) -> tuple[Graph, tuple[PassRecord, ...]]:
    """Run the passes, measured on one sample: a real one where there is one, else random values in the input's range."""
    probe = {
        n.name: samples[n.name][:1] if n.name in samples else random_input(n, graph.steps, samples=1)
        for n in graph.of(Input)
        if isinstance(n, Input)
    }
    folded, records = run_passes(graph, probe=probe)
    check_population_form(folded)
    return folded.map_nodes(_widened), records


def _widened(op: Op) -> Op:
    """A synapse whose weights no pass had to scale, in float64 like all others."""
    return replace(op, weight=op.weight.astype(np.float64)) if isinstance(op, Synapse) and op.weight.dtype == np.float32 else op


def probes(graph: Graph, samples: Mapping[str, Array]) -> list[dict[str, Array]]:
    """What a capture is compared with PyTorch on, by input: the first samples, if there are any, and seeded random ones."""
    inputs = graph.of(Input)
    count = 1 if graph.steps * sum(prod(graph.shape(n.name)) for n in graph.of(*FLOAT_POPULATIONS)) > MANY else PROBES
    given = {n.name: samples[n.name][:count] for n in inputs if n.name in samples}
    drawn = {n.name: random_input(n, graph.steps, samples=count, seed=k) for k, n in enumerate(inputs)}
    return [*([given] if len(given) == len(inputs) else []), drawn]


def plain_shape(shape: InputShape) -> Any:
    """An input's shape, or several inputs', as plain data."""
    if isinstance(shape, Mapping):
        return {name: list(one) for name, one in shape.items()}
    return [n if isinstance(n, int) else list(n) for n in shape]


def random_input(n: Input, steps: int, samples: int = PROBES, seed: int = 0) -> Array:
    """Seeded samples in an input's range (0..1 where it is unknown), on its grid: ``(N, T | 1, *size)``."""
    generator = np.random.default_rng(seed)
    low, high = (0.0, 1.0) if n.low is None or n.high is None else (n.low, n.high)
    values = generator.uniform(low, high, (samples, 1 if n.static else steps, *n.size))
    return np.clip(low + np.rint((values - low) / n.grid) * n.grid, low, high) if n.grid else values


def describe_input(
    graph: Graph, calibration: Mapping[str, Array] | Array | None, input_range: InputRange | None
) -> tuple[Graph, dict[str, Array]]:
    """Bring calibration samples to ``(N, T | 1, *size)`` by input, and write what is known of the range into the graph."""
    inputs = [n for n in graph.nodes if isinstance(n, Input)]
    given: Mapping[str, Array] = {}
    if calibration is not None:
        given = calibration if isinstance(calibration, Mapping) else {inputs[0].name: calibration}
    samples = {n.name: with_time_axis(np.asarray(given[n.name]), n, graph.steps) for n in inputs if n.name in given}

    def describe(op: Op) -> Op:
        if not isinstance(op, Input):
            return op
        known = op if input_range is None else with_range(op, input_range)
        return replace(known, static=op.static or (op.name in samples and samples[op.name].shape[1] == 1))

    return graph.map_nodes(describe), samples


def as_range(input_range: InputRange) -> tuple[float, float, float]:
    """Lowest value, highest value and grid, which is 0 where there is none; raises CompileError SNN207 for anything else."""
    try:
        low, high, grid = (*(float(v) for v in input_range), 0.0)[:3] if len(input_range) in (2, 3) else ()
    except (TypeError, ValueError):
        way_out = "write the lowest and the highest value, and the grid of whole numbers and the like: (0, 1) or (0, 255, 1)"
        raise fail("SNN207", f"{input_range!r} is no range of an input", help=way_out) from None
    return low, high, grid


def with_range(op: Input, input_range: InputRange) -> Input:
    """The input with its declared range; raises CompileError SNN207 if it is none."""
    low, high, grid = as_range(input_range)
    known = replace(op, low=low, high=high, grid=grid)
    if problems := list(known.validate()):
        raise CompileError(problems)
    return known


def with_time_axis(x: Array, n: Input, steps: int) -> Array:
    """Samples as ``(N, T | 1, *size)``; raises CompileError SNN102 if they have another shape."""
    if x.shape[1:] == n.size:
        return x[:, None]
    if x.shape[2:] == n.size and x.shape[1] in (1, steps):
        return x
    raise fail(
        "SNN102",
        f"the data has shape {list(x.shape)}, the network's input '{n.name}' wants [N, {', '.join(map(str, n.size))}]"
        f" or [N, {steps}, {', '.join(map(str, n.size))}]",
        help="one sample per row; put a time axis of length T behind it where the input changes from step to step",
    )


def original(compiled: Compiled, model: torch.nn.Module | None, x: Array | Mapping[str, Array], checked: int = 4) -> Original:
    """What a program is judged against: the float graph, the original's outputs on ``x`` (N, T | 1, *shape; by input where there are
    several), and the capture's evidence.

    The original is the PyTorch model, ``checked`` samples of which are compared population by population; or, for a network that came
    as a graph (``model`` None), that graph before any pass, in float64.
    """
    given = x if isinstance(x, Mapping) else {compiled.source_graph.of(Input)[0].name: x}
    if compiled.captured is None or model is None:
        outputs = in_batches(compiled.source_graph, given)
        return Original(float_graph=compiled.float_graph, outputs=outputs, capture=None, passes=compiled.passes)
    model = with_gates(model, compiled.settings.get("seca", "calibrated"))
    outs = predict(compiled.captured, model, given)
    record = check_capture(compiled.captured, model, {name: values[:checked] for name, values in given.items()})
    return Original(
        float_graph=compiled.float_graph, outputs=dict(zip(compiled.captured.graph.outputs, outs, strict=True)), capture=record.to_json(),
        passes=compiled.passes,
    )  # fmt: skip


def in_batches(graph: Graph, x: Mapping[str, Array], batch: int = 64) -> dict[str, Array]:
    """Outputs of a float graph on ``x`` (by input), ``{label: (N, T, ...)}``."""
    count = len(next(iter(x.values())))
    parts = [interpret(graph, {name: values[k : k + batch] for name, values in x.items()}) for k in range(0, count, batch)]
    return {label: np.concatenate([part[label] for part in parts]) for label in graph.outputs}

"""The door of ``.net`` files: file, target and what the user adds, to a scheduled program with its proofs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import prod
from pathlib import Path

from snncompile.errors import fail
from snncompile.files import check_file, read
from snncompile.importers.netx.build import Builder, Source
from snncompile.importers.netx.file import read_file
from snncompile.importers.netx.layers import Layer, parse_layers
from snncompile.importers.netx.prove import charge_format
from snncompile.importers.program import ImportedProgram
from snncompile.ir.graph import Dialect, Graph, Readout, Shape, validate
from snncompile.ledger import Decision
from snncompile.mapping.schedule import schedule
from snncompile.quantize import QuantResult
from snncompile.target import load_target

Range = tuple[float, float, float]
SPIKES: Range = (0.0, 1.0, 1.0)
UNIT: Range = (0.0, 1.0, 0.0)
MEANING = (
    Decision(
        stage="file", what="neurons", value="u = decay(u, 4096 - iDecay) + (a << 6), v = decay(v, 4096 - vDecay) + u + (bias << 6), "
        "a spike where v > vThMant << 6, then v = 0; decays truncate toward zero",
        why="what lava-dl's netx gives to Lava's fixed-point LIF", source="the file",
    ),
    Decision(
        stage="file", what="start of a sample", value="u = v = 0, nothing under way", source="default",
        why="the file does not say when a network is reset; this is a fresh network, and netx's reset_interval = T",
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the caller adds to a file or overrides in it; None leaves it to the file.

    input_range  (low, high, grid): of spikes 0, 1, 1; of an input that neurons encode, in the units of the training
    """

    steps: int | None = None
    input_shape: Shape | None = None
    input_range: Range | None = None
    readout: Readout | None = None


def load_net(path: Path, target: str = "loihi2-sim", wishes: Wishes | None = None) -> ImportedProgram:
    """Import a file for a target. Errors: SNN006 T or the input's shape is unknown; SNN150 to SNN153; SNN403."""
    given = wishes or Wishes()
    check_file(path)
    root = read_file(path)
    layers = parse_layers(root)
    steps = given.steps
    if steps is None and "simulation" in root.groups and "tSample" in root.group("simulation"):
        steps = root.group("simulation").whole("tSample")
    if steps is None or steps < 1:
        raise fail("SNN006", f"{path} does not say how many time steps to run", help="add --steps 16")
    chip = load_target(target)
    builder = Builder(target=chip, steps=steps)
    shape = _input_shape(path, layers, given.input_shape)
    encoded = layers[0].kind == "input" and layers[0].neuron is not None
    known = given.input_range or (UNIT if encoded else SPIKES)
    source = _encoded(layers[0], shape, known) if encoded else _spikes(shape, known)
    if not chip.payload.fits([source.low, source.high]):
        message = f"input values {known[0]:g}..{known[1]:g} would be payloads {source.low}..{source.high}"
        raise fail("SNN152", message, notes=[chip.cite("formats.payload")], help="declare a smaller input with --input-range")
    builder.source(source)
    membrane = _layers(builder, layers)
    graph = _graph(path, builder, f"{builder.last}.v" if membrane else builder.last)
    readout: Readout = given.readout or ("last" if membrane else "sum")
    raw = read(path)
    return ImportedProgram(
        name=path.stem, target=chip, schedule=schedule(graph), readout=readout, input_shape=shape, input_range=known,
        result=QuantResult(graph=graph, populations=tuple(p.report for p in builder.proved)),
        decisions=_decisions(builder, layers, source, membrane),
        facts={
            "kind": "lava-dl .net", "file": path.name, "file_bytes": len(raw), "layers": [layer.kind for layer in layers],
            "sha256": hashlib.sha256(raw).hexdigest(),
        },
        settings={"input_shape": list(shape), "steps": steps, "input_range": list(known)},
    )  # fmt: skip


def _input_shape(path: Path, layers: list[Layer], given: Shape | None) -> Shape:
    """Of the network's input: what the file says, or the first dense layer implies, or the caller."""
    first = layers[0]
    if first.kind == "input":
        if given is not None and given != first.shape:
            raise fail("SNN006", f"the input of {path} has shape {list(first.shape)}, not {list(given)}", help="leave --input-shape out")
        return first.shape
    if given is None and first.weight is not None and first.weight.ndim == 2:
        return (first.weight.shape[1],)
    if given is None:
        raise fail("SNN006", f"{path} does not say the shape of its input", help="add --input-shape C,H,W, for example 2,34,34")
    return given


def _spikes(shape: Shape, known: Range) -> Source:
    """Spikes (0 and 1), or graded payloads where the caller's range says so."""
    low, high, grid = known[0], known[1], known[2] or 1.0
    ends = low / grid, high / grid
    if any(abs(end - round(end)) > 1e-9 for end in ends):
        message = f"the input range {low:g}..{high:g} with grid {grid:g} is no range of whole multiples of the grid"
        raise fail("SNN152", message, help="the first layer reads whole numbers: --input-range 0,1,1 for spikes")
    return Source(shape=shape, low=round(ends[0]), high=round(ends[1]), lsb=grid)


def _encoded(layer: Layer, shape: Shape, known: Range) -> Source:
    """Values x that enter a neuron as the bias mantissa  k = rint(weight * x + bias); a negative weight is the synapse's sign."""
    weight, bias = layer.scale
    sign = 1 if weight > 0 else -1
    low, high = (round(abs(weight) * x + sign * bias) for x in known[:2])
    return Source(shape=shape, low=low, high=high, lsb=1 / abs(weight), offset=-sign * bias / abs(weight))


def _layers(builder: Builder, layers: list[Layer]) -> bool:
    """Add all layers; whether the output is a membrane."""
    last = max((k for k, layer in enumerate(layers) if layer.kind not in ("flatten", "average")), default=0)
    flat = membrane = False
    for k, layer in enumerate(layers):
        silent = layer.kind != "input" and (layer.neuron is None or layer.neuron.silent)
        if layer.kind == "input":
            if k:
                raise fail("SNN150", f"'{layer.where}' is an input behind other layers")
            if layer.neuron is not None:
                builder.add(layer, sign=1 if layer.scale[0] > 0 else -1)
        elif layer.kind == "flatten":
            if prod(layer.shape) != prod(builder.shape):
                raise fail("SNN150", f"dataset '{layer.where}/shape' is {list(layer.shape)}, what it flattens is {list(builder.shape)}")
            flat = True
        elif layer.kind == "average":
            if k != len(layers) - 1 or membrane:
                behind = "reads a membrane, not spikes" if membrane else "is not the last layer"
                raise fail("SNN151", f"the average '{layer.where}' {behind}", help="only averages of the output's spikes are taken")
            builder.count(layer)
        else:
            if silent and k != last:
                raise fail(
                    "SNN151", f"'{layer.where}' never fires (no neuron, or the largest threshold), yet '{layers[k + 1].where}' reads it"
                )
            if layer.weight is not None and layer.weight.ndim == 2 and not flat and len(builder.shape) == 3 and prod(builder.shape[1:]) > 1:
                message = f"'{layer.where}' is dense and reads {list(builder.shape)} without a flatten layer"
                raise fail("SNN150", message, notes=["the order of its inputs is not defined"])
            builder.add(layer, readout=silent)
            flat, membrane = False, silent
    if not builder.proved:
        raise fail("SNN150", "the file holds no layer with neurons")
    return membrane


def _graph(path: Path, builder: Builder, output: str) -> Graph:
    t = builder.target
    held = t.membrane
    if any(p.clipped for p in builder.proved):
        held = charge_format(t) or held  # sums are wider than what is kept; v_min keeps what is kept
    graph = Graph(
        name=path.stem, dialect=Dialect.INTEGER, nodes=tuple(builder.nodes), outputs={"output": output}, steps=builder.steps,
        meta={
            "target": t.name, "weight_bits": t.weight.bits, "accumulator": [t.accumulator.low, t.accumulator.high],
            "membrane": [held.low, held.high], "payload": [t.payload.low, t.payload.high], "hop_limit": t.hop_limit,
        },
    )  # fmt: skip
    validate(graph)
    return graph


def _decisions(builder: Builder, layers: list[Layer], source: Source, membrane: bool) -> tuple[Decision, ...]:
    """The ledger: what the file means, what it left open, and what netx would do otherwise."""
    rows = [*MEANING]
    first = layers[0]
    if first.kind == "input" and first.neuron is not None:
        weight, bias = first.scale
        value = f"the bias mantissa rint({weight} * x + {bias}), {source.low}..{source.high}"
        rows.append(Decision(stage="file", what="input", value=value, why="its neurons encode it", source="the file", where=first.where))
    else:
        graded = (source.low, source.high) != (0, 1)
        value = f"payloads {source.low}..{source.high}" if graded else "spikes, 0 or 1"
        why = "netx's input_message_bits > 0" if graded else "netx's input_message_bits = 0"
        rows.append(Decision(stage="file", what="input", value=value, why=why, source="option --input-range" if graded else "default"))
    rows += builder.decisions
    if membrane:
        why = "its neurons never fire: they have the largest threshold, or none"
        rows.append(Decision(stage="file", what="output", value=f"the membrane of {builder.last}", why=why, source="default"))
    clipped = [p.neuron.name for p in builder.proved if p.clipped]
    if clipped:
        why = "no bound excludes that they reach it; above, they fire instead"
        value = f"clipped at {builder.target.membrane.low}, as Lava does"
        rows.append(Decision(stage="quantise", what=f"membranes of {', '.join(clipped)}", value=value, why=why, source="the file"))
    ignored = [name for layer in layers for name in (*layer.ignored, *(layer.neuron.ignored if layer.neuron else ()))]
    if ignored:
        rows.append(Decision(stage="file", what=", ".join(ignored), value="ignored", why="netx ignores them", source="default"))
    return tuple(rows)


__all__ = ["Wishes", "load_net"]

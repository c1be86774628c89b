"""The gate behind the passes: a graph in population form, or an error for every node that does not fit."""

from __future__ import annotations

from collections.abc import Iterator

from snncompile.errors import CompileError, Diagnostic
from snncompile.ir.graph import Graph, Op, node_of, port_of
from snncompile.ir.linear_ops import Add, Conv2d, Delay, Diagonal, Gather, Input, Linear
from snncompile.ir.neuron import Neuron
from snncompile.ir.population import FLOAT_POPULATIONS, FloatPopulation, port_at, synapses_of
from snncompile.passes.arrays import constant_in_time, is_all

ALLOWED = (Input, Conv2d, Linear, Diagonal, Gather, Delay, Add, *FLOAT_POPULATIONS)


def check_population_form(graph: Graph) -> None:
    """Raise CompileError with one diagnostic for every node that keeps the graph from being deployed.

    Errors  SNN230 a membrane is read instead of a payload    SNN231 the operation has no form on a chip
            SNN232 a population reads no synapse              SNN233 constant gain on a membrane
            SNN234 bias outside the population                SNN235 an output is no population's
            SNN236 a current is read more than once
    """
    found = [d for n in graph.nodes for d in _node(n, graph)]
    for label, ref in graph.outputs.items():
        if not isinstance(graph.node(ref), FLOAT_POPULATIONS):
            op = graph.node(ref)
            found.append(Diagnostic(
                "SNN235", f"output '{label}' reads '{ref}' ({op.kind}), which is not a population's value", op.loc,
                help="run the default passes, which put a readout population in front of every output",
            ))  # fmt: skip
    if found:
        raise CompileError(found)


def _node(op: Op, graph: Graph) -> Iterator[Diagnostic]:
    if not isinstance(op, ALLOWED):
        yield Diagnostic(
            "SNN231", f"'{op.name}' ({op.kind}) cannot be deployed: it is neither a synapse nor wiring nor a neuron", op.loc,
            ("a chip computes weighted sums of what populations send, and neuron updates; nothing else",),
            "write it as a convolution, linear layer or neuron, or compute it on the host",
        )  # fmt: skip
        return
    if isinstance(op, FLOAT_POPULATIONS):
        yield from _neuron(op, graph)
        return
    for ref in op.inputs:
        if port_of(ref):
            yield _membrane(op, ref)
    if isinstance(op, (Conv2d, Linear, Diagonal, Add)) and len(graph.readers_of[op.name]) > 1:
        yield Diagnostic(
            "SNN236", f"'{op.name}' ({op.kind}) is read by {', '.join(repr(r.name) for r in graph.readers_of[op.name])}: "
            "a current belongs to one population", op.loc, help="send it as the payload of a relay population (pass insert-relays)",
        )  # fmt: skip
    if isinstance(op, (Conv2d, Linear)) and op.bias is not None:
        yield Diagnostic("SNN234", f"'{op.name}' ({op.kind}) has a bias, which no population has taken", op.loc)


def _membrane(op: Op, ref: str) -> Diagnostic:
    what = {"m": "before its reset", "v": "after its reset"}[port_of(ref)]
    return Diagnostic(
        "SNN230", f"'{op.name}' ({op.kind}) reads the membrane of '{node_of(ref)}' {what}", op.loc,
        ("on a chip a population sends spikes or payloads; its membrane is seen by nobody else",),
        "send what the next layer needs: a spike, a graded payload (relu), or let a neuron that never fires be the readout",
    )  # fmt: skip


def _neuron(op: FloatPopulation, graph: Graph) -> Iterator[Diagnostic]:
    read = [ref for ref in op.inputs if port_of(ref)]
    if read:
        yield _membrane(op, read[0])
        return
    if isinstance(op, Neuron) and constant_in_time(op.gain) and not is_all(op.gain, 1.0):
        yield Diagnostic(
            "SNN233", f"'{op.name}' multiplies its input by a constant that is not yet part of its weights", op.loc,
            help="run pass absorb-gain before the folds",
        )  # fmt: skip
    for synapse in synapses_of(graph, op):
        port = port_at(graph, synapse)
        through_membrane = any(port_of(r) for r in synapse.inputs)
        if isinstance(port, str) and not through_membrane and isinstance(synapse, ALLOWED):
            yield Diagnostic(
                "SNN232", f"'{op.name}' cannot be fed by {port}", synapse.loc or op.loc,
                ("a population hears payload -> delays -> one gather -> synapse, in this order",),
                "run the default passes; if they ran, report the refusals in the manifest",
            )  # fmt: skip

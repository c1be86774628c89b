"""What a program that learns on the chip has beside its integer graph: the plastic synapse, its rule, its error population, its time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from snncompile.errors import CompileError, fail
from snncompile.ir.graph import Graph
from snncompile.ir.integer import IntNeuron
from snncompile.ir.linear_ops import Linear
from snncompile.ir.population import ports
from snncompile.learning.error_population import ErrorPopulation, Ints
from snncompile.learning.rule import SYNAPTIC, TRACES, Factor, Product, Rule, Trace
from snncompile.mapping.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class LearningProgram:
    """On-chip learning of one dense synapse.

    synapse     the plastic linear node; its chip weights are twice the graph's (a bit finer), its exponent one less
    population  the readout that it feeds        source  the population whose spikes it receives
    method      the training method that the rule comes from        rate  eta of the float rule (plain SGD, applied at every step)
    gain        spikes are multiplied by it before the layer, as trained     lsb  value of one chip weight LSB
    leak        decay of the trace per model step, 0 without a trace
    rest        idle model steps between samples, in which traces fade
    exact, approximated   what is as in the float rule, and what is not
    """

    method: str
    synapse: str
    population: str
    source: str
    rule: Rule
    error: ErrorPopulation
    rate: float
    gain: float
    leak: float
    lsb: float
    rest: int
    equation: str
    exact: tuple[str, ...] = ()
    approximated: tuple[str, ...] = ()

    def chip_weights(self, graph: Graph) -> Ints:
        """The plastic weights as the chip is loaded with them, (post, pre): even, a sign and 8 bits."""
        synapse = graph.by_name[self.synapse]
        assert isinstance(synapse, Linear)
        return 2 * synapse.weight.astype(np.int64)

    def chip_exponent(self, graph: Graph) -> int:
        """By how much the plastic synapse's sums are shifted."""
        neuron = graph.by_name[self.population]
        assert isinstance(neuron, IntNeuron)
        names = [p.synapse.name for p in ports(graph, neuron)]
        return neuron.exponents[names.index(self.synapse)] - 1

    def time(self, schedule: Schedule) -> Clock:
        """When everything of the plastic part happens."""
        return Clock(
            steps=schedule.steps, rest=self.rest, interval=schedule.initiation_interval, source=schedule.depth[self.source],
            readout=schedule.depth[self.population], delay=self.error.delay,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Plain data for the manifest and the plan."""
        plain = {
            k: getattr(self, k) for k in ("method", "synapse", "population", "source", "rate", "gain", "leak", "lsb", "rest", "equation")
        }
        rule = asdict(self.rule) | {f"{k}_lava": self.rule.lava(k) for k in SYNAPTIC.values()}
        return {**plain, "rule": rule, "error": self.error.to_json(), "exact": list(self.exact), "approximated": list(self.approximated)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> LearningProgram:
        """Back from ``to_json``; ValueError, KeyError or TypeError for anything else."""
        plain = {k: row[k] for k in ("method", "synapse", "population", "source", "rate", "gain", "leak", "lsb", "rest", "equation")}
        return cls(
            **plain, rule=_rule(row["rule"]), error=ErrorPopulation.from_json(row["error"]), exact=tuple(row["exact"]),
            approximated=tuple(row["approximated"]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Hardware steps: model step t of sample n runs in a population at depth d at  interval * (n * (steps + rest) + t) + d.

    delay  hardware steps from the readout's update to the arrival of its error at the synapse
    """

    steps: int
    rest: int
    interval: int
    source: int
    readout: int
    delay: int

    def slot(self, h: int, depth: int, samples: int) -> tuple[int, int] | None:
        """(sample, model step) that a population at ``depth`` does at hardware step ``h``, None where it waits."""
        count, phase = divmod(h - depth, self.interval)
        if count < 0 or phase:
            return None
        n, t = divmod(count, self.steps + self.rest)
        return (n, t) if t < self.steps and n < samples else None

    def done(self, n: int) -> int:
        """The first hardware step in which all that sample ``n`` teaches is in force."""
        return self.interval * (n * (self.steps + self.rest) + self.steps - 1) + self.readout + self.delay + 1

    def hardware_steps(self, samples: int) -> int:
        """How many hardware steps a stream of samples takes, its last learning included."""
        return self.done(samples - 1) + 1


def _rule(row: Mapping[str, Any]) -> Rule:
    def products(rows: list[Mapping[str, Any]]) -> tuple[Product, ...]:
        return tuple(
            Product(str(p["condition"]), int(p["mantissa"]), int(p["exponent"]), tuple(Factor(**f) for f in p["factors"])) for p in rows
        )

    x1, x2, y1, y2, y3 = (Trace(**row[k]) for k in TRACES)
    return Rule(
        dw=products(row["dw"]), dd=products(row["dd"]), dt=products(row["dt"]), x1=x1, x2=x2, y1=y1, y2=y2, y3=y3,
        delivered=bool(row["delivered"]), decimation=int(row["decimation"]), epoch=int(row["epoch"]), seed=int(row["seed"]),
        graded=str(row["graded"]),
    )  # fmt: skip


def find_plastic(graph: Graph, layer: str) -> tuple[IntNeuron, Linear, IntNeuron]:
    """(source, synapse, population) of the layer called ``layer``: a node's name, its population's, or the module's it came from.

    Errors  SNN805 no such layer; SNN806 a layer that cannot learn on the chip, with the reason
    """
    found = []
    for n in graph.of(IntNeuron):
        assert isinstance(n, IntNeuron)
        for p in ports(graph, n):
            names = {p.synapse.name, n.name, *p.synapse.origin[:1]}
            if layer in names or layer.replace(".", "_") in names:
                found.append((p, n))
    if not found:
        known = ", ".join(p.synapse.name for n in graph.of(IntNeuron) if isinstance(n, IntNeuron) for p in ports(graph, n))
        raise fail("SNN805", f"the network has no layer '{layer}'", help=f"its layers are: {known}")
    port, population = found[0]
    op = port.synapse
    if not isinstance(op, Linear):
        raise _refused(layer, f"it is a {op.kind}, whose weights are shared", "only dense synapses have a learning engine", op.loc)
    if port.gather is not None or port.delays:
        raise _refused(layer, "its input is rearranged or delayed on the way", "the trace must be that of the spikes that arrive", op.loc)
    if not isinstance(port.source, IntNeuron) or port.source.fire != "step" or port.source.max_spikes != 1:
        raise _refused(layer, f"'{port.source.name}' does not send binary spikes", "a presynaptic trace counts spikes", op.loc)
    if population.fire != "none" or len(population.inputs) != 1:
        raise _refused(
            layer, f"'{population.name}' is not a readout with one synapse",
            "the error population sits on the network's readout; hidden layers need an error of their own", op.loc,
        )  # fmt: skip
    return port.source, op, population


def nothing_learns(bundle: str) -> CompileError:
    """The error of a bundle without a plastic layer (SNN812)."""
    return fail("SNN812", f"nothing in {bundle} learns", help="export it with --learn LAYER --rule ottt")


def no_labels(data: str) -> CompileError:
    """The error of samples without labels (SNN813)."""
    return fail("SNN813", f"{data} has no labels to learn from", help="add an array y with one class number per sample")


def _refused(layer: str, why: str, rule: str, loc: Any) -> CompileError:
    return fail("SNN806", f"'{layer}' cannot learn on the chip: {why}", loc=loc, notes=(rule, "source: lava-nc 0.10.0, proc/dense"),
                help="choose a dense layer that reads spikes and feeds the readout")  # fmt: skip


__all__ = ["Clock", "LearningProgram", "find_plastic", "no_labels", "nothing_learns"]

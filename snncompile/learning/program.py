"""What a program that learns on the chip has beside its integer graph: plastic synapses, rules, error and modulators, time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from snncompile.errors import CompileError, fail
from snncompile.ir.graph import Graph
from snncompile.ir.integer import IntNeuron
from snncompile.ir.linear_ops import Linear
from snncompile.learning.error_population import ErrorPopulation
from snncompile.learning.modulator import Modulator
from snncompile.learning.psi import Psi, parse_psi
from snncompile.learning.remainder import Ints
from snncompile.learning.rule import SYNAPTIC, TRACES, Factor, Product, Rule, Trace
from snncompile.mapping.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class PlasticLayer:
    """One plastic dense synapse.

    synapse     the layer's linear node, which keeps the trained weights
    change      the linear node beside it that learns; its chip weights are twice the graph's (a bit finer), its exponent one less
    population  the neurons that it feeds        source  the population whose spikes it receives
    step        float update of the folded layer per unit of modulator and trace of bare spikes:  dW = -step * share_i * modulator_i * a_j
    gain        folded weights are so many times the trained layer's; the largest where a folded norm has one a neuron (``share`` gain**2 of
                it, one entry where all are equal)       leak  decay of the trace per model step, 0 without a trace
    lsb         value of one LSB of the chip weights of ``change`` in the folded layer, by neuron
    lag         hardware steps from a spike to its third factor
    psi, unit   hidden layers: the surrogate, and what a membrane of the folded layer is multiplied by to be the trained one's
    modulator   the population that sends the third factor; None for the readout, to which the error population sends it
    feedback_lsb, feedback_seed   what 1 in ``modulator.feedback`` is worth; its seed, None for transposed weights
    """

    synapse: str
    change: str
    population: str
    source: str
    rule: Rule
    step: float
    gain: float
    leak: float
    lsb: tuple[float, ...]
    lag: int
    psi: Psi | None = None
    unit: float = 1.0
    share: tuple[float, ...] = (1.0,)
    modulator: Modulator | None = None
    feedback_lsb: float = 0.0
    feedback_seed: int | None = None

    def chip_weights(self, graph: Graph) -> Ints:
        """The weights that learn as the chip is loaded with them, (post, pre): even, a sign and 8 bits."""
        synapse = graph.by_name[self.change]
        assert isinstance(synapse, Linear)
        return 2 * synapse.weight.astype(np.int64)

    def chip_neuron(self, graph: Graph) -> IntNeuron:
        """The population with the exponents that its two synapses need on the chip."""
        neuron = graph.by_name[self.population]
        assert isinstance(neuron, IntNeuron)
        trained, change = neuron.exponents
        return replace(neuron, exponents=(trained, change - 1))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        rule = asdict(self.rule) | {f"{k}_lava": self.rule.lava(k) for k in SYNAPTIC.values()}
        return {
            **{k: getattr(self, k) for k in _LAYER_PLAIN}, "share": list(self.share), "lsb": list(self.lsb), "rule": rule,
            "psi": None if self.psi is None else str(self.psi),
            "modulator": None if self.modulator is None else self.modulator.to_json(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> PlasticLayer:
        """Back from ``to_json``."""
        psi, modulator = row["psi"], row["modulator"]
        return cls(
            **{k: row[k] for k in _LAYER_PLAIN}, share=tuple(float(v) for v in row["share"]),
            lsb=tuple(float(v) for v in row["lsb"]), rule=_rule(row["rule"]),
            psi=None if psi is None else parse_psi(psi),
            modulator=None if modulator is None else Modulator.from_json(modulator),
        )  # fmt: skip


_LAYER_PLAIN = ("synapse", "change", "population", "source", "step", "gain", "leak", "lag", "unit", "feedback_lsb", "feedback_seed")
_PLAIN = ("method", "source", "readout", "rate", "rest", "equation")


@dataclass(frozen=True, kw_only=True)
class LearningProgram:
    """On-chip learning of one or several dense synapses on the way from ``source`` to the readout.

    method      the training method that the rule comes from        rate  eta of the float rule (plain SGD, applied at every step)
    source      the population whose spikes enter the first plastic layer        readout  the population that the error is taken from
    layers      the plastic layers, in the order in which spikes pass them        rest  idle model steps between samples: traces fade
    exact, approximated   what is as in the float rule, and what is not
    """

    method: str
    source: str
    readout: str
    layers: tuple[PlasticLayer, ...]
    error: ErrorPopulation
    rate: float
    rest: int
    equation: str
    exact: tuple[str, ...] = ()
    approximated: tuple[str, ...] = ()

    @property
    def local(self) -> tuple[str, ...]:
        """Populations that learn from a teacher's activity."""
        return tuple(x.population for x in self.layers if x.modulator is not None and x.modulator.kind == "local")

    def time(self, schedule: Schedule) -> Clock:
        """When everything of the plastic part happens."""
        return Clock(
            steps=schedule.steps, rest=self.rest, interval=schedule.initiation_interval, depth=schedule.depth,
            last=max(schedule.depth[x.source] + x.lag for x in self.layers),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Plain data for the manifest and the plan."""
        plain = {k: getattr(self, k) for k in _PLAIN}
        lists = {"exact": list(self.exact), "approximated": list(self.approximated)}
        return {**plain, **lists, "error": self.error.to_json(), "layers": [x.to_json() for x in self.layers]}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> LearningProgram:
        """Back from ``to_json``; ValueError, KeyError or TypeError for anything else."""
        return cls(
            **{k: row[k] for k in _PLAIN}, error=ErrorPopulation.from_json(row["error"]), exact=tuple(row["exact"]),
            approximated=tuple(row["approximated"]), layers=tuple(PlasticLayer.from_json(x) for x in row["layers"]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Hardware steps: model step t of sample n runs in a population at depth d at  interval * (n * (steps + rest) + t) + d.

    last  hardware steps from the begin of a model step to the last update of a weight that it causes
    """

    steps: int
    rest: int
    interval: int
    depth: Mapping[str, int]
    last: int

    def slot(self, h: int, depth: int, samples: int) -> tuple[int, int] | None:
        """(sample, model step) that a population at ``depth`` does at hardware step ``h``, None where it waits."""
        count, phase = divmod(h - depth, self.interval)
        if count < 0 or phase:
            return None
        n, t = divmod(count, self.steps + self.rest)
        return (n, t) if t < self.steps and n < samples else None

    def begin(self, n: int, population: str) -> int:
        """The hardware step in which a population does the first model step of sample ``n``."""
        return self.interval * n * (self.steps + self.rest) + self.depth[population]

    def done(self, n: int) -> int:
        """The first hardware step in which all that sample ``n`` teaches is in force."""
        return self.interval * (n * (self.steps + self.rest) + self.steps - 1) + self.last + 1

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


def nothing_learns(bundle: str) -> CompileError:
    """The error of a bundle without a plastic layer (SNN812)."""
    return fail("SNN812", f"nothing in {bundle} learns", help="export it with --learn LAYER --rule ottt")


def no_labels(data: str) -> CompileError:
    """The error of samples without labels (SNN813)."""
    return fail("SNN813", f"{data} has no labels to learn from", help="add an array y with one class number per sample")


def no_teacher(data: str, key: str, shape: list[int], notes: Iterable[str] = ()) -> CompileError:
    """The error of samples without the activities that a local rule learns from, and what there is instead (SNN815)."""
    return fail(
        "SNN815", f"{data} has no array '{key}' of shape {shape}, values 0..1, to learn from", notes=notes,
        help="add the teacher's activity of every neuron, divided by its 99th percentile and cut to 0..1",
    )  # fmt: skip


__all__ = ["Clock", "LearningProgram", "PlasticLayer", "no_labels", "no_teacher", "nothing_learns"]

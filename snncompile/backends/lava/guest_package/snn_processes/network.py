"""Build the Lava network of a plan: sources, built-in Dense where exact, populations with fused synapses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.models import PyDenseModelBitAcc
from lava.proc.dense.process import Dense
from lava.proc.io.source import PySendModelFixed, RingBuffer
from lava.utils.weightutils import SignMode

from .board import Board
from .plan import Plan, Population
from .processes import PopulationProcess, SourceModel, SourceProcess, population_model
from .synapse import fits_builtin_dense

if TYPE_CHECKING:
    from .plastic import Layer, Learning

RING_BUFFER_BYTES = 16 * 2**20  # RingBuffer holds every hardware step; larger data are read from the file instead


@dataclass
class Network:
    """The processes of a plan and the model of each: naming the model spares Lava its search through the file system."""

    plan: Plan
    inputs: dict[str, np.ndarray]
    samples: int
    out: Path
    board: Board
    builtin: bool
    learning: Learning | None = None
    targets: np.ndarray | None = None
    activity: dict[str, np.ndarray] = field(default_factory=dict)
    models: dict[AbstractProcess, type] = field(default_factory=dict)

    def build(self) -> tuple[AbstractProcess, Loihi2SimCfg]:
        """Return a process, connected to all others, and the run configuration for Lava's CPU simulator."""
        self.largest = {p.name: p.payload.magnitude for p in self.plan.populations}
        self.largest |= {name: max(abs(int(data.min())), abs(int(data.max()))) for name, data in self.inputs.items()}
        clocked = islands(self.plan)
        outs: dict[str, Any] = {}
        for name in sorted({port.source for p in self.plan.populations for port in p.ports} & set(self.inputs)):
            outs[name] = self._source(name, self.inputs[name]).s_out
        made, synapses = [], {}
        for index, population in enumerate(self.plan.populations):
            process, dense = self._population(index, population, population.name in clocked)
            outs[population.name] = process.out
            made.append((process, population, dense))
        for process, population, dense in made:
            for k, port in enumerate(population.ports):
                target = getattr(process, f"in_{k}")
                if self._learns(population, k):
                    assert self.learning is not None
                    layer = self.learning.layer(population.name)
                    assert layer is not None
                    synapses[population.name] = self._plastic(layer, port.weight)
                    outs[port.source].connect(synapses[population.name].s_in)
                    synapses[population.name].a_out.connect(target)
                elif k in dense:
                    synapse = self._dense(f"{population.name}.dense_{k}", port.weight)
                    outs[port.source].connect(synapse.s_in)
                    synapse.a_out.connect(target)
                else:
                    outs[port.source].connect(target)
        if self.learning is not None:
            self._teach({population.name: process for process, population, _ in made}, synapses)
        if clocked:
            self._clock([process for process, population, _ in made if population.name in clocked])
        config = Loihi2SimCfg(select_tag="fixed_pt")
        config.exception_proc_model_map = self.models
        return made[0][0], config

    def _source(self, name: str, data: np.ndarray) -> AbstractProcess:
        samples, varying = data.shape[:2]
        steps, interval = self.plan.steps, self.plan.interval
        size, total = int(np.prod(data.shape[2:])), samples * steps
        hardware_steps = max(self.plan.hardware_steps(samples), interval * total)
        if self.learning is not None or size * hardware_steps * 4 > RING_BUFFER_BYTES:
            return self._add(SourceProcess(name=name, data=data, plan=self.plan, rest=self.rest), SourceModel)
        timeline = np.zeros((size, hardware_steps), np.int32)
        per_step = np.repeat(data, steps, axis=1) if varying == 1 else data
        timeline[:, : interval * total : interval] = per_step.reshape(total, size).T
        source = RingBuffer(data=timeline)
        source.name = name
        return self._add(source, PySendModelFixed)

    def _plastic(self, layer: Layer, weight: np.ndarray) -> AbstractProcess:
        """Lava's plastic synapse: chip weights are twice the plan's."""
        from .plastic import recorder  # noqa: PLC0415 - only programs that learn have these modules
        from .plastic_processes import PlasticModel, plastic_dense  # noqa: PLC0415

        assert self.learning is not None
        watch = recorder(self.out, self.plan, self.learning, layer, self.samples)
        index = self.board.names.index(f"plastic synapse of {layer.population}")
        return self._add(plastic_dense(2 * weight.astype(np.int32), layer, board=self.board, index=index, recorder=watch), PlasticModel)

    def _teach(self, processes: dict[str, Any], synapses: dict[str, Any]) -> None:
        """Close the loops of all plastic synapses."""
        from .teaching import Teaching  # noqa: PLC0415

        assert self.learning is not None
        assert self.targets is not None
        Teaching(self.plan, self.learning, self.samples, self.targets, self.activity, self.out, self.board).connect(
            processes, synapses, self._add, self._dense
        )

    @property
    def rest(self) -> int:
        """Idle model steps between samples."""
        return 0 if self.learning is None else self.learning.rest

    def _learns(self, population: Population, port: int) -> bool:
        layer = None if self.learning is None else self.learning.layer(population.name)
        return layer is not None and layer.port == port

    def _population(self, index: int, population: Population, clocked: bool) -> tuple[AbstractProcess, frozenset[int]]:
        dense = frozenset(
            k for k, port in enumerate(population.ports)
            if self._learns(population, k) or (self.builtin and fits_builtin_dense(port, self.largest[port.source]))
        )  # fmt: skip
        if any(self._learns(population, k) for k in range(len(population.ports))):
            ports = (replace(p, exponent=p.exponent - self._learns(population, k)) for k, p in enumerate(population.ports))
            population = replace(population, ports=tuple(ports))  # chip weights are twice the plan's
        sizes = [population.size if k in dense else int(np.prod(port.source_shape)) for k, port in enumerate(population.ports)]
        sizes += [1] if clocked else []
        engine = {
            "plan": self.plan,
            "population": population,
            "samples": self.samples,
            "largest": self.largest,
            "out": self.out,
            "rest": self.rest,
        }
        layer = None if self.learning is None else self.learning.layer(population.name)
        tells = layer is not None and layer.modulator is not None
        process = PopulationProcess(
            name=population.name,
            size=population.size,
            in_sizes=sizes,
            index=index,
            dense=dense,
            board=self.board,
            engine=engine,
            tells=tells,
        )
        return self._add(process, population_model(len(sizes), tells)), dense

    def _dense(self, name: str, weight: np.ndarray) -> AbstractProcess:
        # see fits_builtin_dense: 2*q survives the truncation to even, weight_exp = -1 halves the (even) sum
        doubled = 2 * weight.astype(np.int32)
        dense = Dense(weights=doubled, name=name, weight_exp=-1, num_weight_bits=8, sign_mode=SignMode.MIXED, num_message_bits=24)
        return self._add(dense, PyDenseModelBitAcc)

    def _clock(self, processes: list[AbstractProcess]) -> None:
        """Tie unconnected parts together with a source of zeros: Lava runs only what is connected, and drops the rest silently."""
        clock = self._add(SourceProcess(name="clock", data=np.zeros((1, 1, 1), np.int32), plan=None), SourceModel)
        for process in processes:
            last = max(int(name[3:]) for name in vars(process) if name.startswith("in_") and name[3:].isdigit())
            clock.s_out.connect(getattr(process, f"in_{last}"))

    def _add(self, process: AbstractProcess, model: type) -> AbstractProcess:
        self.models[process] = model
        return process


def islands(plan: Plan) -> set[str]:
    """One population of each connected part of the plan, or nothing when the plan is in one piece."""
    part = {name: name for name in (*plan.inputs, *(p.name for p in plan.populations))}

    def find(name: str) -> str:
        while part[name] != name:
            name = part[name]
        return name

    for population in plan.populations:
        for port in population.ports:
            part[find(port.source)] = find(population.name)
    first = {find(p.name): p.name for p in reversed(plan.populations)}
    return set(first.values()) if len(first) > 1 else set()

"""The Lava processes: a population with its fused synapses, and an input source for data too large for RingBuffer.

Within one Lava time step a population receives from built-in Dense processes (which send first), updates, sends, and only then
receives from other populations. So no cycle of populations can deadlock and every synapse costs one hardware step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from .neuron import NeuronState
from .plan import Plan
from .population import Engine, slot


class PopulationProcess(AbstractProcess):  # type: ignore[misc]
    """Neurons and fused synapses; port ``in_<k>`` per synapse group, ``out`` sends the payloads, all flat int32.

    One that ``tells`` also sends, beside its spikes, how far each membrane was from the threshold before the reset: ``distance``.
    """

    def __init__(self, *, name: str, size: int, in_sizes: list[int], tells: bool = False, **params: Any) -> None:
        super().__init__(name=name, size=size, ports=len(in_sizes), tells=tells, **params)
        if tells:
            self.distance = OutPort(shape=(size,))
        for k, n in enumerate(in_sizes):
            setattr(self, f"in_{k}", InPort(shape=(n,)))
        self.out = OutPort(shape=(size,))


class PopulationModel(PyLoihiProcessModel):  # type: ignore[misc]
    """One hardware step per Lava time step. A failure is reported on the board; zeros are sent so that the run can end."""

    out = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    def run_spk(self) -> None:
        """Receive from Dense, update, send, receive the payloads of other populations."""
        params = self.proc_params
        board, index, dense = params["board"], params["index"], params["dense"]
        if self.time_step == 1:
            self.engine: Engine | None = None
            self.silence = np.zeros(params["size"], np.int32)
        received = {k: self.port(k).recv() for k in sorted(dense)}
        payload, h = None, self.time_step - 1
        if not board.failed:
            try:
                if self.engine is None:
                    self.engine = Engine(**params["engine"], dense=dense)
                payload = self.engine.update(h, received)
            except Exception as error:  # one that leaves run_spk hangs Lava for ever
                board.fail(index, error, self.where(h))
        self.out.send(self.silence if payload is None else payload.reshape(-1))
        if params["tells"]:
            neuron = None if payload is None or self.engine is None else self.engine.neuron
            self.distance.send(neuron.distance.reshape(-1) if isinstance(neuron, NeuronState) else self.silence)
        for k in range(params["ports"]):
            if k in dense:
                continue
            arrived = self.port(k).recv()
            if self.engine is not None and k in self.engine.synapses and not board.failed:
                try:
                    self.engine.deliver(k, arrived)
                except Exception as error:
                    board.fail(index, error, self.where(h))
        board.advance(index)

    def port(self, k: int) -> Any:
        """Return input port ``k``."""
        return getattr(self, f"in_{k}")

    def where(self, h: int) -> str:
        """Name the moment for a message."""
        slot = self.engine.slot(h) if self.engine else None
        return f"hardware step {h}" if slot is None else f"sample {slot[0]}, step {slot[1]} (hardware step {h})"


def _on_cpu(process: type, model: type) -> Any:
    return implements(proc=process, protocol=LoihiProtocol)(requires(CPU)(tag("bit_accurate_loihi", "fixed_pt")(model)))


def population_model(ports: int, tells: bool = False) -> type:
    """Model class with ``ports`` input ports: Lava wants each declared on the class."""
    declared = {f"in_{k}": LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24) for k in range(ports)}
    declared |= {"distance": LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)} if tells else {}
    model: type = _on_cpu(PopulationProcess, type(f"PopulationModel{ports}{'Tells' * tells}", (PopulationModel,), declared))
    return model


class SourceProcess(AbstractProcess):  # type: ignore[misc]
    """Sends an input array [samples, T or 1, *shape] at hardware steps interval * (s * (T + rest) + t) + late, zeros in between."""

    def __init__(self, *, name: str, data: np.ndarray, plan: Plan | None, rest: int = 0, late: int = 0) -> None:
        size = int(np.prod(data.shape[2:]))
        super().__init__(name=name, data=data, plan=plan, rest=rest, late=late, size=size)
        self.s_out = OutPort(shape=(size,))


@implements(proc=SourceProcess, protocol=LoihiProtocol)
@requires(CPU)
@tag("bit_accurate_loihi", "fixed_pt")
class SourceModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Model of SourceProcess: reads the (memory-mapped) array in place."""

    s_out = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    def run_spk(self) -> None:
        """Send the data of this hardware step."""
        params = self.proc_params
        data, plan = params["data"], params["plan"]
        at = None if plan is None else slot(self.time_step - 1 - params["late"], plan, data.shape[0], params["rest"])
        if at is None:
            self.s_out.send(np.zeros(params["size"], np.int32))
        else:
            self.s_out.send(data[at[0], at[1] if data.shape[1] > 1 else 0].reshape(-1))

"""The Lava processes of learning: Lava's own LearningDense, watched, and the populations that feed it the third factor.

Within one Lava time step the plastic synapse first sends the accumulator of the step before, then receives spikes and third factors;
the error population first sends what is due, then receives the readout's payloads and the target; a modulator receives from its
feedback synapse (which sends first), sends, and then hears its layer. So nothing waits in a circle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.learning.learning_rule import Loihi3FLearningRule
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.dense.models import PyLearningDenseModelBitApproximate
from lava.proc.dense.process import LearningDense
from lava.utils.weightutils import SignMode

from .plastic import Layer
from .third_factors import ErrorRule, ModulatorRule


def plastic_dense(weights: np.ndarray, layer: Layer, **watch: Any) -> LearningDense:
    """Lava's plastic dense synapse with the rule of the plan; ``weights`` are chip weights, 8 bits and a sign."""
    rule = Loihi3FLearningRule(dw=layer.dw, x1_impulse=layer.x1_impulse, x1_tau=layer.x1_tau, t_epoch=layer.epoch, rng_seed=layer.seed)
    return LearningDense(
        weights=weights,
        learning_rule=rule,
        name=f"{layer.population}.plastic",
        num_weight_bits=8,
        sign_mode=SignMode.MIXED,
        weight_exp=0,
        watch=watch,
    )


@implements(proc=LearningDense, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "bit_approximate_loihi")
class PlasticModel(PyLearningDenseModelBitApproximate):  # type: ignore[misc]
    """Lava's model as it is; the weights in force are written down in every step."""

    def run_spk(self) -> None:
        """One hardware step of Lava's model."""
        watch = self.proc_params["watch"]
        board, index = watch["board"], watch["index"]
        try:
            super().run_spk()
            watch["recorder"].record(self.time_step - 1, self.weights)
        except Exception as error:
            board.fail(index, error, f"hardware step {self.time_step - 1}")
            raise
        board.advance(index)

    def run_lrn(self) -> None:
        """Lava's learning at the end of an epoch."""
        watch = self.proc_params["watch"]
        try:
            super().run_lrn()
        except Exception as error:
            watch["board"].fail(watch["index"], error, f"learning in hardware step {self.time_step - 1}")
            raise


class ErrorProcess(AbstractProcess):  # type: ignore[misc]
    """Error population: ``logits`` and one-hot ``target`` in; third factors ``positive`` and ``negative``, and the ``graded`` error out."""

    def __init__(self, *, size: int, **params: Any) -> None:
        super().__init__(name="error", size=size, **params)
        self.logits, self.target = InPort(shape=(size,)), InPort(shape=(size,))
        self.positive, self.negative, self.graded = OutPort(shape=(size,)), OutPort(shape=(size,)), OutPort(shape=(size,))


@implements(proc=ErrorProcess, protocol=LoihiProtocol)
@requires(CPU)
@tag("bit_accurate_loihi", "fixed_pt")
class ErrorModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Sends an error ``delay`` hardware steps after the readout's update, the graded one after a step, zeros otherwise."""

    logits = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    target = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=1)
    positive = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=8)
    negative = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=8)
    graded = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    def run_spk(self) -> None:
        """Send what is due, receive, compute."""
        params = self.proc_params
        silence, h = np.zeros(params["size"], np.int32), self.time_step - 1
        if h == 0:
            self.rule, self.next = ErrorRule(params["error"], params["size"]), silence
            self.due: dict[int, np.ndarray] = {}
        k = self.due.pop(h, silence)
        self.positive.send(2 * np.maximum(k, 0))
        self.negative.send(2 * np.maximum(-k, 0))
        self.graded.send(self.next)
        self.next = silence
        logits, target = self.logits.recv(), self.target.recv()
        try:
            slot = params["slot"](h)
            if slot is not None:
                k, self.next = self.rule.step(logits, int(target.argmax()) if target.any() else -1, slot[1])
                self.due[h + params["error"]["delay"]] = k
                if params["record"] is not None:
                    keep_sent(self, slot, k)
        except Exception as error:
            params["board"].fail(params["index"], error, f"hardware step {h}")
        params["board"].advance(params["index"])


class ModulatorProcess(AbstractProcess):  # type: ignore[misc]
    """Modulator population of a hidden layer: third factors out, from the layer's distance to its threshold and its spikes, and either
    what its feedback synapse delivers (``feedback``) or the teacher's activity plus one, zero for none (``activity``)."""

    def __init__(self, *, name: str, size: int, **params: Any) -> None:
        super().__init__(name=name, size=size, **params)
        self.distance, self.spikes = InPort(shape=(size,)), InPort(shape=(size,))
        self.feedback, self.activity = InPort(shape=(size,)), InPort(shape=(size,))
        self.positive, self.negative = OutPort(shape=(size,)), OutPort(shape=(size,))


@implements(proc=ModulatorProcess, protocol=LoihiProtocol)
@requires(CPU)
@tag("bit_accurate_loihi", "fixed_pt")
class ModulatorModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Feedback arrives, is used and sent on in one hardware step; a local error is sent ``delay`` steps after it was heard."""

    distance = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    spikes = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=1)
    feedback = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    activity = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=9)
    positive = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=8)
    negative = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=8)

    def run_spk(self) -> None:
        """Receive feedback, send what is due, hear the layer."""
        params = self.proc_params
        silence, h, delay = np.zeros(params["size"], np.int32), self.time_step - 1, params["modulator"]["delay"]
        if h == 0:
            self.rule = ModulatorRule(params["modulator"], params["size"])
            self.due: dict[int, np.ndarray] = {}
        arrived = self.feedback.recv()
        try:
            slot = params["back"](h)
            if slot is not None:
                self.due[h + delay] = k = self.rule.back(arrived)
                keep_sent(self, slot, k)
        except Exception as error:
            params["board"].fail(params["index"], error, f"hardware step {h}")
        k = self.due.pop(h, silence)
        self.positive.send(2 * np.maximum(k, 0))
        self.negative.send(2 * np.maximum(-k, 0))
        distance, spikes, activity = self.distance.recv(), self.spikes.recv(), self.activity.recv()
        try:
            slot = params["slot"](h)
            if slot is not None:
                self.rule.hear(slot[1], distance, spikes)
                if params["modulator"]["kind"] == "local":
                    self.due[h + delay] = k = self.rule.local(slot[1], activity - 1 if activity.any() else None)
                    keep_sent(self, slot, k)
        except Exception as error:
            params["board"].fail(params["index"], error, f"hardware step {h}")
        params["board"].advance(params["index"])


def keep_sent(model: Any, slot: tuple[int, int], k: np.ndarray) -> None:
    """Write down the third factors of a model step."""
    if getattr(model, "records", None) is None:
        model.records = np.load(model.proc_params["record"], mmap_mode="r+", allow_pickle=False)
    model.records[slot] = k

"""The Lava processes of learning: Lava's own LearningDense, watched, and the error population that feeds it the third factor.

Within one Lava time step the plastic synapse first sends the accumulator of the step before, then receives spikes and third factors;
the error population first sends what is due, then receives the readout's payloads and the target. So nothing waits in a circle.
"""

from __future__ import annotations

from collections import deque
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

from .plastic import ErrorRule, Learning


def plastic_dense(weights: np.ndarray, learning: Learning, **watch: Any) -> LearningDense:
    """Lava's plastic dense synapse with the rule of the plan; ``weights`` are chip weights, 8 bits and a sign."""
    rule = Loihi3FLearningRule(
        dw=learning.dw, x1_impulse=learning.x1_impulse, x1_tau=learning.x1_tau, t_epoch=learning.epoch, rng_seed=learning.seed
    )
    return LearningDense(
        weights=weights, learning_rule=rule, name="plastic", num_weight_bits=8, sign_mode=SignMode.MIXED, weight_exp=0, watch=watch
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
    """Error population: ``logits`` and one-hot ``target`` in, third factors ``positive`` and ``negative`` out."""

    def __init__(self, *, size: int, **params: Any) -> None:
        super().__init__(name="error", size=size, **params)
        self.logits, self.target = InPort(shape=(size,)), InPort(shape=(size,))
        self.positive, self.negative = OutPort(shape=(size,)), OutPort(shape=(size,))


@implements(proc=ErrorProcess, protocol=LoihiProtocol)
@requires(CPU)
@tag("bit_accurate_loihi", "fixed_pt")
class ErrorModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Sends an error ``delay`` hardware steps after the readout's update, zeros otherwise."""

    logits = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    target = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=1)
    positive = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=8)
    negative = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=8)

    def run_spk(self) -> None:
        """Send what is due, receive, compute."""
        params = self.proc_params
        if self.time_step == 1:
            self.rule = ErrorRule(params["error"], params["size"])
            self.due = deque([np.zeros(params["size"], np.int32)] * params["error"]["delay"])
            self.records = np.load(params["out"] / "learning.errors.npy", mmap_mode="r+", allow_pickle=False)
        k = self.due.popleft()
        self.positive.send(2 * np.maximum(k, 0))
        self.negative.send(2 * np.maximum(-k, 0))
        logits, target = self.logits.recv(), self.target.recv()
        fresh = np.zeros(params["size"], np.int32)
        h = self.time_step - 1
        try:
            slot = params["slot"](h)
            if slot is not None:
                fresh = self.rule.step(logits, int(target.argmax()) if target.any() else -1)
                self.records[slot] = fresh
        except Exception as error:
            params["board"].fail(params["index"], error, f"hardware step {h}")
        self.due.append(fresh)
        params["board"].advance(params["index"])

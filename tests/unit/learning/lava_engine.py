"""Run by the Lava guest's Python: drive Lava's own plastic dense model through recorded inputs and write down every weight.

    python lava_engine.py CASES_FOLDER [--events]

The model is Lava's class as it is; only its ports are replaced by lists, so that hundreds of cases run in one process.
"""

import json
import sys
from pathlib import Path

import numpy as np
from lava.magma.core.learning.constants import GradedSpikeCfg
from lava.magma.core.learning.learning_rule import Loihi2FLearningRule, Loihi3FLearningRule
from lava.proc.dense.models import PyLearningDenseModelBitApproximate
from lava.proc.dense.process import LearningDense
from lava.utils.weightutils import SignMode

SIGNS = {"mixed": SignMode.MIXED, "excitatory": SignMode.EXCITATORY, "inhibitory": SignMode.INHIBITORY}


class Port:
    """Hands out the rows of an array, or collects what is sent."""

    def __init__(self, rows=None):
        self.rows, self.sent, self.k = rows, [], -1

    def recv(self):
        self.k += 1
        return self.rows[self.k].copy()

    def send(self, value):
        self.sent.append(np.array(value))


def rule_of(case):
    keys = [f"{t}_{p}" for t in ("x1", "x2") + (() if case["delivered"] else ("y1", "y2", "y3")) for p in ("impulse", "tau")]
    kind = Loihi3FLearningRule if case["delivered"] else Loihi2FLearningRule
    return kind(dw=case["dw"], dd=case["dd"], dt=case["dt"], t_epoch=case["epoch"], rng_seed=case["seed"], **{k: case[k] for k in keys})


def run(case, arrays):
    process = LearningDense(
        weights=arrays["w"],
        tag_1=arrays["t"],
        tag_2=arrays["d"],
        learning_rule=rule_of(case),
        graded_spike_cfg=GradedSpikeCfg(case["graded"]),
        num_message_bits=case["message_bits"],
        sign_mode=SIGNS[case["sign"]],
        num_weight_bits=case["weight_bits"],
        weight_exp=case["exponent"],
    )
    model = PyLearningDenseModelBitApproximate(process.proc_params)
    for var in process.vars:
        if var.name in ("dw", "dd", "dt"):
            setattr(model, var.name, var.init)
            continue
        kind = getattr(PyLearningDenseModelBitApproximate, var.name)
        setattr(model, var.name, np.array(np.broadcast_to(var.init, var.shape)).astype(kind.d_type))
    post, y = arrays["post"], arrays["y"]
    model.a_out, model.s_in, model.s_in_bap = Port(), Port(arrays["s"]), Port(post)
    model.s_in_y1, model.s_in_y2, model.s_in_y3 = (Port(y[:, k]) for k in range(3))
    found = {"w": [], "d": [], "t": [], "x": []}
    for step in range(len(arrays["s"])):
        model.time_step = step + 1
        model.run_spk()
        if model.lrn_guard():
            model.run_lrn()
        for key, values in (("w", model.weights), ("d", model.tag_2), ("t", model.tag_1), ("x", np.stack([model.x1, model.x2]))):
            found[key].append(np.array(values))
    return {k: np.stack(v).astype(np.int16) for k, v in found.items()} | {"out": np.stack(model.a_out.sent)}


def main():
    folder = Path(sys.argv[1])
    cases = json.loads((folder / "cases.json").read_text())
    for k, case in enumerate(cases):
        arrays = dict(np.load(folder / f"case{k}.npz"))
        np.savez(folder / f"found{k}.npz", **run(case, arrays))
    print(json.dumps({"event": "done", "step_seconds": 0.0}), flush=True)


if __name__ == "__main__":
    main()

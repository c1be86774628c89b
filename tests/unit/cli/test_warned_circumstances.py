"""What a network was handed over with that its user may not have meant is said when it is exported."""

from __future__ import annotations

import torch
from user_project import snn

from snncompile.online import build_network
from snncompile.online.checkpoint import Checkpoint, save_checkpoint

ARGS = {"config": [3], "in_channels": 1, "num_classes": 2, "input_size": [4, 4], "steps": 3, "float_first": True}


def test_fewer_steps_and_statistics_that_were_never_set_are_warned_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    shown = {"shape": [1, 4, 4], "layout": "step", "dtype": "uint8", "low": 0, "high": 255}
    save_checkpoint("model.pt", Checkpoint(
        arch="empf_vgg", arch_args=ARGS, method="EMPF_R", steps=3, input=shown, readout="sum", classes=2, training={},
        state_dict=build_network("empf_vgg", **ARGS).state_dict(),
    ))  # fmt: skip
    answer = snn("export", "model.pt", "--no-lava", "--steps", "2")
    assert answer.status == 0, answer.err
    assert "warning: number of time steps: T = 2; 'features.0.2' has parameters for 3 steps" in answer.err
    assert "warning: batch statistics never set: mean 0, variance 1; the running statistics of" in answer.err
    longer = snn("export", "model.pt", "--no-lava", "--steps", "4")
    assert longer.status == 1
    assert "error[SNN705]: this network has parameters for T = 3 time steps" in longer.err

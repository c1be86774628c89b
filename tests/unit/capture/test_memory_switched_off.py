"""A factor of 0 on the membrane, at some steps and channels: memory and input are switched off there (Mem-BN with k = 0)."""

import pytest
import torch
from agreement import agrees
from torch import nn

STEPS = 4


class SwitchedOff(nn.Module):
    """m = k[t, c] * (v / 2 + x) + 0.6 with k = 0 in every second channel of every second step."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.v, self.t, self.kind = nn.Linear(6, 8), nn.Linear(8, 3), 0.0, 0, kind

    def forward(self, x):
        k = torch.tensor([(0.8, 0.0, 1.2, 0.0)[self.t], 0.7])[torch.arange(8) % 2]
        m = k * (0.5 * self.v + self.a(x)) + 0.6
        if self.kind == "graded":
            s = torch.relu(m - 0.5)
            self.v = m - s
        else:
            s = (m >= 0.5).float()
            self.v = m * (1 - s) if self.kind == "hard reset" else m - 0.5 * s
        self.t += 1
        return self.b(s)


@pytest.mark.parametrize("kind", ["graded", "hard reset", "soft reset"])
def test_a_membrane_that_is_switched_off_at_some_steps_is_captured(kind):
    (neuron,) = [n for n in agrees(SwitchedOff(kind), (6,), steps=STEPS).graph.nodes if n.kind == "neuron"]
    assert (neuron.leak == 0).sum() > 0
    assert (neuron.leak != 0).sum() > 0

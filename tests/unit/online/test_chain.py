"""The online rules on a stream: the same weights as the training kit's networks learn by autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from snncompile.online import OnlineLIF, ResettableNetwork, Scale, TracedLinear
from snncompile.online.chain import Stage, learn_chain, run_chain
from snncompile.online.ltl import LTL_LEAK, LTLStage, LTLStudent, ltl_batch, normalised
from snncompile.online.rule import train_batch
from snncompile.online.surrogate import Triangle

STEPS, GAIN, RATE = 5, 1.7, 0.3


class Net(ResettableNetwork):
    """Two dense layers of neurons and a readout, a gain behind the first."""

    def __init__(self, trace: float | None) -> None:
        super().__init__()
        torch.manual_seed(3)
        surrogate = None if trace else Triangle()
        self.fc1, self.lif1, self.gain = TracedLinear(9, 8, trace_leak=trace), OnlineLIF(2.0, surrogate=surrogate), Scale(GAIN)
        self.fc2, self.lif2 = TracedLinear(8, 7, trace_leak=trace), OnlineLIF(2.0, surrogate=surrogate)
        self.out = TracedLinear(7, 4, trace_leak=trace)
        for layer in (self.fc1, self.fc2, self.out):
            layer.bias.requires_grad_(False)
            with torch.no_grad():
                layer.weight.mul_(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.lif2(self.fc2(self.gain(self.lif1(self.fc1(x))))))


def stage(layer: nn.Linear, kind: str, gain: float = 1.0, threshold: float = 1.0, leak: float = 0.5, **more: object) -> Stage:
    def one(value: float) -> np.ndarray:
        return np.full((1, 1), value)

    return Stage(
        weight=gain * layer.weight.detach().numpy(), kind=kind, bias=layer.bias.detach().numpy()[None],
        leak=one(leak if kind != "none" else 0),
        threshold=one(threshold), reset=one(1.0 if kind == "subtract" else 0.0), start=np.zeros(1), **more,
    )  # fmt: skip


def stream(samples: int) -> tuple[np.ndarray, np.ndarray]:
    g = np.random.default_rng(0)
    return (g.random((samples, STEPS, 9)) < 0.4).astype(np.uint8), g.integers(-1, 4, samples)


@pytest.mark.parametrize(("trace", "loss"), [(0.5, "softmax"), (None, "softmax"), (0.5, "mse")])
def test_back_propagation_through_the_chain_is_the_kits_autograd(trace, loss):
    net, (spikes, labels) = Net(trace), stream(6)
    shape = {"trace": trace or 0.0, "surrogate": ("sigmoid", 4.0) if trace else ("triangle", 1.0)}
    chain = [
        stage(net.fc1, "subtract", step=RATE / STEPS, **shape), stage(net.fc2, "subtract", GAIN, step=RATE * GAIN**2 / STEPS, **shape),
        stage(net.out, "none", step=RATE / STEPS, **shape),
    ]  # fmt: skip
    found = learn_chain(chain, spikes, labels, loss=loss, transport=True)
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=RATE)
    net.train()
    for n, label in enumerate(labels):
        if label >= 0:
            frames = [torch.from_numpy(f).float()[None] for f in spikes[n]]
            mse = {"softmax": 0.0, "mse": 1.0}[loss]
            train_batch(net, frames, torch.tensor([label]), optimiser, steps=STEPS, online=True, mse=mse)
        for layer, w, gain in zip((net.fc1, net.fc2, net.out), found, (1, GAIN, 1), strict=True):
            np.testing.assert_allclose(w[n + 1], gain * layer.weight.detach().numpy(), rtol=1e-4, atol=1e-5)
    assert all(np.abs(w[-1] - w[0]).max() > 0.01 for w in found)


def test_feedback_alignment_takes_the_given_matrix_in_the_place_of_the_weights():
    net, (spikes, labels) = Net(0.5), stream(6)
    out = stage(net.out, "none", step=0.0)
    given = [stage(net.fc2, "subtract", GAIN, step=0.1, feedback=f) for f in (net.out.weight.detach().numpy().T, None)]
    sent = spikes[:, :, :8]
    by_feedback, exact = (learn_chain([g, out], sent, labels, loss="softmax")[0] for g in given)
    np.testing.assert_allclose(by_feedback, exact, atol=1e-6)  # the readout is frozen, so its transposed weights are the exact way
    other = learn_chain([stage(net.fc2, "subtract", GAIN, step=0.1, feedback=np.ones((7, 4))), out], sent, labels, loss="softmax")[0]
    np.testing.assert_allclose(other, exact[:1].repeat(len(other), 0), atol=1e-6)  # errors add up to 0


def test_local_errors_are_ltls():
    torch.manual_seed(0)
    layers = [LTLStage(nn.Linear(9, 8)), LTLStage(nn.Linear(8, 7))]
    student = LTLStudent(layers, 0, nn.Linear(7, 4), None)
    for parameter in (m.bias for m in (layers[0].synapses, layers[1].synapses, student.classifier)):
        parameter.requires_grad_(False)
    x, activity, label = torch.rand(1, 9), [torch.rand(1, 8), torch.rand(1, 7)], torch.tensor([2])
    warm = STEPS - 1  # one step learns: the kit applies the sum of all steps at the end
    shape = {"threshold": 0.6, "leak": LTL_LEAK, "surrogate": ("boxcar", 0.2), "local": True}
    chain = [
        stage(layers[0].synapses, "set", step=RATE * 0.5 * 2 / 8, **shape),
        stage(layers[1].synapses, "set", step=RATE * 0.5 * 2 / 7, **shape),
        stage(student.classifier, "none", step=RATE),
    ]  # fmt: skip
    given = [normalised(a).numpy() for a in activity]
    found = learn_chain(chain, x.repeat(STEPS, 1)[None].numpy(), label.numpy(), loss="mean", warm=warm, activity=[*given, None])

    class Teacher(nn.Module):
        def forward(self, _x: torch.Tensor) -> tuple[list[torch.Tensor], None]:
            return activity, None

    student.train()
    parameters = [p for p in student.parameters() if p.requires_grad]
    ltl_batch(student, Teacher(), x, label, torch.optim.SGD(parameters, lr=RATE), steps=STEPS, warm=warm, coefficient=0.5)
    for module, w in zip((layers[0].synapses, layers[1].synapses, student.classifier), found, strict=True):
        np.testing.assert_allclose(w[1], module.weight.detach().numpy(), atol=1e-6)
    assert np.abs(found[2][1] - found[2][0]).max() > 0.01


def test_a_batch_of_samples_runs_as_one_by_one():
    net, (spikes, _) = Net(0.5), stream(6)
    chain = [stage(net.fc1, "subtract", step=1.0), stage(net.fc2, "subtract", GAIN), stage(net.out, "none")]
    net.eval()
    wanted = []
    for sample in spikes:
        net.reset()
        wanted.append([net(torch.from_numpy(f).float()[None])[0].detach().numpy() for f in sample])
    np.testing.assert_allclose(run_chain(chain, spikes, [net.fc1.weight.detach().numpy()], batch=4), np.array(wanted), atol=1e-5)

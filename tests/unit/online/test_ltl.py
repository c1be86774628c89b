"""LTL: the local rule against NumPy, nothing leaves a layer, memory, and a student that learns from its teacher."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from measuring import CollectGradients, parameters, training_bytes

from snncompile.errors import CompileError
from snncompile.online import LTLTeacher, build_network, ltl_batch
from snncompile.online.ltl import normalised
from snncompile.online.rule import direct_coding, summed_logits

LEAK = np.exp(-0.1)


def small_nets(**changes):
    torch.manual_seed(0)
    arguments = {"config": [(3, 1), (4, 2)], "hidden": [5], "in_channels": 1, "num_classes": 2, "input_size": [5, 5]} | changes
    student = build_network("ltl_vgg", **arguments).double()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return student, LTLTeacher(student).double(), torch.rand(4, 1, 5, 5).double(), torch.tensor([0, 1, 1, 0])


def test_a_layer_learns_from_its_own_rate_error_its_boxcar_and_what_it_receives():
    steps, warm = 5, 2
    student, teacher, x, labels = small_nets(config=[], hidden=[6], input_size=[2, 2])
    x = 3 * torch.rand(4, 1, 2, 2).double()
    optimiser = CollectGradients(student)
    ltl_batch(student.train(), teacher, x, labels, optimiser, steps=steps, warm=warm, coefficient=0.7)
    (got,) = optimiser.steps

    target = normalised(teacher(x)[0][0]).detach().numpy()
    w, b = (student.stages[0].synapses.get_parameter(name).detach().numpy() for name in ("weight", "bias"))
    c, d = student.classifier.weight.detach().numpy(), student.classifier.bias.detach().numpy()
    pixels, onehot = x.numpy().reshape(4, 4), np.eye(2)[labels.numpy()]
    v, fired, scores = np.zeros((4, 6)), np.zeros((4, 6)), np.zeros((4, 2))
    dw, dc = np.zeros_like(w), np.zeros_like(c)
    boxed = 0
    for t in range(steps):
        u = LEAK * v + pixels @ w.T + b
        s = (u > 0.6).astype(float)
        v, fired, scores = (1 - s) * u, fired + s, scores + s @ c.T + d
        if t >= warm:
            box = np.abs(u - 0.6) < 0.2
            dw += 0.7 * (2 / target.size * (fired / (t + 1) - target) / (t + 1) * box).T @ pixels
            softmax = np.exp(scores / (t + 1))
            dc += ((softmax / softmax.sum(1, keepdims=True) - onehot) / 4 / (t + 1)).T @ s
            boxed += box.sum()
    assert boxed > 0
    np.testing.assert_allclose(got["stages.0.synapses.weight"], dw, atol=1e-12)
    np.testing.assert_allclose(got["classifier.weight"], dc, atol=1e-12)


def test_no_error_leaves_a_layer():
    student, teacher, x, labels = small_nets()
    optimiser = CollectGradients(student)
    ltl_batch(student.train(), teacher, x, labels, optimiser, steps=4, warm=1)
    with torch.no_grad():
        teacher.layers[2][1].bias.add_(1.0)  # another target for the last layer only
        ltl_batch(student, teacher, x, labels, optimiser, steps=4, warm=1)
    first, second = optimiser.steps
    for k in range(2):
        np.testing.assert_array_equal(first[f"stages.{k}.synapses.weight"], second[f"stages.{k}.synapses.weight"])
    assert not np.array_equal(first["stages.2.synapses.weight"], second["stages.2.synapses.weight"])


def test_the_teacher_clips_normalised_layers_at_two():
    _, teacher, x, _ = small_nets()
    with torch.no_grad():
        for layer in teacher.layers:
            layer[1].weight.normal_(0, 2)
            layer[1].bias.normal_(1, 1)
            layer[1].running_mean.normal_()
            layer[1].running_var.uniform_(0.1, 1)
    activities, logits = teacher.eval()(x)
    h = x.numpy()
    for k, (layer, got) in enumerate(zip(teacher.layers, activities, strict=True)):
        synapses, norm = layer
        if k < 2:
            y = torch.conv2d(torch.from_numpy(h), synapses.weight, synapses.bias, stride=(1, 2)[k], padding=1).detach().numpy()
        else:
            y = h.reshape(4, -1) @ synapses.weight.detach().numpy().T + synapses.bias.detach().numpy()
        mean, var, gamma, beta = (
            p.detach().numpy().reshape(-1, *(1,) * (y.ndim - 2)) for p in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        h = np.clip(gamma * (y - mean) / np.sqrt(var + 1e-4) + beta, 0, 2)
        np.testing.assert_allclose(got.detach().numpy(), h, atol=1e-12)
        assert 0 < (h == 2).mean() < 1
    want = h.reshape(4, -1) @ teacher.classifier.weight.detach().numpy().T + teacher.classifier.bias.detach().numpy()
    np.testing.assert_allclose(logits.detach().numpy(), want, atol=1e-12)


def test_targets_are_activities_over_their_percentile():
    activity = torch.arange(101.0)
    torch.testing.assert_close(normalised(activity), (activity / 99).clamp(max=1))
    assert normalised(torch.zeros(5)).tolist() == [0] * 5


def test_training_memory_at_64_steps_is_that_at_16_steps():
    def peak(steps):
        student, teacher, x, labels = small_nets()
        optimiser = torch.optim.SGD(student.parameters(), 0.01)
        return training_bytes(student.train(), lambda: ltl_batch(student, teacher, x, labels, optimiser, steps=steps, warm=12))

    assert peak(64) / peak(16) <= 1.05


def test_the_student_has_the_parameter_count_of_the_paper():
    assert parameters(lambda: build_network("ltl_vgg")) == 10_537_354


def test_eval_mode_is_the_hard_reset_neuron_and_init_starts_afresh():
    student, _, x, _ = small_nets()
    student.eval()
    first = summed_logits(student, direct_coding(x, 6))
    assert torch.equal(summed_logits(student, direct_coding(x, 6)), first)
    student.train()
    logits = [student(x, init=t == 0) for t in range(6)]
    torch.testing.assert_close(sum(logits).detach(), first)
    assert not torch.equal(logits[0], logits[1])


def test_a_student_learns_what_its_teacher_knows():
    torch.manual_seed(1)
    arguments = {"config": [(6, 2)], "hidden": [12], "in_channels": 1, "num_classes": 2, "input_size": [6, 6], "mean": [0.4], "std": [0.4]}
    student = build_network("ltl_vgg", **arguments)
    teacher = LTLTeacher(student)
    y = torch.arange(32) % 2
    x = torch.rand(32, 1, 6, 6) * 60 + 190 * (y[:, None, None, None] == (torch.arange(6) % 2))
    optimiser = torch.optim.Adam(teacher.parameters(), 0.02)
    for _ in range(20):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(teacher(x)[1], y).backward()
        optimiser.step()
    optimiser = torch.optim.Adam(student.parameters(), 0.01)
    for _ in range(20):
        decision = ltl_batch(student.train(), teacher, x, y, optimiser, steps=6, warm=3)
    assert (decision.argmax(1) == y).float().mean() >= 0.9
    assert (summed_logits(student.eval(), direct_coding(x, 6)).argmax(1) == y).float().mean() >= 0.9


def test_mistakes_are_named():
    student, teacher, x, labels = small_nets()
    optimiser = torch.optim.SGD(student.parameters(), 0.1)
    with pytest.raises(CompileError, match="no step learns") as caught:
        ltl_batch(student, teacher, x, labels, optimiser, steps=4, warm=4)
    assert caught.value.code == "SNN731"
    with pytest.raises(CompileError, match="pairs of width and stride") as caught:
        small_nets(config=[(3, 4)])
    assert caught.value.code == "SNN703"

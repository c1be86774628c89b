"""A network in training mode, one of another T, and a membrane batch norm that inverts or amplifies the membrane."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snncompile import pipeline
from snncompile.errors import CompileError
from snncompile.ir.text import to_text
from snncompile.online import HDLIF, OnlineRenorm, build_network, calibrate_thresholds
from snncompile.verify import Program, verify

STEPS = 3
ARGS = {"config": [3], "in_channels": 1, "num_classes": 2, "input_size": [4, 4], "steps": STEPS, "float_first": True}


def seen_a_batch(net):
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.num_batches_tracked.fill_(1)
        elif isinstance(module, OnlineRenorm):
            module.run_mean.fill_(0.01)
    return net


def network():
    torch.manual_seed(0)
    return seen_a_batch(build_network("empf_vgg", **ARGS)).eval()


def compiled(net, steps=STEPS):
    return pipeline.compile(net, input_shape=(1, 4, 4), steps=steps, input_range=(0.0, 255.0, 1.0))


def test_a_network_in_training_mode_becomes_the_program_of_its_evaluation_mode_and_the_ledger_says_so():
    programs, ledgers = [], []
    for training in (True, False):
        made = compiled(network().train(training))
        programs.append(to_text(made.result.graph)[0])
        ledgers.append([d.what for d in made.decisions])
    assert programs[0] == programs[1]
    assert ledgers == [["mode of the network"], []]


def test_more_steps_than_a_network_has_parameters_for_are_refused_and_fewer_are_in_the_ledger():
    with pytest.raises(CompileError, match="parameters for T = 3 time steps and was asked for one more") as caught:
        compiled(network(), 4)
    assert caught.value.code == "SNN705"
    made = compiled(network(), 2)
    assert made.result.graph.steps == 2
    (line,) = made.decisions
    assert (line.what, line.value) == ("number of time steps", "T = 2")
    assert "'features.0.2' has parameters for 3 steps" in line.why


OSR_ARGS = {k: v for k, v in ARGS.items() if k != "float_first"}
FRESH = {
    "batch norm": (lambda: build_network("empf_vgg", **ARGS), "'features.0.1'"),
    "OSR's normalisation": (lambda: build_network("osr_vgg", thresholds="constant", **OSR_ARGS), "'body.0.1'"),
}


@pytest.mark.parametrize(("net", "where"), FRESH.values(), ids=FRESH)
def test_statistics_that_no_batch_ever_entered_are_in_the_ledger(net, where):
    lines = [d for d in compiled(net().eval()).decisions if d.what == "batch statistics never set"]
    assert len(lines) == 1
    assert where in lines[0].why
    assert [d.what for d in compiled(seen_a_batch(net()).eval()).decisions] == []


def test_thresholds_of_another_number_of_steps_are_refused():
    net = build_network("osr_vgg", **{k: v for k, v in ARGS.items() if k != "float_first"})
    calibrate_thresholds(net, [torch.rand(8, 1, 4, 4)], STEPS)
    with pytest.raises(CompileError) as caught:
        compiled(net, STEPS + 1)
    assert caught.value.code == "SNN705"


def test_thresholds_that_were_never_calibrated_are_named_as_such():
    net = build_network("osr_vgg", **{k: v for k, v in ARGS.items() if k != "float_first"})
    with pytest.raises(CompileError) as caught:
        compiled(seen_a_batch(net))
    assert caught.value.code == "SNN706"
    assert caught.value.diagnostics[0].help


@pytest.mark.parametrize("k", [-0.75, 0.0, 1.5], ids=["inverts", "forgets", "amplifies"])
def test_a_channel_whose_batch_norm_gives_it_another_factor_keeps_its_dynamics(k):
    net = network()
    neuron = next(module for module in net.modules() if isinstance(module, HDLIF))
    bn, a, b = neuron.bn[1], torch.sigmoid(neuron.mem_ratio[1]), torch.sigmoid(neuron.bn_ratio[1])
    with torch.no_grad():
        bn.weight[0] = (k - a) / b * torch.sqrt(bn.running_var[0] + bn.eps)
        bn.bias[0] = 0.7
    made = compiled(net)
    x = np.random.default_rng(0).integers(0, 256, (32, 1, 1, 4, 4)).astype(float)
    program = Program(graph=made.result.graph, schedule=made.schedule, populations=made.result.populations)
    found = verify(program, {"x": x}, original=pipeline.original(made, net, x), backends=())
    assert found.ok, [str(f) for f in found.failures]


def every_k(value):
    """A network whose first membrane batch norms multiply by ``value`` at every step and channel."""
    net = network()
    neuron = next(module for module in net.modules() if isinstance(module, HDLIF))
    with torch.no_grad():
        for t, bn in enumerate(neuron.bn):
            a, b = torch.sigmoid(neuron.mem_ratio[t]), torch.sigmoid(neuron.bn_ratio[t])
            bn.weight.copy_((value - a) / b * torch.sqrt(bn.running_var + bn.eps))
    return net


def test_a_k_that_leaves_nothing_to_compare_with_the_threshold_is_named():
    with pytest.raises(CompileError, match=r"a factor of the membrane is 0 at every step and channel \(such as Mem-BN's k") as caught:
        compiled(every_k(0.0))
    assert caught.value.code == "SNN120"
    assert "hdlif.py" in str(caught.value)


def test_a_k_beyond_the_chips_leaks_is_named_with_its_limit():
    with pytest.raises(CompileError, match=r"leak 5e\+06 lies outside") as caught:
        compiled(every_k(1e7))
    assert caught.value.code == "SNN303"


def test_a_negative_variance_is_named():
    net = network()
    next(m for m in net.modules() if isinstance(m, HDLIF)).bn[1].running_var[2] = -0.5
    with pytest.raises(CompileError, match=r"running_var' holds a negative variance, -0\.5") as caught:
        compiled(net)
    assert caught.value.code == "SNN125"

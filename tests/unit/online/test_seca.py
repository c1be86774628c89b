"""SECA with calibrated gates: what they are, what they are measured against, and that the compiler can capture them."""

from __future__ import annotations

import pytest
import torch

from snncompile.capture.capture import capture
from snncompile.errors import CompileError
from snncompile.online import SECA, build_network, calibrate_gates, live_gates, trainer
from snncompile.online.rule import advance, direct_coding, summed_logits

STEPS = 3
ARGS = {"widths": [3, 4], "depths": [1, 1], "in_channels": 2, "num_classes": 3, "steps": STEPS, "four_bit": False, "gates": "fixed"}


def network(seca=1):
    torch.manual_seed(3)
    net = build_network("empf_resnet", **ARGS, seca=seca)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return net.eval(), torch.randn(10, 2, 6, 6)


@pytest.mark.parametrize("seca", [1, 2])
def test_gates_are_the_mean_over_samples_and_the_spread_is_their_deviation(seca):
    net, x = network(seca)
    calibrate_gates(net, [x[:7], x[7:]], STEPS)  # unequal batches: every sample counts alike
    with live_gates(net) as attention, torch.no_grad():
        seen = []
        for t in range(STEPS):
            advance(net, x, t == 0)
            seen.append([module.gate for module in attention])
    assert len(attention) == (4 if seca == 1 else 3)
    for k, module in enumerate(attention):
        live = torch.stack([step[k] for step in seen])
        torch.testing.assert_close(module.gates, live.mean(1))
        deviation = (live - live.mean(1, keepdim=True)).square().mean().sqrt() / live.mean(1).square().mean().sqrt()
        torch.testing.assert_close(module.spread, deviation, rtol=1e-3, atol=1e-6)
        assert module.approximation().size == float(module.spread) > 0


@pytest.mark.parametrize("seca", [1, 2])
def test_a_network_of_one_sample_computes_the_same_with_its_own_gates_fixed(seca):
    net, x = network(seca)
    calibrate_gates(net, [x[:1]], STEPS)
    fixed = summed_logits(net, direct_coding(x[:1], STEPS))
    with live_gates(net):
        live = summed_logits(net, direct_coding(x[:1], STEPS))
    torch.testing.assert_close(fixed, live)
    others = summed_logits(net, direct_coding(x, STEPS))
    torch.testing.assert_close(others[:1], fixed)
    with live_gates(net):
        assert not torch.allclose(summed_logits(net, direct_coding(x, STEPS)), others)


def test_the_fixed_gates_travel_with_the_state_dict():
    net, x = network()
    calibrate_gates(net, [x], STEPS)
    twin = build_network("empf_resnet", **ARGS, seca=1)
    twin.load_state_dict(net.state_dict())
    assert torch.equal(summed_logits(twin.eval(), direct_coding(x, STEPS)), summed_logits(net, direct_coding(x, STEPS)))


def test_the_compiler_captures_fixed_gates_as_gains_and_live_ones_as_neuron_programs():
    net, x = network()
    calibrate_gates(net, [x], STEPS)
    graph = capture(net, input_shape=(2, 6, 6), steps=STEPS, layout="step", name="fixed").graph
    assert {type(node).__name__ for node in graph.nodes if "euron" in type(node).__name__} == {"Neuron"}
    live = build_network("empf_resnet", **(ARGS | {"gates": "live"}), seca=1).eval()
    graph = capture(live, input_shape=(2, 6, 6), steps=STEPS, layout="step", name="live").graph
    assert sum(type(node).__name__ == "NeuronProgram" for node in graph.nodes) >= 2


def test_mistakes_are_named():
    net, x = network()
    for action, code in (
        (lambda: summed_logits(net, direct_coding(x, STEPS)), "SNN706"),
        (lambda: calibrate_gates(net, [], STEPS), "SNN706"),
        (lambda: calibrate_gates(net, [x], STEPS) or summed_logits(net, direct_coding(x, STEPS + 1)), "SNN705"),
        (lambda: build_network("empf_resnet", **(ARGS | {"gates": "soft"}), seca=1), "SNN703"),
    ):
        with pytest.raises(CompileError) as caught:
            action()
        assert caught.value.code == code
    assert SECA().approximation() is None


def test_a_network_learns_at_last_with_the_gates_that_it_is_deployed_with(tmp_path, monkeypatch):
    """Half of the training; from then on the gates neither follow the sample nor are they calibrated again."""
    held = []

    def calibrated(net, batches, steps):
        calibrate_gates(net, batches, steps)
        held.append([seca.gates.clone() for seca in net.modules() if isinstance(seca, SECA)])

    monkeypatch.setattr(trainer, "calibrate_gates", calibrated)
    g = torch.Generator().manual_seed(0)
    data = torch.randint(0, 256, (8, 2, 6, 6), generator=g, dtype=torch.uint8), torch.arange(8) % 3
    config = trainer.TrainConfig(method="EMPF_R", steps=STEPS, epochs=1, batch_size=2, mse=0.0, settled=0.5)
    made = trainer.Trainer(arch="empf_resnet", arch_args=ARGS | {"seca": 1}, config=config, out=tmp_path / "model.pt")
    learned = []
    learn = trainer.Trainer.learn

    def spied(self, net, *rest):
        learned.append([seca.held for seca in net.modules() if isinstance(seca, SECA)])
        before = [seca.gate for seca in net.modules() if isinstance(seca, SECA)]
        found = learn(self, net, *rest)
        after = [seca.gate for seca in net.modules() if isinstance(seca, SECA)]
        assert all(a is None or a is b for a, b in zip(after, before, strict=True)) is learned[-1][0]
        return found

    monkeypatch.setattr(trainer.Trainer, "learn", spied)
    net = made.fit(data, data).build()
    assert [row[0] for row in learned] == [False, False, True, True]
    assert len(held) == 1
    assert all(torch.equal(a.gates, b) for a, b in zip((m for m in net.modules() if isinstance(m, SECA)), held[0], strict=True))
    with pytest.raises(CompileError, match="settled"):
        trainer.TrainConfig(settled=1.0)

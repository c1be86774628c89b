"""The libraries' neurons in all combinations of their options: captured as they run, or refused with a reason that is known."""

from __future__ import annotations

import itertools
import warnings

import pytest
import snntorch
import torch
from agreement import agrees
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from snncompile.capture.capture import capture
from snncompile.errors import CompileError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sinabs.activation as sa
    import sinabs.layers as sl

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

JELLY = {
    "IF": (neuron.IFNode, {}), "LIF": (neuron.LIFNode, {"tau": 2.0}),
    "LIF, whole input": (neuron.LIFNode, {"tau": 3.0, "decay_input": False}),
    "PLIF": (neuron.ParametricLIFNode, {"init_tau": 1.7}),
    "PLIF, whole input": (neuron.ParametricLIFNode, {"init_tau": 1.7, "decay_input": False}),
}  # fmt: skip
FIRES = {"many": sa.MultiSpike, "one": sa.SingleSpike, "at most three": sa.MaxSpike(3)}
RESETS = {"subtract": sa.MembraneSubtract(), "subtract less": sa.MembraneSubtract(0.7), "reset": sa.MembraneReset()}
SINABS = {
    "IAF": (sl.IAF, {}), "LIF": (sl.LIF, {"tau_mem": 10.0}), "LIF with synapse": (sl.LIF, {"tau_mem": 10.0, "tau_syn": 5.0}),
    "ALIF": (sl.ALIF, {"tau_mem": 10.0, "tau_adapt": 8.0}),
}  # fmt: skip
ALIF_COUNTS = [c for c in itertools.product(["ALIF"], FIRES, RESETS, [None, -0.5]) if c[1] != "one"]


def dense(inputs: int, outputs: int, factor: float = 3.0) -> nn.Linear:
    made = nn.Linear(inputs, outputs)
    with torch.no_grad():
        made.weight.mul_(factor)
    return made


@pytest.mark.parametrize(("name", "v_reset", "mode"), list(itertools.product(JELLY, [None, 0.0, -0.3], ["s", "m"])))
def test_spikingjelly(name, v_reset, mode):
    torch.manual_seed(0)
    kind, options = JELLY[name]
    net = nn.Sequential(layer.Linear(6, 8), kind(v_threshold=0.6, v_reset=v_reset, **options), layer.Linear(8, 3))
    functional.set_step_mode(net, mode)
    agrees(net, (6,), layout="step" if mode == "s" else "TB", steps=8, high=4.0)


@pytest.mark.parametrize("over_time", [False, True])
def test_spikingjelly_containers(over_time):
    torch.manual_seed(0)
    inner = layer.LinearRecurrentContainer(neuron.LIFNode(), 8, 8)
    net = nn.Sequential(layer.SeqToANNContainer(nn.Linear(6, 8), nn.BatchNorm1d(8)), inner, layer.SeqToANNContainer(dense(8, 3)))
    if not over_time:
        net = nn.Sequential(dense(6, 8), inner, dense(8, 3))
    else:
        functional.set_step_mode(inner, "m")
    agrees(net, (6,), layout="TB" if over_time else "step", steps=8)


@pytest.mark.parametrize(("reset", "delay"), list(itertools.product(["subtract", "zero", "none"], [True, False])))
@pytest.mark.parametrize("functional_style", [False, True])
def test_snntorch_leaky(reset, delay, functional_style):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            hidden = {} if functional_style else {"init_hidden": True}
            self.a, self.b = dense(6, 8), dense(8, 3)
            self.lif = snntorch.Leaky(beta=0.8, threshold=0.7, reset_mechanism=reset, reset_delay=delay, **hidden)
            self.membrane = None

        def forward(self, x):
            if not functional_style:
                return self.b(self.lif(self.a(x)))
            membrane = self.lif.init_leaky() if self.membrane is None else self.membrane
            s, self.membrane = self.lif(self.a(x), membrane)
            return self.b(s)

    agrees(Net(), (6,), steps=8)


def sinabs(name, fire, reset, v_min):
    torch.manual_seed(0)
    kind, options = SINABS[name]
    return nn.Sequential(dense(6, 8, 6.0), kind(spike_fn=FIRES[fire], reset_fn=RESETS[reset], min_v_mem=v_min, **options), dense(8, 3))


@pytest.mark.parametrize("combination", [c for c in itertools.product(SINABS, FIRES, RESETS, [None, -0.5]) if c not in ALIF_COUNTS])
def test_sinabs(combination):
    agrees(sinabs(*combination), (6,), layout="BT", steps=8)


@pytest.mark.parametrize("combination", ALIF_COUNTS[:4])
def test_sinabs_adaptive_neurons_with_several_spikes_are_refused_at_the_division(combination):
    with pytest.raises(CompileError, match=r"div\.Tensor_mode.*spike_generation") as caught:
        capture(sinabs(*combination), input_shape=(6,), steps=8, layout="BT")
    assert caught.value.code == "SNN120"


def test_what_the_library_raises_itself_is_named():
    lif = snntorch.RSynaptic(alpha=0.6, beta=0.8, init_hidden=True, linear_features=8, reset_delay=False)
    with pytest.raises(CompileError, match="raised TypeError") as caught:
        capture(nn.Sequential(dense(6, 8), lif), input_shape=(6,), steps=4)
    assert caught.value.code == "SNN113"

"""Networks of the field's libraries, unchanged: what is captured computes what the library computes, spike for spike."""

from __future__ import annotations

import warnings

import pytest
import snntorch
import torch
from agreement import agrees
from spikingjelly.activation_based import layer, neuron
from torch import nn

from snncompile.capture.capture import capture
from snncompile.errors import CompileError
from snncompile.ir.neuron import Fire, Neuron, Reset
from snncompile.ir.program import NeuronProgram

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import norse.torch as norse
    import sinabs.activation as sa
    import sinabs.layers as sl

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own


def dense(inputs: int, outputs: int, factor: float = 3.0) -> nn.Linear:
    made = nn.Linear(inputs, outputs)
    with torch.no_grad():
        made.weight.mul_(factor)
    return made


def around(first: nn.Module, second: nn.Module | None = None, factor: float = 3.0) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(dense(6, 8, factor), first, dense(8, 3, factor), *([] if second is None else [second]))


def neurons(captured) -> list[Neuron]:
    return [n for n in captured.graph.nodes if isinstance(n, Neuron) and n.fire is not Fire.NONE]


# sinabs -----------------------------------------------------------------------------------------------------------------

SINABS = {
    "iaf": (sl.IAF, {"max_spikes": 1 << 16, "reset": Reset.SUBTRACT}),
    "iaf single": (lambda: sl.IAF(spike_fn=sa.SingleSpike), {"max_spikes": 1}),
    "iaf at most 3": (lambda: sl.IAF(spike_fn=sa.MaxSpike(3)), {"max_spikes": 3}),
    "iaf with min_v": (lambda: sl.IAF(min_v_mem=-1.0), {"v_min": -1.0}),
    "lif with min_v": (lambda: sl.LIF(tau_mem=10.0, min_v_mem=-0.5), {"v_min": -0.5, "max_spikes": 1 << 16}),
    "lif with synapse": (lambda: sl.LIF(tau_mem=10.0, tau_syn=5.0, min_v_mem=-1.0), {"v_min": -1.0}),
    "lif reset": (lambda: sl.LIF(tau_mem=10.0, spike_fn=sa.SingleSpike, reset_fn=sa.MembraneReset(-0.2), norm_input=False),
                  {"reset": Reset.SET, "reset_value": -0.2}),
    "lif many, reset": (lambda: sl.LIF(tau_mem=10.0, reset_fn=sa.MembraneReset(), norm_input=False), {"reset": Reset.SET}),
    "alif": (lambda: sl.ALIF(tau_mem=10.0, tau_adapt=8.0, norm_input=False), {"adapt_reset": True, "adapt_decay": 0.8824969}),
    "alif with synapse": (lambda: sl.ALIF(tau_mem=10.0, tau_adapt=8.0, tau_syn=5.0, adapt_scale=0.5, min_v_mem=-1.0), {"v_min": -1.0}),
    "alif subtracts less": (lambda: sl.ALIF(tau_mem=10.0, tau_adapt=8.0, norm_input=False, reset_fn=sa.MembraneSubtract(0.7)),
                            {"adapt_reset": False, "reset_amount": 0.7}),
    "alif reset": (lambda: sl.ALIF(tau_mem=10.0, tau_adapt=8.0, norm_input=False, reset_fn=sa.MembraneReset()), {"reset": Reset.SET}),
}  # fmt: skip


@pytest.mark.parametrize("name", SINABS)
def test_sinabs(name):
    make, fields = SINABS[name]
    found = neurons(agrees(around(make()), (6,), layout="BT"))[0]
    for field, value in fields.items():
        seen = getattr(found, field)
        assert (seen if isinstance(value, (int, Reset)) else float(seen.flat[0])) == (
            value if isinstance(value, (int, Reset)) else pytest.approx(value, rel=1e-5)
        )


@pytest.mark.parametrize("single", [False, True])
def test_sinabs_recurrent(single):
    kind = {"spike_fn": sa.SingleSpike} if single else {}
    agrees(around(sl.IAFRecurrent(rec_connect=nn.Linear(8, 8), **kind), sl.ExpLeak(tau_mem=5.0)), (6,), layout="BT")


def test_sinabs_convolutions_with_squeezed_time():
    class Squeezed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(
                nn.Conv2d(2, 4, 3, bias=False), sl.IAFSqueeze(batch_size=1, min_v_mem=-1.0), sl.SumPool2d(2), nn.Flatten(),
                dense(36, 3, 1.0), sl.IAFSqueeze(batch_size=1),
            )  # fmt: skip

        def forward(self, x):
            return self.net(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    assert len(neurons(agrees(Squeezed(), (2, 8, 8), layout="BT"))) == 2


# Norse ------------------------------------------------------------------------------------------------------------------


def fast() -> norse.LIFParameters:
    return norse.LIFParameters(tau_syn_inv=torch.tensor(300.0), tau_mem_inv=torch.tensor(200.0))


NORSE = {
    "lif cells": (lambda: (dense(6, 8, 20), norse.LIFCell(p=fast()), dense(8, 3, 20), norse.LICell()), "step"),
    "lif over time": (lambda: (dense(6, 8, 20), norse.LIF(p=fast()), dense(8, 3, 20), norse.LI()), "TB"),
    "lif box": (lambda: (dense(6, 8, 20), norse.LIFBoxCell(), dense(8, 3, 20)), "step"),
    "iaf": (lambda: (dense(6, 8), norse.IAFCell(), dense(8, 3)), "step"),
    "recurrent lif": (lambda: (norse.LIFRecurrentCell(6, 8, p=fast()), dense(8, 3), norse.LICell()), "step"),
    "recurrent lif over time": (lambda: (norse.LIFRecurrent(6, 8, p=fast()), norse.Lift(dense(8, 3))), "TB"),
    "adaptive": (lambda: (dense(6, 8, 20), norse.LSNNCell(), dense(8, 3)), "step"),
    "adaptive recurrent": (lambda: (norse.LSNNRecurrentCell(6, 8), dense(8, 3)), "step"),
}


@pytest.mark.parametrize("name", NORSE)
def test_norse(name):
    make, layout = NORSE[name]
    torch.manual_seed(0)
    captured = agrees(norse.SequentialState(*make()), (6,), layout=layout, steps=8)
    assert [d.value for d in captured.decisions] == ["'state'"]
    assert captured.rolled.traced <= 4
    if name.startswith("adaptive"):
        assert neurons(captured)[0].adapt_jump is not None


# snnTorch ---------------------------------------------------------------------------------------------------------------


class Two(nn.Module):
    def __init__(self, make) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.a, self.fc2, self.b = dense(6, 8), make(8), dense(8, 3), make(3)

    def forward(self, x):
        return self.b(self.fc2(self.a(self.fc1(x))))


def leaky(reset, delay):
    return lambda n: snntorch.Leaky(beta=0.8, init_hidden=True, reset_mechanism=reset, reset_delay=delay)


def one_to_one(n):
    return snntorch.RLeaky(beta=0.8, init_hidden=True, all_to_all=False, V=0.4)


SNNTORCH = {
    "leaky subtract": leaky("subtract", True),
    "leaky zero": leaky("zero", True),
    "leaky zero at once": leaky("zero", False),
    "leaky none": leaky("none", True),
    "rleaky all to all": lambda n: snntorch.RLeaky(beta=0.8, init_hidden=True, linear_features=n),
    "rleaky all to all, zero at once": lambda n: snntorch.RLeaky(
        beta=0.8, init_hidden=True, linear_features=n, reset_mechanism="zero", reset_delay=False
    ),
    "rleaky one to one": one_to_one,
    "rsynaptic all to all": lambda n: snntorch.RSynaptic(alpha=0.6, beta=0.8, init_hidden=True, linear_features=n),
    "rsynaptic one to one": lambda n: snntorch.RSynaptic(alpha=0.6, beta=0.8, init_hidden=True, all_to_all=False, V=0.4),
    "synaptic": lambda n: snntorch.Synaptic(alpha=0.7, beta=0.8, init_hidden=True),
    "lapicque": lambda n: snntorch.Lapicque(beta=0.8, init_hidden=True),
}


@pytest.mark.parametrize("name", SNNTORCH)
def test_snntorch(name):
    found = neurons(agrees(Two(SNNTORCH[name]), (6,)))
    assert [n.reset for n in found] == [Reset.SET if "zero" in name else Reset.KEEP if "none" in name else Reset.SUBTRACT] * 2


SNNTORCH_PROGRAMS = {
    "leaky subtract at once": leaky("subtract", False),
    "synaptic zero": lambda n: snntorch.Synaptic(alpha=0.7, beta=0.8, init_hidden=True, reset_mechanism="zero"),
    "lapicque zero": lambda n: snntorch.Lapicque(beta=0.8, init_hidden=True, reset_mechanism="zero"),
    "rleaky one to one, zero": lambda n: snntorch.RLeaky(beta=0.8, init_hidden=True, all_to_all=False, V=0.4, reset_mechanism="zero"),
}


@pytest.mark.parametrize("name", SNNTORCH_PROGRAMS)
def test_snntorch_resets_without_a_normal_form_are_programs(name):
    """A delayed reset to zero drops the input of the step after a spike: a product of a spike and the next current."""
    graph = agrees(Two(SNNTORCH_PROGRAMS[name]), (6,)).graph
    assert not graph.of(Neuron)
    assert all(n.spiking for n in graph.of(NeuronProgram))
    assert len(graph.of(NeuronProgram)) == 2


# SpikingJelly -----------------------------------------------------------------------------------------------------------

SPIKINGJELLY = {
    "plif": lambda: neuron.ParametricLIFNode(init_tau=2.3),
    "plif, whole input": lambda: neuron.ParametricLIFNode(init_tau=2.3, decay_input=False, v_reset=None),
    "recurrent": lambda: layer.LinearRecurrentContainer(neuron.LIFNode(), 8, 8, bias=False),
    "fed back": lambda: layer.ElementWiseRecurrentContainer(neuron.LIFNode(), element_wise_function=torch.add),
}


@pytest.mark.parametrize("name", SPIKINGJELLY)
def test_spikingjelly(name):
    agrees(around(SPIKINGJELLY[name]()), (6,))


class Rounding(nn.Module):
    """A quadratic neuron whose state is a whole number."""

    def __init__(self) -> None:
        super().__init__()
        self.v = torch.zeros(1)

    def forward(self, x):
        m = torch.round(self.v * self.v) + x
        s = (m >= 1).float()
        self.v = m * (1 - s)
        return s


def test_neurons_that_are_no_programs_name_the_operation_in_the_way():
    with pytest.raises(CompileError, match=r"the operation in the way is 'round\.") as caught:
        capture(around(Rounding()), input_shape=(6,), steps=5)
    assert caught.value.code == "SNN120"
    assert caught.value.diagnostics[0].loc is not None


def test_norses_exponential_neuron_is_a_program():
    graph = agrees(norse.SequentialState(dense(6, 8), norse.LIFExCell(), dense(8, 3)), (6,)).graph
    assert len(graph.of(NeuronProgram)) == 1

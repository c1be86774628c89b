"""Networks written to NIR by the tools themselves, with the tools' own answers."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn

STEPS = 20


def _louder(net, **factors):
    with torch.no_grad():
        for index, factor in factors.items():
            net[int(index[1:])].weight *= factor


def per_step(net, x):
    """Call a module with inner state once a step."""
    outs = []
    with torch.no_grad():
        for t in range(x.shape[1]):
            y = net(x[:, t])
            outs.append(y[0] if isinstance(y, tuple) else y)
    return torch.stack(outs, 1).numpy()


def with_state(net, x):
    """Call a module that takes and returns its state once a step."""
    outs, state = [], None
    with torch.no_grad():
        for t in range(x.shape[1]):
            y, state = net(x[:, t], state)
            outs.append(y[0] if isinstance(y, tuple) else y)
    return torch.stack(outs, 1).numpy()


@cache
def sinabs_network(**iaf):
    """Convolution, IAF, sum pooling, LIF: (graph, x, spikes)."""
    import sinabs.layers as sl
    import sinabs.nir

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, bias=False), sl.IAFSqueeze(batch_size=2, **iaf), sl.SumPool2d(2), nn.Flatten(), nn.Linear(27, 5),
        sl.LIFSqueeze(tau_mem=10.0, batch_size=2),
    )  # fmt: skip
    _louder(net, n0=6, n4=3)
    x = torch.rand(2 * STEPS, 2, 8, 8)
    with torch.no_grad():
        y = net(x)
        graph = sinabs.nir.to_nir(net, x)
    return graph, x.reshape(2, STEPS, 2, 8, 8).numpy(), y.reshape(2, STEPS, 5).numpy()


@cache
def sinabs_dense_network(**iaf):
    """Linear, IAF, Linear, IAF, which other tools can read: (graph, x, spikes)."""
    import sinabs.layers as sl
    import sinabs.nir

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(6, 8), sl.IAFSqueeze(batch_size=2, **iaf), nn.Linear(8, 5), sl.IAFSqueeze(batch_size=2, **iaf)
    )  # fmt: skip
    _louder(net, n0=6, n2=3)
    x = torch.rand(2 * STEPS, 6)
    with torch.no_grad():
        y = net(x)
        graph = sinabs.nir.to_nir(net, x)
    return graph, x.reshape(2, STEPS, 6).numpy(), y.reshape(2, STEPS, 5).numpy()


def read_by_sinabs(graph, x):
    """What sinabs makes of a graph."""
    import sinabs.nir

    net = sinabs.nir.from_nir(graph, batch_size=len(x))
    with torch.no_grad():
        y = net(torch.as_tensor(x).flatten(0, 1))
    return (y[0] if isinstance(y, tuple) else y).reshape(*x.shape[:2], -1).numpy()


@cache
def norse_network():
    """LIFCell with synaptic current, LIFBoxCell, LIBoxCell."""
    import norse.torch as norse

    torch.manual_seed(0)
    net = norse.SequentialState(
        nn.Linear(4, 5), norse.LIFCell(), nn.Linear(5, 6), norse.LIFBoxCell(), nn.Linear(6, 3), norse.LIBoxCell()
    )  # fmt: skip
    _louder(net, n0=10, n2=30)
    x = torch.rand(2, STEPS, 4)
    return norse.to_nir(net, torch.rand(1, 4)), x.numpy(), with_state(net, x)


def read_by_norse(graph, x):
    """What Norse makes of a graph."""
    import norse.torch as norse

    return with_state(norse.from_nir(graph, ignore_warnings=True), torch.as_tensor(x))


@cache
def snntorch_network(*, recurrent=True, **leaky):
    """Leaky, RLeaky (or Leaky), Synaptic."""
    import snntorch as snn
    from snntorch.export_nir import export_to_nir

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(4, 5), snn.Leaky(torch.full((5,), 0.9), threshold=torch.ones(5), init_hidden=True, **leaky),
        nn.Linear(5, 6),
        snn.RLeaky(0.5, linear_features=6, init_hidden=True, **leaky)
        if recurrent else snn.Leaky(torch.full((6,), 0.5), threshold=torch.ones(6), init_hidden=True, **leaky),
        nn.Linear(6, 3), snn.Synaptic(torch.full((3,), 0.8), torch.full((3,), 0.9), threshold=torch.ones(3), init_hidden=True, **leaky),
    )  # fmt: skip
    _louder(net, n0=3, n2=3, n4=3)
    graph = export_to_nir(net, torch.rand(1, 4), ignore_dims=[0])
    for index in (1, 3, 5):
        net[index].reset_mem()
    x = torch.rand(2, STEPS, 4)
    return graph, x.numpy(), per_step(net, x)


def read_by_snntorch(graph, x):
    """What snnTorch makes of a graph."""
    from snntorch.import_nir import import_from_nir

    return with_state(import_from_nir(graph), torch.as_tensor(x, dtype=torch.float32))


@cache
def spikingjelly_network():
    """IF, LIF of both kinds, CUBALIF, with a reset below zero."""
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(2, 3, 3), neuron.IFNode(), layer.AvgPool2d(2), layer.Flatten(), layer.Linear(27, 5),
        neuron.LIFNode(tau=2.0, v_reset=-0.1), layer.Linear(5, 4), neuron.LIFNode(tau=4.0, decay_input=False), layer.Linear(4, 4),
        neuron.CUBALIFNode(),
    )  # fmt: skip
    _louder(net, n0=4, n4=4, n6=4, n8=4)
    graph = export_to_nir(net, torch.rand(1, 2, 8, 8))
    functional.reset_net(net)
    x = torch.rand(2, STEPS, 2, 8, 8)
    return graph, x.numpy(), per_step(net, x)


def read_by_spikingjelly(graph, x):
    """What SpikingJelly makes of a graph."""
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return with_state(import_from_nir(graph), torch.as_tensor(x, dtype=torch.float32))


@cache
def rockpool_network():
    """LIFTorch, LIFNeuronTorch, ExpSynTorch."""
    from rockpool.nn.combinators import Sequential
    from rockpool.nn.modules import ExpSynTorch, LIFNeuronTorch, LIFTorch, LinearTorch
    from rockpool.nn.modules.torch.nir import to_nir

    torch.manual_seed(0)
    net = Sequential(
        LinearTorch((4, 5)), LIFTorch(5), LinearTorch((5, 3)), LIFNeuronTorch(3), ExpSynTorch(3, tau=torch.tensor([0.02] * 3))
    )  # fmt: skip
    x = torch.rand(2, STEPS, 4)
    with torch.no_grad():
        y = net(x)[0].numpy()
    return to_nir(net), x.numpy(), y


def lava_network(seed=0):
    """A graph as the NIR project's lava_to_nir writes it, and Lava's floating-point LIF (LAVA: u, then v, then v > vth, v = 0)."""
    import nir
    from nir_files import chain

    generator = np.random.default_rng(seed)
    du, dv, vth, dt = 1024 / 4096, 512 / 4096, 80 / 64, 1e-4
    weight = generator.integers(-40, 60, (5, 4)) / 64
    node = nir.CubaLIF(
        tau_syn=np.full(5, dt / du), tau_mem=np.full(5, dt / dv), r=np.full(5, 1 / dv), v_leak=np.zeros(5), v_threshold=np.full(5, vth),
        w_in=np.full(5, 1 / du), v_reset=np.zeros(5),
    )  # fmt: skip
    x = generator.integers(0, 2, (2, STEPS, 4)).astype(np.float64)
    u, v, out = np.zeros((2, 5)), np.zeros((2, 5)), []
    for t in range(STEPS):
        u = u * (1 - du) + x[:, t] @ weight.T
        v = v * (1 - dv) + u
        s = v > vth
        v = np.where(s, 0.0, v)
        out.append(s)
    return chain(nir.Linear(weight=weight), node, shape=[4], out=[5]), x, np.stack(out, 1).astype(np.float64)

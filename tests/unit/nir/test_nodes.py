"""What every node of NIR 1.0 becomes, against its equation written out in NumPy or PyTorch."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from nir_files import chain, lif, run

from snncompile.capture.nir import import_nir
from snncompile.ir.neuron import Fire, Neuron
from snncompile.ir.text import to_text

T = 8
DT = 1e-4


def values(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-0.4, 1.0, (2, T, *shape))


def imported(graph, **settings):
    return import_nir(graph, steps=T, dialect="nir", settings=settings).graph


def euler(x, *, leak, gain, bias=0.0, theta=np.inf, reset="value", v_reset=0.0, strict=True, low=-np.inf, many=1, v0=0.0):
    """The membrane of every step and the spikes."""
    v, spikes, membranes = np.full(x[:, 0].shape, v0), [], []
    for t in range(x.shape[1]):
        m = leak * v + gain * x[:, t] + bias
        s = sum(((m > k * theta) if strict else (m >= k * theta)).astype(float) for k in range(1, many + 1))
        v = np.maximum(np.where(s > 0, v_reset, m) if reset == "value" else m - theta * s if reset == "subtract" else m, low)
        spikes.append(s)
        membranes.append(m)
    return np.stack(spikes, 1), np.stack(membranes, 1)


def test_an_integrator_adds_up_its_input_times_the_step():
    graph = imported(chain(nir.I(r=np.full(3, 2.0)), shape=[3]), dt="0.5")
    np.testing.assert_allclose(run(graph, values(3)), np.cumsum(values(3), axis=1))


def test_a_leaky_integrator_follows_its_equation_by_forward_euler():
    node = nir.LI(tau=np.full(3, 5 * DT), r=np.full(3, 2.0), v_leak=np.full(3, 0.3))
    _, membranes = euler(values(3), leak=0.8, gain=0.2 * 2, bias=0.2 * 0.3)
    np.testing.assert_allclose(run(imported(chain(node, shape=[3])), values(3)), membranes)


def test_the_exact_solution_of_a_leaky_integrator_is_an_option():
    node = nir.LI(tau=np.full(3, 5 * DT), r=np.full(3, 2.0), v_leak=np.full(3, 0.3))
    leak = np.exp(-0.2)
    _, membranes = euler(values(3), leak=leak, gain=(1 - leak) * 2, bias=(1 - leak) * 0.3)
    np.testing.assert_allclose(run(imported(chain(node, shape=[3]), decay="exponential"), values(3)), membranes)


@pytest.mark.parametrize(
    ("settings", "meaning"),
    [
        ({}, {}),
        ({"compare": "ge"}, {"strict": False}),
        ({"reset": "subtract"}, {"reset": "subtract"}),
        ({"reset": "zero"}, {"v_reset": 0.0}),
        ({"reset": "none"}, {"reset": "none"}),
        ({"reset": "subtract", "max_spikes": "3"}, {"reset": "subtract", "many": 3}),
        ({"reset": "subtract", "min_v": "-0.1"}, {"reset": "subtract", "low": -0.1}),
        ({"min_v": "-threshold"}, {"low": -0.25}),
        ({"v_init": "v_leak"}, {"v0": 0.1}),
        ({"v_init": "0.2"}, {"v0": 0.2}),
        ({"bias": "0.05"}, {"extra": 0.05}),
    ],
    ids=str,
)
def test_a_leaky_integrate_and_fire_node_under_every_convention(settings, meaning):
    node = lif(3, tau=4 * DT, r=4.0, v_leak=0.1, v_threshold=0.25, v_reset=0.05)
    meaning = {"leak": 0.75, "gain": 1.0, "bias": 0.25 * 0.1 + meaning.pop("extra", 0.0), "theta": 0.25, "v_reset": 0.05, **meaning}
    spikes, _ = euler(values(3), **meaning)
    np.testing.assert_array_equal(run(imported(chain(node, shape=[3]), **settings), values(3)), spikes)


def test_a_reset_one_step_late_subtracts_after_the_decay():
    node = lif(1, tau=2 * DT, r=2.0, v_threshold=1.0)
    x = np.full((1, T, 1), 1.25)
    m, s, expected = 0.0, 0.0, []
    for _ in range(T):
        m = 0.5 * m + 1.25 - s
        s = float(m > 1)
        expected.append(s)
    found = run(imported(chain(node, shape=[1]), reset="subtract", reset_delay="yes"), x)
    np.testing.assert_array_equal(found[0, :, 0], expected)


@pytest.mark.parametrize("current", ["first", "late"])
def test_a_current_based_node_takes_the_current_of_this_step_or_of_the_last(current):
    node = nir.CubaLI(
        tau_syn=np.full(2, 2 * DT), tau_mem=np.full(2, 4 * DT), r=np.full(2, 3.0), v_leak=np.full(2, 0.1), w_in=np.full(2, 5.0)
    )
    x, i, v, expected = values(2), np.zeros((2, 2)), np.zeros((2, 2)), []
    for t in range(T):
        before, i = i, 0.5 * i + 0.5 * 5 * x[:, t]
        v = v + 0.25 * (0.1 - v + 3 * (i if current == "first" else before))
        expected.append(v)
    np.testing.assert_allclose(run(imported(chain(node, shape=[2]), current=current), x), np.stack(expected, 1))


def test_a_threshold_node_has_no_memory():
    graph = imported(chain(nir.Threshold(threshold=np.array([0.1, 0.2, 0.3])), shape=[3]))
    np.testing.assert_array_equal(run(graph, values(3)), (values(3) > [0.1, 0.2, 0.3]).astype(float))


def test_a_time_constant_without_end_is_no_decay():
    node = nir.CubaLIF(
        tau_syn=np.full(2, DT),
        tau_mem=np.full(2, np.inf),
        r=np.full(2, np.inf),
        v_leak=np.zeros(2),
        v_threshold=np.ones(2),
        w_in=np.ones(2),
    )
    spikes, _ = euler(values(2), leak=1.0, gain=1.0, theta=1.0)
    np.testing.assert_array_equal(run(imported(chain(node, shape=[2])), values(2)), spikes)


@pytest.mark.parametrize(
    ("kwargs", "theirs"),
    [
        ({"stride": (1, 1), "padding": (1, 2), "dilation": (1, 1)}, {"padding": (1, 2)}),
        ({"stride": (2, 1), "padding": "valid", "dilation": (1, 2)}, {"stride": (2, 1), "dilation": (1, 2)}),
        ({"stride": (1, 1), "padding": "same", "dilation": (1, 2)}, {"padding": "same", "dilation": (1, 2)}),
        ({"stride": 2, "padding": 1, "dilation": 1}, {"stride": 2, "padding": 1}),
    ],
    ids=str,
)
def test_convolutions_are_pytorchs(kwargs, theirs):
    rng = np.random.default_rng(0)
    weight, bias, x = rng.normal(size=(4, 1, 3, 2)), rng.normal(size=4), values(2, 7, 6)
    node = nir.Conv2d(input_shape=None, weight=weight, groups=2, bias=bias, **kwargs)
    wanted = torch.nn.functional.conv2d(
        torch.as_tensor(x).flatten(0, 1), torch.as_tensor(weight), torch.as_tensor(bias), groups=2, **theirs
    )
    out = list(wanted.shape[1:])
    np.testing.assert_allclose(run(imported(chain(node, shape=[2, 7, 6], out=out)), x), wanted.reshape(2, T, *out).numpy(), atol=1e-12)


@pytest.mark.parametrize("padding", [0, 1, "same", "valid"])
def test_convolutions_of_one_dimension_and_what_follows_them(padding):
    rng = np.random.default_rng(0)
    weight, bias, x = rng.normal(size=(3, 2, 4)), rng.normal(size=3), values(2, 9)
    node = nir.Conv1d(input_shape=9, weight=weight, stride=1, padding=padding, dilation=2, groups=1, bias=bias)
    wanted = torch.nn.functional.conv1d(
        torch.as_tensor(x).flatten(0, 1), torch.as_tensor(weight), torch.as_tensor(bias), padding=padding, dilation=2
    ).numpy()
    length = wanted.shape[2]
    thresholds = rng.uniform(0, 0.2, (3, length))
    flat = nir.Flatten(input_type={"input": np.array([3, length])}, start_dim=0, end_dim=-1)
    net = chain(node, nir.Threshold(threshold=thresholds), flat, nir.Linear(np.eye(3 * length)[::-1]), shape=[2, 9], out=[3 * length])
    spikes = (wanted.reshape(2, T, 3, length) > thresholds).reshape(2, T, -1)[..., ::-1]
    np.testing.assert_array_equal(run(imported(net), x), spikes.astype(float))


@pytest.mark.parametrize("kind", [nir.SumPool2d, nir.AvgPool2d])
def test_pooling_counts_the_padding_as_zeros(kind):
    x = values(2, 6, 5)
    graph = imported(
        chain(kind(kernel_size=np.array([2, 3]), stride=np.array([2, 1]), padding=np.array([1, 1])), shape=[2, 6, 5], out=[2, 4, 5])
    )
    wanted = torch.nn.functional.avg_pool2d(torch.as_tensor(x).flatten(0, 1), (2, 3), (2, 1), (1, 1)).reshape(2, T, 2, 4, 5).numpy()
    np.testing.assert_allclose(run(graph, x), wanted * (6 if kind is nir.SumPool2d else 1), atol=1e-12)


def test_a_scale_multiplies_each_element_and_flatten_keeps_the_order():
    scale, x = values(2, 3, 2)[0, 0], values(2, 3, 2)
    flat = nir.Flatten(input_type={"input": np.array([2, 3, 2])}, start_dim=0, end_dim=1)
    np.testing.assert_allclose(
        run(imported(chain(nir.Scale(scale=scale), flat, shape=[2, 3, 2], out=[6, 2])), x).reshape(2, T, 2, 3, 2), x * scale
    )


def test_every_element_has_its_own_delay_in_seconds_or_steps():
    x = values(4)
    for delay, settings in (([0, 1e-4, 3e-4, 1e-4], {}), ([0, 1, 3, 1], {"delay_unit": "steps"})):
        found = run(imported(chain(nir.Delay(np.array(delay, dtype=float)), shape=[4]), **settings), x)
        for k, d in enumerate((0, 1, 3, 1)):
            np.testing.assert_array_equal(found[:, d:, k], x[:, : T - d, k])
            assert not found[:, :d, k].any()


def recurrent(bias):
    """input -> sum -> lif -> output, lif -> w -> sum, inside a subgraph."""
    inner = nir.NIRGraph(
        nodes={
            "input": nir.Input(np.array([2])), "lif": lif(2, tau=2 * DT, r=2.0, v_threshold=1.0),
            "w": nir.Affine(weight=np.array([[0.0, 0.9], [-0.4, 0.0]]), bias=bias), "output": nir.Output(np.array([2])),
        },
        edges=[("input", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "output")], type_check=False,
    )  # fmt: skip
    return chain(nir.Linear(2 * np.eye(2)), inner, shape=[2])


@pytest.mark.parametrize("feedback", ["spike", "edge"])
def test_a_loop_takes_one_step_and_its_bias_acts_from_the_first_step_or_the_second(feedback):
    bias = np.array([0.4, 0.2])
    graph = import_nir(recurrent(bias), steps=T, dialect="nir", settings={"feedback": feedback}).graph
    x, v, s, expected = values(2), np.zeros((2, 2)), np.zeros((2, 2)), []
    weight = np.array([[0.0, 0.9], [-0.4, 0.0]])
    for t in range(T):
        back = s @ weight.T + bias if t > 0 or feedback == "spike" else 0.0
        v = 0.5 * v + 2 * x[:, t] + back
        s = (v > 1).astype(float)
        v = np.where(s > 0, 0.0, v)
        expected.append(s)
    np.testing.assert_array_equal(run(graph, x), np.stack(expected, 1))


def test_a_delay_in_a_loop_is_the_loops_step():
    graph = recurrent(np.zeros(2))
    inner = graph.nodes["n1"]
    inner.nodes["later"] = nir.Delay(np.full(2, DT))
    inner.edges = [("input", "lif"), ("lif", "w"), ("w", "later"), ("later", "lif"), ("lif", "output")]
    plain = import_nir(recurrent(np.zeros(2)), steps=T, dialect="nir").graph
    np.testing.assert_array_equal(run(imported(graph), values(2)), run(plain, values(2)))


def test_edges_that_meet_are_added_up():
    graph = chain(nir.Linear(np.eye(3)), nir.Linear(2 * np.eye(3)), shape=[3])
    graph.edges = [("input", "n0"), ("input", "n1"), ("n0", "output"), ("n1", "output")]
    np.testing.assert_allclose(run(imported(graph), values(3)), 3 * values(3))


def test_two_inputs_and_two_outputs_keep_their_names():
    graph = nir.NIRGraph(
        nodes={
            "left": nir.Input(np.array([2])), "right": nir.Input(np.array([2])), "a": nir.Scale(np.array([2.0, 2.0])),
            "b": nir.Scale(np.array([3.0, 3.0])), "first": nir.Output(np.array([2])), "second": nir.Output(np.array([2])),
        },
        edges=[("left", "a"), ("right", "b"), ("a", "first"), ("a", "second"), ("b", "second")], type_check=False,
    )  # fmt: skip
    found = imported(graph)
    assert [n.name for n in found.nodes if n.kind == "input"] == ["left", "right"]
    assert list(found.outputs) == ["first", "second"]


def test_numbers_that_float32_blurred_are_put_back_and_the_ledger_says_so():
    node = nir.LIF(
        tau=np.full(3, 1e-4 / (1 - np.float32(0.5)), np.float32) * np.float32(1 + 2e-7), r=np.full(3, 2, np.float32),
        v_leak=np.zeros(3, np.float32), v_threshold=np.ones(3, np.float32),
    )  # fmt: skip
    found = import_nir(chain(node, shape=[3]), steps=T, dialect="snntorch")
    (neuron,) = found.graph.of(Neuron)
    assert neuron.leak.ravel().tolist() == [0.5]
    assert neuron.gain.ravel().tolist() == [1.0]
    assert any(d.what == "leak of n0" and d.effect.startswith("moved by") for d in found.decisions)


def test_an_imported_graph_has_a_text_form_and_no_neuron_fires_that_should_not():
    graph = imported(chain(nir.Linear(np.eye(2)), nir.LI(tau=np.full(2, DT), r=np.ones(2), v_leak=np.zeros(2)), shape=[2]))
    text, _ = to_text(graph)
    assert "%n1 = neuron(%n0) fire=none" in text
    assert graph.of(Neuron)[0].fire is Fire.NONE

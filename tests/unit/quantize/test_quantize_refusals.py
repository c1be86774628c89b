"""One wrong input per code: the code, the user's line and the way out."""

import re
from dataclasses import replace

import numpy as np
import pytest
from population_nets import TARGET, graph_of, image_net, images, neuron, one_layer

from snncompile.errors import CompileError
from snncompile.ir.linear_ops import Add, Conv2d, Delay, Input, Linear
from snncompile.ir.neuron import Fire, Reset, constant
from snncompile.quantize import Options, quantize

RNG = np.random.default_rng(0)
PLAIN = replace(TARGET, features=frozenset())
LINEAR = Linear(name="w", inputs=("x",), weight=RNG.normal(size=(3, 4)))


def big(**changes):
    return one_layer(np.random.default_rng(0), inputs=400, outputs=5, steps=64, spikes=False, leak=constant(1.0), **changes)


def graded_loop():
    x, shape = Input(name="x", size=(4,), low=0, high=1, grid=1), (3,)
    return graph_of(
        x, LINEAR, Delay(name="d", inputs=("n",), size=shape, initial=np.zeros(())),
        Linear(name="r", inputs=("d",), weight=np.eye(3) * 0.1), Add(name="s", inputs=("w", "r")),
        neuron("n", "s", fire=Fire.RELU, reset=Reset.STATELESS),
    )  # fmt: skip


def delayed_start():
    x = Input(name="x", size=(4,), low=0, high=1, grid=1)
    return graph_of(
        x,
        Delay(name="d", inputs=("x",), size=(4,), initial=np.asarray(0.3)),
        Linear(name="w", inputs=("d",), weight=np.eye(4)),
        neuron("n", "w"),
    )


def per_pixel():
    """Pixels of one channel on different grids, under a convolution."""
    from snncompile.quantize import payload

    conv = Conv2d(name="w", inputs=("x",), weight=np.ones((1, 1, 2, 2)))
    graph = graph_of(Input(name="x", size=(1, 2, 2)), conv, neuron("n", "w"))
    port = payload.Port(synapse=conv, gather=None, delays=(), source=graph.by_name["x"])
    odd = payload.Payload(shape=(1, 2, 2), lsb=np.arange(1.0, 5).reshape(1, 2, 2), offset=np.zeros(()), low=0, high=9)
    payload.incoming(graph, replace(port), odd, 1)


CASES = [
    (
        "SNN301",
        lambda: quantize(graph_of(Input(name="x", size=(4,)), LINEAR, neuron("n", "w")), TARGET),
        "the range of input 'x' is not known",
    ),
    ("SNN301", lambda: quantize(graded_loop(), TARGET), "loop of graded outputs"),
    ("SNN302", lambda: quantize(big(), TARGET), "the membrane holds +-8388607"),
    ("SNN302", lambda: quantize(one_layer(RNG, bias=constant(1e9)), TARGET), "the membrane holds +-8388607"),
    ("SNN303", lambda: quantize(one_layer(RNG, leak=constant(9.5)), TARGET), "leak 9.5 lies outside -7.99998..7.99998"),
    ("SNN303", lambda: quantize(one_layer(RNG, alpha=constant(-9.0)), TARGET), "current decay -9 lies outside"),
    ("SNN304", lambda: quantize(one_layer(RNG, gain=np.linspace(1, 2, 5)), PLAIN), "multiplies its input by a factor of each step"),
    ("SNN304", lambda: quantize(one_layer(RNG, max_spikes=3), PLAIN), "sends several spikes in a step"),
    ("SNN304", lambda: quantize(one_layer(RNG, v_min=constant(-1.0)), PLAIN), "has a lower bound of its membrane"),
    ("SNN307", lambda: quantize(delayed_start(), TARGET), "'d' starts at a value that no payload of 'x' stands for"),
    ("SNN308", lambda: quantize(one_layer(RNG, fire=Fire.NONE, reset_amount=constant(0.5)), TARGET), "fraction of its own membrane"),
    ("SNN309", per_pixel, "differs from pixel to pixel"),
    ("SNN310", lambda: quantize(one_layer(RNG), TARGET, options=Options(weight_bits=16)), "weight_bits is 16, it must lie in 2..15"),
    ("SNN310", lambda: quantize(one_layer(RNG), TARGET, options=Options(pursue_exact="never")), "must be auto or always"),
    ("SNN311", lambda: quantize(image_net(RNG), TARGET, calibration={"y": images(RNG)}), "nothing for input 'x'"),
    ("SNN311", lambda: quantize(image_net(RNG), TARGET, calibration={"x": images(RNG)[:, :, :1]}), "samples of shape (1, 6, 6)"),
]


@pytest.mark.parametrize(("code", "call", "text"), CASES, ids=[f"{c[0]}-{k}" for k, c in enumerate(CASES)])
def test_each_refusal_has_its_code_and_reason(code, call, text):
    with pytest.raises(CompileError) as e:
        call()
    assert e.value.code == code
    assert text in str(e.value)


def test_a_target_without_a_rule_refuses_it():
    from dataclasses import replace

    plain = replace(TARGET, reset=frozenset({"set"}), name="plain")
    with pytest.raises(CompileError) as e:
        quantize(one_layer(RNG), plain)
    assert e.value.code == "SNN305"
    assert "plain fires by" in str(e.value)


def test_an_overflow_names_the_line_the_limit_and_a_width_that_works():
    with pytest.raises(CompileError) as e:
        quantize(big(), TARGET)
    text = str(e.value)
    assert "--> net.py:12 in forward" in text
    assert "targets/loihi2-sim.toml: formats.membrane = s24" in text
    bits = int(re.search(r"weight_bits=(\d)", text)[1])
    assert quantize(big(), TARGET, options=Options(weight_bits=bits)).populations[0].guard_bits >= 0


def test_all_refusals_of_a_graph_come_at_once():
    x = Input(name="x", size=(4,), low=0, high=1, grid=1)
    other = Linear(name="w2", inputs=("a",), weight=RNG.normal(size=(2, 3)))
    with pytest.raises(CompileError) as e:
        quantize(graph_of(x, LINEAR, neuron("a", "w", leak=constant(9.0)), other, neuron("b", "w2", gain=constant(2.0))), PLAIN)
    assert [d.code for d in e.value.diagnostics] == ["SNN303", "SNN304"]


def test_a_synapse_with_a_bias_of_its_own_is_no_population_form():
    from snncompile.errors import InternalError

    biased = replace(LINEAR, bias=np.zeros((1, 3)))
    with pytest.raises(InternalError, match="'w' has a bias of its own"):
        quantize(graph_of(Input(name="x", size=(4,), low=0, high=1, grid=1), biased, neuron("n", "w")), TARGET)


@pytest.mark.parametrize("tiny", [1e-12, 1e-6, 1e-5])
def test_a_nearly_dead_channel_refuses_nothing(tiny):
    weight = np.random.default_rng(0).normal(size=(6, 8))
    weight[2] *= tiny
    result = quantize(one_layer(RNG, weight=weight, bias=np.full((1, 6), 0.3)), TARGET)
    assert result.populations[0].guard_bits > 0
    assert np.abs(result.graph.by_name["w"].weight[2]).max() <= 1


def test_small_weights_of_a_wide_fan_in_are_kept():
    weight = np.abs(np.random.default_rng(0).normal(size=(3, 4000))) * 1e-3
    result = quantize(one_layer(RNG, inputs=4000, outputs=3, weight=weight), TARGET)
    assert result.populations[0].weight_error < 0.02

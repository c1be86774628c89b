"""Networks in lava-dl's files replay bit for bit: every spike and membrane against Lava written down a second time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from lava_by_hand import as_on_chip, replay
from net_files import conv, cuba, dense, even, plain, pool, recurrent, spikes, write_net

from snncompile.importers.netx import Wishes, load_net
from snncompile.importers.netx.weights import as_netx_runs_them, split
from snncompile.importers.program import ImportedProgram
from snncompile.ir import reference
from snncompile.verify import Program, verify

STEPS = 20


def run(program: ImportedProgram, x: np.ndarray) -> dict[str, np.ndarray]:
    return reference.run(program.result.graph, {"input": x}, record=reference.references(program.result.graph))


def assert_replays(program: ImportedProgram, layers, x: np.ndarray) -> None:
    """Every layer of every sample, spikes and membranes; and all layers are active."""
    found = run(program, x)
    for sample in range(len(x)):
        for k, (s, v) in replay(layers, x[sample]).items():
            silent = f"layer{k}.v" == program.result.graph.outputs["output"]
            assert np.array_equal(found[f"layer{k}.v"][sample], v.reshape(found[f"layer{k}.v"][sample].shape)), f"membranes of layer {k}"
            if not silent:
                assert np.array_equal(found[f"layer{k}"][sample], s.reshape(found[f"layer{k}"][sample].shape)), f"spikes of layer {k}"
                assert s.any(), f"layer {k} never fires: nothing is compared"


def convolutional(seed: int = 0):
    """Two convolutions (strided, padded, grouped, biased), then dense layers with and without axonal delays."""
    g = np.random.default_rng(seed)
    return [
        plain("input", 2, 7, 6),
        conv(even(g, 4, 2, 3, 3), (4, 4, 3), cuba(30), stride=2, padding=1, bias=2 * g.integers(0, 5, 4)),
        conv(even(g, 6, 2, 3, 2), (6, 2, 2), cuba(20), groups=2),
        plain("flatten", 24, 1, 1),
        dense(even(g, 9, 24), cuba(35, 2048, 300), delay=g.integers(0, 7, 9)),
        dense(even(g, 5, 9), cuba(30, 4096, 64), bias=2 * g.integers(-2, 4, 5)),
        dense(even(g, 4, 5), cuba(15, 500, 0), delay=np.array([0, 3, 62 - STEPS, 2, 5])),
    ]  # fmt: skip


@pytest.fixture
def net(tmp_path):
    return lambda layers, **more: load_net(write_net(tmp_path / "net.net", layers, more.pop("steps", STEPS)), wishes=Wishes(**more))


def test_convolutions_dense_layers_and_axonal_delays_replay_on_the_reference_on_lava_and_on_onnx_runtime(net):
    layers = convolutional()
    x = spikes(np.random.default_rng(1), 3, STEPS, 2, 7, 6, rate=0.5)
    program = net(layers)
    assert_replays(program, layers, x)
    evidence = Program(graph=program.result.graph, schedule=program.schedule, populations=program.result.populations)
    found = verify(evidence, {"input": x.astype(np.float64)}, backends=("lava", "onnx", "reference"), timeout_s=240)
    assert found.ok, found.failures
    assert [(b.backend, b.differing_bits, b.populations) for b in found.backends] == [(n, 0, 5) for n in ("lava", "onnx", "reference")]


@pytest.mark.parametrize("seed", range(1, 4))
def test_other_weights_replay_too(net, seed):
    layers = convolutional(seed)
    assert_replays(net(layers), layers, spikes(np.random.default_rng(seed), 1, STEPS, 2, 7, 6, rate=0.6))


def test_a_recurrent_layer_reads_its_own_spikes_of_the_step_before(net):
    g = np.random.default_rng(3)
    layers = [recurrent(even(g, 8, 6), even(g, 8, 8), cuba(30)), dense(even(g, 3, 8), cuba(20))]
    program = net(layers)
    assert program.schedule.initiation_interval == 1
    assert_replays(program, layers, spikes(g, 4, STEPS, 6))


def test_values_enter_an_input_neuron_as_bias_mantissas(net):
    g = np.random.default_rng(4)
    layers = [
        plain("input", 1, 4, 5) | {"weight": [36.0], "bias": [4.0], "neuron": cuba(25, 4096, 1024)},
        conv(even(g, 3, 1, 3, 3), (3, 2, 3), cuba(20, 4096, 1024), bias=2 * g.integers(0, 5, 3)),
        plain("flatten", 18, 1, 1),
        dense(even(g, 4, 18), None),
    ]  # fmt: skip
    program = net(layers)
    images = g.uniform(0, 1, (3, 1, 1, 4, 5))
    mantissas = np.rint(36 * images + 4).astype(np.int64)
    assert np.array_equal(reference.quantise_input(program.result.graph.by_name["input"], images), mantissas)
    assert_replays(program, layers, np.broadcast_to(mantissas, (3, STEPS, 1, 4, 5)))
    assert program.readout == "last"
    assert program.result.graph.outputs == {"output": "layer3.v"}


def test_a_negative_scale_of_the_input_keeps_its_sign(net):
    layers = [
        plain("input", 3) | {"weight": [-20.0], "bias": [30.0], "neuron": cuba(5, 4096, 512)},
        dense(2 * np.eye(3, dtype=int) * 40, cuba(20)),
    ]
    program = net(layers, input_range=(-1.0, 1.0, 0.0))
    x = np.array([[[-1.0, 0.3, 1.0]]])
    payload = reference.quantise_input(program.result.graph.by_name["input"], x)
    found = run(program, payload)
    by_hand = replay(layers, np.broadcast_to(np.rint(-20 * x[0] + 30).astype(np.int64), (STEPS, 3)))
    assert np.array_equal(found["layer0.v"][0], by_hand[0][1])
    assert found["layer1"].any()


def test_a_membrane_that_reaches_lavas_clip_is_clipped_there(net):
    """Decays of 0 and strong inhibition: v would go to -20 million; excitation afterwards must lift it from the clip, not from there."""
    weight = np.array([[-256, 254], [-256, 254]])
    layers = [dense(np.repeat(weight, 4, axis=1), cuba(100, 300, 0))]
    program = net(layers, steps=60)
    assert program.result.graph.by_name["layer0"].v_min is not None
    assert program.result.graph.meta["membrane"] == [-(2**31) + 1, 2**31 - 1]
    assert any("clipped" in d.value and "layer0" in d.what for d in program.decisions)
    x = np.zeros((1, 60, 8), dtype=np.int64)
    x[:, :20, :4], x[:, 20:, 4:] = 1, 1
    found = run(program, x)
    assert found["layer0.v"].min() == -(2**23) + 1
    assert_replays(program, layers, x)


def test_odd_and_nine_bit_weights_are_split_not_rounded(net):
    layers = [dense(np.array([[-256, 253, 7], [255, -1, 128]]), cuba(60)), dense(np.array([[201, -77]]), cuba(50))]
    program = net(layers)
    x = spikes(np.random.default_rng(5), 2, STEPS, 3, rate=0.5)
    found = run(program, x)
    charge = np.einsum("oi,nti->nto", np.array([[-256, 253, 7], [255, -1, 128]]), x)
    first = found["layer0.m"][:, 0]
    assert np.array_equal(first, charge[:, 0] << 6)


def test_decays_may_differ_from_channel_to_channel(net):
    g = np.random.default_rng(6)
    layers = [dense(even(g, 6, 5), cuba(30, g.integers(0, 4097, 6), g.integers(0, 4097, 6)))]
    assert_replays(net(layers), layers, spikes(g, 3, STEPS, 5, rate=0.6))


@given(st.lists(st.integers(-256, 255), min_size=1, max_size=6), st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_netx_and_lava_make_of_weights_is_known(values, only_even):
    """Where they change the file's integers, the note says so; the program keeps the file's."""
    weight = np.array([values]) * (1 + only_even)
    weight = np.clip(weight, -256, 254) // (1 + only_even) * (1 + only_even)
    assume(weight.any())
    on_chip, exponent = as_on_chip(weight, weight)
    assert np.array_equal(as_netx_runs_them(weight), on_chip >> -exponent)


@given(st.lists(st.integers(-256, 255), min_size=1, max_size=8), st.sampled_from([127, 7, 1]))
def test_parts_of_weights_add_up(values, largest):
    weight = np.array(values)
    parts = split(weight, largest)
    assert np.array_equal(sum(q << e for q, e in parts), weight)
    assert all(np.abs(q).max() <= largest for q, _ in parts)


neurons = st.builds(cuba, st.integers(0, 300), st.integers(0, 4096), st.integers(0, 4096))


@st.composite
def chains(draw):
    """Small dense networks: random weights, decays, thresholds, biases and delays per neuron."""
    g = np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = [draw(st.integers(1, 6)) for _ in range(draw(st.integers(2, 4)))]
    layers = []
    for inputs, outputs in pairwise(sizes):
        weight = even(g, outputs, inputs, scale=draw(st.integers(2, 120)))
        more = {"bias": g.integers(-20, 20, outputs)} if draw(st.booleans()) else {}
        if draw(st.booleans()):
            more["delay"] = g.integers(0, 5, outputs)
        layers.append(dense(weight, draw(neurons), **more))
    return layers, spikes(g, 2, 12, sizes[0], rate=draw(st.floats(0.1, 1.0)))


@given(chains())
@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate], report_multiple_bugs=False)
def test_random_chains_replay(tmp_path_factory, drawn):
    layers, x = drawn
    program = load_net(write_net(tmp_path_factory.mktemp("net") / "net.net", layers, 12))
    assume(not any("netx itself" in decision.why for decision in program.decisions))
    found = run(program, x)
    for sample in range(len(x)):
        for k, (s, v) in replay(layers, x[sample]).items():
            assert np.array_equal(found[f"layer{k}.v"][sample], v)
            assert np.array_equal(found[f"layer{k}"][sample], s)


def every_kind(kind: str):
    """Networks with what the first acceptance network has not: a clip and a loop; an encoded input, pooling, delays and averages."""
    g = np.random.default_rng(0)
    if kind == "clip and loop":
        weight = np.repeat(np.array([[-256, 254], [-256, 254]]), 4, axis=1)
        x = np.zeros((1, 60, 8))
        x[:, :20, :4], x[:, 20:, 4:] = 1, 1
        return [dense(weight, cuba(100, 300, 0)), recurrent(even(g, 4, 2, scale=200), even(g, 4, 4), cuba(40))], x
    layers = [
        plain("input", 1, 4, 5) | {"weight": [-36.0], "bias": [40.0], "neuron": cuba(25, 4096, 1024)},
        pool(np.full((1, 1, 2, 2), 16), (1, 2, 2), cuba(10)),
        plain("flatten", 4, 1, 1),
        dense(even(g, 6, 4, scale=100), cuba(10), delay=[0, 5, 1, 2, 7, 3]),
        plain("average", 3),
    ]
    return layers, g.uniform(0, 1, (2, 1, 1, 4, 5))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip and loop", "encoded, pooled, delayed, averaged"])
def test_every_executor_runs_the_same_bits(net, kind):
    layers, x = every_kind(kind)
    program = net(layers, steps=60 if x.shape[1] == 60 else STEPS)
    evidence = Program(graph=program.result.graph, schedule=program.schedule, populations=program.result.populations)
    found = verify(evidence, {"input": x}, backends=("lava", "onnx", "reference"), timeout_s=240)
    assert found.ok, found.failures
    assert [(b.backend, b.differing_bits) for b in found.backends] == [(name, 0) for name in ("lava", "onnx", "reference")]

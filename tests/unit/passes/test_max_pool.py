"""Maximum pooling of spikes, of graded payloads and of currents, by what a chip has."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Builder
from test_manager import lif
from torch.nn import functional

from snncompile.ir.graph import Dialect, Graph
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Add, Affine, Conv2d, Input
from snncompile.ir.max_pool import MaxPool2d, maximum
from snncompile.ir.neuron import Fire, Neuron, Reset
from snncompile.passes import check_population_form, run_passes


def net(seed, pool, source):
    """input -> conv -> (spikes | scaled spikes | graded spikes | sum of spikes | current) -> max pooling -> conv -> spikes"""
    b = Builder(np.random.default_rng(seed), 3)
    x = b.add(Input, None, size=(2, 7, 6))
    y = b.add(Conv2d, None, inputs=(x,), weight=b.normal(3, 2, 3, 3), padding=(1, 1, 1, 1), bias=b.normal(1, 3, 1, 1))
    if source == "normalised current":
        y = b.add(Affine, None, inputs=(y,), factor=b.normal(1, 3, 1, 1), shift=b.normal(1, 3, 1, 1))
    elif source != "current":
        fields = {"fire": Fire.RELU, "reset": Reset.CLAMP} if source == "graded spikes" else {}
        spikes = [lif("s", y, **fields)]
        if source == "sum of spikes":
            spikes.append(lif("s2", y, theta=np.array([0.3])))
        b.nodes += spikes
        b.shapes.update(dict.fromkeys(("s", "s2"), (3, 7, 6)))
        y = "s" if len(spikes) == 1 else b.add(Add, None, inputs=("s", "s2"))
        y = b.add(Affine, None, inputs=(y,), factor=np.array([2.74]), shift=np.array([0.5])) if source == "scaled spikes" else y
    y = b.add(MaxPool2d, None, inputs=(y,), **pool)
    c = b.add(Conv2d, None, inputs=(y,), weight=b.normal(2, 3, 1, 1))
    b.nodes.append(lif("out", c))
    return Graph(name="n", dialect=Dialect.FLOAT, nodes=(), outputs={"y": y, "z": "out"}, steps=3).rebuild(b.nodes)


POOLS = {
    "2x2": {"kernel": (2, 2), "stride": (2, 2)},
    "3x3 overlapping, padded": {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)},
    "1x3 dilated": {"kernel": (1, 3), "stride": (1, 1), "dilation": (1, 2)},
}
SOURCES = ("spikes", "scaled spikes", "graded spikes", "sum of spikes", "current", "normalised current")


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("source", SOURCES)
def test_maximum_pooling_reaches_population_form_with_the_same_values(source, pool):
    before = net(1, pool, source)
    x = {before.nodes[0].name: np.random.default_rng(2).normal(size=(2, 3, 2, 7, 6))}
    after, _ = run_passes(before, probe=x)
    check_population_form(after)
    one, two = interpret(before, x, record=["out.m"]), interpret(after, x, record=["out.m"])
    assert np.abs(one["out.m"] - two["out.m"]).max() < 1e-9 * np.abs(one["out.m"]).max()
    assert np.allclose(one["y"], two["y"], rtol=0, atol=1e-9)


@given(
    size=st.tuples(st.integers(3, 8), st.integers(3, 8)), kernel=st.integers(1, 3), stride=st.integers(1, 3), dilation=st.integers(1, 2),
    half=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_the_maximum_is_pytorchs(size, kernel, stride, dilation, half):
    pad = kernel // 2 if half and dilation == 1 else 0
    if dilation * (kernel - 1) + 1 > min(size):
        return
    x = np.random.default_rng(0).normal(size=(2, 3, *size))
    op = MaxPool2d(name="p", kernel=(kernel,) * 2, stride=(stride,) * 2, padding=(pad,) * 4, dilation=(dilation,) * 2)
    theirs = functional.max_pool2d(torch.as_tensor(x), kernel, stride, pad, dilation).numpy()
    assert op.infer(x.shape[1:]) == theirs.shape[1:]
    assert np.array_equal(maximum(x, op), theirs)


def test_spikes_need_one_population_and_a_window_of_currents_four_and_a_relay():
    for source, count in (("spikes", 1), ("scaled spikes", 1), ("current", 5)):
        before = net(1, POOLS["3x3 overlapping, padded"], source)
        x = {before.nodes[0].name: np.zeros((1, 1, 2, 7, 6))}
        after, _ = run_passes(before, probe=x)
        pooling = [n for n in after.of(Neuron) if n.name.startswith("max_pool2d") and not n.name.endswith("readout")]
        assert len(pooling) == count, [n.name for n in pooling]
        if source == "current":
            assert {n.fire for n in pooling} == {Fire.NONE, Fire.RELU}


def test_a_window_that_lies_in_the_padding_is_refused():
    op = MaxPool2d(name="p", kernel=(1, 1), stride=(1, 1), padding=(1, 0, 0, 0))
    with pytest.raises(ValueError, match="outside"):
        op.infer((1, 2, 2))

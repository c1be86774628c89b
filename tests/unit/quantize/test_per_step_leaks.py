"""Leaks with a value per step, in a population of one dimension: each step has its own code."""

from __future__ import annotations

import numpy as np
import pytest
from population_nets import TARGET

from snncompile.ir.graph import Dialect, Graph
from snncompile.ir.linear_ops import Input, Linear
from snncompile.ir.neuron import Fire, Neuron, Reset, constant
from snncompile.quantize import quantize


def dense(leak: np.ndarray) -> Graph:
    zero, one = constant(0.0), constant(1.0)
    nodes = (
        Input(name="x", size=(3,), low=0.0, high=1.0, grid=1.0),
        Linear(name="fc", inputs=("x",), weight=np.linspace(-0.4, 0.6, 12).reshape(4, 3)),
        Neuron(
            name="n", inputs=("fc",), fire=Fire.STEP_GE, reset=Reset.SUBTRACT, leak=leak, gain=one, bias=zero, theta=one, reset_amount=one,
            reset_value=zero, v_init=np.zeros(1),
        ),
    )  # fmt: skip
    return Graph(name="g", dialect=Dialect.FLOAT, nodes=nodes, outputs={"out": "n"}, steps=4)


@pytest.mark.parametrize(("leak", "shown"), [([0.5, 0.25, 0.1, 0.5], "0.1"), ([0.7, 0.25, 0.5, 0.5], "0.7")])
def test_the_reason_names_the_leak_that_has_no_code(leak, shown):
    (report,) = quantize(dense(np.array(leak)), TARGET).populations
    assert not report.exact
    assert report.reason == f"leak {shown} is not a multiple of 2**-16"


def test_dyadic_leaks_per_step_are_exact():
    (report,) = quantize(dense(np.array([0.5, 0.25, 1.0, 0.5])), TARGET).populations
    assert report.exact

"""Neuron programs: their text, their validation, and the integer semantics against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from snncompile.errors import CompileError, InternalError
from snncompile.ir import reference
from snncompile.ir.graph import Dialect, Graph, validate
from snncompile.ir.integer import IntInput
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Diagonal, Input
from snncompile.ir.program import IntProgram, NeuronProgram
from snncompile.ir.text import from_text, to_text

ONE = np.ones(1)


def number(value: float):
    return np.array([value])


def quadratic(**changes) -> Graph:
    fields = {
        "code": ("r0 = mul z0 z0", "m = add r0 i0", "s = ge m c0", "v = select s c1 m"), "payload": "s", "membrane": "m",
        "threshold": "c0", "following": ("v",), "initial": (number(0.5),), "constants": (number(2.0), number(-1.0)),
        "gain": (ONE,), "bias": (number(0.25),),
    }  # fmt: skip
    n = NeuronProgram(name="n", inputs=("x",), **{**fields, **changes})
    return Graph(name="q", dialect=Dialect.FLOAT, steps=4, outputs={"out": "n"}, nodes=(Input(name="x", size=(2,)), n))


def test_a_program_computes_its_instructions_from_state_to_state():
    found = interpret(quadratic(), {"x": np.ones((1, 1, 2)) * [1.0, 0.0]}, record=["n.m", "n.v", "n.threshold"])
    m, v, s = [], 0.5, []
    for _ in range(4):
        m.append(v * v + 1.25)
        s.append(float(m[-1] >= 2.0))
        v = -1.0 if s[-1] else m[-1]
    np.testing.assert_array_equal(found["n.m"][0, :, 0], m)
    np.testing.assert_array_equal(found["out"][0, :, 0], s)
    assert set(s) == {0.0, 1.0}
    assert found["n.v"][0, -1, 0] == v
    assert found["n.threshold"].max() == 2.0


def test_a_forced_spike_resets_and_the_computed_one_is_returned():
    forced = np.ones((1, 4, 2))
    found = interpret(quadratic(), {"x": np.zeros((1, 1, 2))}, record=["n.v"], overrides={"n": forced})
    assert not found["out"].any()
    np.testing.assert_array_equal(found["n.v"], -1.0 * np.ones((1, 4, 2)))


def test_a_program_prints_and_parses():
    text, tensors = to_text(quadratic(places=("net.py:3", "", "", "")))
    again = from_text(text, tensors)
    assert to_text(again) == (text, tensors)
    assert again.by_name["n"].place(0).line == 3


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"code": ("m = add z0 i7", "s = ge m c0", "v = copy m")}, "reads 'i7'"),
        ({"code": ("m = add z0", "s = ge m c0", "v = copy m")}, "reads 2 register"),
        ({"code": ("m = sin z0", "s = ge m c0", "v = copy m")}, "no operation 'sin'"),
        ({"code": ("m = add z0 i0", "m = add m i0", "s = ge m c0", "v = copy m")}, "a second time"),
        ({"code": ("m = add z0 i0 >>3", "s = ge m c0", "v = copy m")}, "integer dialect"),
        ({"code": ("m = add z0 i0; import os",)}, "is no instruction"),
        ({"following": ()}, "0 new states, 1 initial"),
        ({"gain": ()}, "as many gains"),
        ({"following": ("w",)}, "register 'w'"),
    ],
)
def test_a_broken_program_is_named(changes, what):
    with pytest.raises(CompileError, match=what) as e:
        validate(quadratic(**changes))
    assert "SNN219" in {d.code for d in e.value.diagnostics}


def whole(*values):
    return np.array(values, dtype=np.int64)


def integer(code, **changes) -> Graph:
    fields = {
        "exponents": (1,), "currents": (0,), "gain": (whole(3),), "gain_shift": (1,), "bias": (whole(0),), "code": code, "payload": "m",
        "payload_min": -100, "payload_max": 100, "spiking": False, "membrane": "m", "following": (), "initial": (), "constants": (),
        "i_scale": (1.0,), "v_scale": ONE, "out_scale": ONE,
    }  # fmt: skip
    n = IntProgram(name="n", inputs=("w",), **{**fields, **changes})
    graph = Graph(
        name="p", dialect=Dialect.INTEGER, steps=1, outputs={"out": "n"}, meta={"membrane": [-127, 127]},
        nodes=(IntInput(name="x", size=(4,), lsb=ONE, offset=np.zeros(1), low=-50, high=50),
               Diagonal(name="w", inputs=("x",), weight=np.ones(1, dtype=np.int64)), n),
    )  # fmt: skip
    validate(graph)
    return graph


def run(graph, *values, port=""):
    return reference.run(graph, {"x": whole(values)[:, None]}, record=[f"n{port}"])[f"n{port}"][0, 0].tolist()


def test_a_current_is_scaled_once_and_rounded_half_to_even():
    graph = integer(("m = copy i0",), exponents=(0,))
    assert run(graph, (1, 3, -1, 5)) == [2, 4, -2, 8]  # 1.5, 4.5, -1.5, 7.5


def test_operands_are_aligned_before_the_operation_and_rounded_after_it():
    graph = integer(("m = add i0<<2 c0 >>3",), exponents=(0,), gain=(whole(1),), gain_shift=(0,), constants=(whole(4),))
    assert run(graph, (0, 1, 2, -5)) == [0, 1, 2, -2]  # (4k + 4) / 8: 0.5, 1, 1.5, -2


def test_saturation_is_limited_and_counted_and_overflow_elsewhere_is_an_error():
    squares = {"exponents": (0,), "gain": (whole(1),), "gain_shift": (0,)}
    graph = integer(("m = mul i0 i0 !",), payload_max=127, **squares)
    assert run(graph, (3, 12, 20, -11)) == [9, 127, 127, 121]
    assert run(graph, (3, 12, 20, -11), port=".saturated") == [0, 1, 1, 0]
    with pytest.raises(InternalError, match="its format holds"):
        run(integer(("m = mul i0 i0",), **squares), (3, 12, 20, -11))


def test_a_table_is_a_straight_line_between_knots_and_flat_beyond():
    graph = integer(
        ("m = table0 i0",), exponents=(0,), gain=(whole(1),), gain_shift=(0,), tables=(whole(0, 10, 50),), table_low=(-4,),
        table_shift=(2,),
    )  # fmt: skip
    assert run(graph, (-9, -3, 0, 1)) == [0, 2, 10, 20]  # 2.5 to even
    assert run(graph, (3, 4, 9, -4)) == [40, 50, 50, 0]


def test_an_integer_program_prints_and_parses():
    graph = integer(("m = add i0<<2 c0 >>3 !",), constants=(whole(4),))
    text, tensors = to_text(graph)
    assert to_text(from_text(text, tensors)) == (text, tensors)
    assert graph.by_name["n"].saturates

"""Neuron programs to integers: what is proved, what saturates and is counted, what a table errs, what is refused and where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from snncompile.errors import CompileError
from snncompile.ir import reference
from snncompile.ir.graph import Dialect, Graph
from snncompile.ir.interpret import interpret
from snncompile.ir.linear_ops import Input, Linear
from snncompile.ir.program import IntProgram, NeuronProgram
from snncompile.numerics import Format
from snncompile.quantize import dequantise, quantize
from snncompile.quantize.program.fixed import constant, make_table
from snncompile.target import load_target

TARGET = load_target("loihi2-sim")
ONE, ZERO = np.ones(1), np.zeros(1)
QUADRATIC = ("r0 = sub z0 c1", "r1 = mul z0 r0", "r2 = add i0 r1", "r3 = mul r2 c2", "m = add z0 r3", "s = ge m c0", "v = select s c3 m")
CONSTANTS = tuple(np.array([v]) for v in (1.0, 0.8, 0.5, -0.1))


def graph(code=QUADRATIC, constants=CONSTANTS, steps=12, scale=0.4, **fields) -> Graph:
    rng = np.random.default_rng(0)
    given = {"payload": "s", "membrane": "m", "threshold": "c0", "following": ("v",), "initial": (ZERO,), **fields}
    n = NeuronProgram(name="n", inputs=("w",), code=code, constants=constants, gain=(ONE,), bias=(ZERO,), **given)
    return Graph(
        name="g", dialect=Dialect.FLOAT, steps=steps, outputs={"out": "n"},
        nodes=(Input(name="x", size=(30,), low=0, high=1, grid=1 / 255),
               Linear(name="w", inputs=("x",), weight=rng.normal(size=(20, 30)) * scale), n),
    )  # fmt: skip


def samples(count=40, steps=12):
    return np.random.default_rng(1).integers(0, 256, size=(count, steps, 30)) / 255


def test_a_quadratic_map_is_proved_without_data_and_its_bounds_hold():
    result = quantize(graph(), TARGET)
    program = result.graph.by_name["n"]
    assert isinstance(program, IntProgram)
    assert not program.saturates
    report = result.populations[0]
    assert not report.exact
    assert "mul" in report.reason
    low, high = report.bounds["membrane"]
    assert TARGET.membrane.fits(np.array([low, high]))
    seen = reference.run(result.graph, {"x": samples()}, record=["n.m", "n.v"])
    assert low <= seen["n.m"].min() <= seen["n.m"].max() <= high
    assert seen["n.v"].max() <= report.bounds["state"][1] < program.constants[0].max() << 30
    extreme = (np.random.default_rng(2).random((60, 12, 30)) > 0.5).astype(float)  # beyond every calibration: still no register overflows
    reference.run(result.graph, {"x": extreme}, record=["n.m"])


def test_the_integers_follow_the_real_numbers_with_their_weights():
    g, x = graph(), samples()
    result = quantize(g, TARGET)
    whole = reference.run(result.graph, {"x": x}, record=["n", "n.m"])
    real = interpret(dequantise(g, result), {"x": x}, record=["n.m"], overrides={"n": whole["n"].astype(float)})
    scale = float(result.graph.by_name["n"].v_scale)
    assert np.abs(whole["n.m"] * scale - real["n.m"]).max() < 2e-5 * np.abs(real["n.m"]).max()
    assert np.mean(whole["n"] != real["out"]) <= 1e-4
    assert 0.02 < whole["n"].mean() < 0.98


def test_where_nothing_is_proved_registers_saturate_and_the_events_are_counted():
    code = ("r0 = mul z0 z0", "m = add r0 i0", "s = gt m c0", "v = copy m")  # nothing ever resets it
    g = graph(code, CONSTANTS[:1], scale=0.1)
    with pytest.raises(CompileError) as e:
        quantize(g, TARGET)
    assert {d.code for d in e.value.diagnostics} == {"SNN313"}
    assert "calibration data" in e.value.diagnostics[0].help
    quiet = samples() * 0.1
    result = quantize(g, TARGET, calibration={"x": quiet})
    program = result.graph.by_name["n"]
    assert program.saturates
    assert any("saturate" in note for note in result.notes)
    events = reference.run(result.graph, {"x": quiet}, record=["n.saturated"])["n.saturated"]
    assert not events.any()
    loud = reference.run(result.graph, {"x": np.ones((4, 12, 30)) * (np.arange(4)[:, None, None] > 1)}, record=["n.saturated", "n.m"])
    assert loud["n.saturated"].any()
    assert np.abs(loud["n.m"]).max() <= TARGET.membrane.high


@pytest.mark.parametrize(
    ("function", "span"), [("exp", (-6.0, 1.0)), ("tanh", (-5.0, 5.0)), ("sigmoid", (-9.0, 9.0)), ("sqrt", (0.1, 4.0))]
)
def test_a_tables_error_is_the_stated_one_and_that_of_straight_lines(function, span):
    form = Format.parse("s24")
    table = make_table(function, span, -20, -20, form, 4096)
    h = 2.0 ** (table.shift - 20)
    curvature = {"exp": np.e, "tanh": 0.77, "sigmoid": 0.0963, "sqrt": 0.25 * 0.05**-1.5}[function]
    assert table.error <= h * h / 16 * curvature * 1.5 + 2.0**-20
    assert table.values.size <= 4097
    assert np.all(np.diff(table.values) >= 0)


def test_constants_keep_the_formats_bits_and_lose_trailing_zeros():
    form = Format.parse("s24")
    assert constant(np.array([0.5, -2.0]), form)[1] == -1
    q, e = constant(np.array([np.pi]), form)
    assert abs(q[0] * 2.0**e - np.pi) <= 2.0**e / 2
    assert abs(int(q[0])) > 2**21


def test_a_target_without_neuron_programs_names_the_operation_and_its_line():
    g = graph(places=("net.py:7", "net.py:8", "", "", "", "", ""))
    with pytest.raises(CompileError) as e:
        quantize(g, replace(TARGET, program=frozenset()))
    (found,) = e.value.diagnostics
    assert found.code == "SNN312"
    assert "operation 'sub'" in found.message
    assert found.loc.line == 7
    with pytest.raises(CompileError, match="operation 'mul'") as e:
        quantize(g, replace(TARGET, program=TARGET.program - {"mul"}))
    assert e.value.diagnostics[0].loc.line == 8


def test_a_gain_per_step_and_a_bias_per_channel_are_kept():
    g = graph()
    n = replace(
        g.by_name["n"], gain=(np.linspace(0.5, 1.5, 12)[:, None],), bias=(np.linspace(-0.2, 0.2, 20)[None],),
        constants=(np.linspace(0.8, 1.2, 12)[:, None], *CONSTANTS[1:]),
    )  # fmt: skip
    g = g.rebuild([*g.nodes[:2], n])
    result = quantize(g, TARGET, calibration={"x": samples()})
    whole = reference.run(result.graph, {"x": samples()}, record=["n"])
    real = interpret(dequantise(g, result), {"x": samples()}, overrides={"n": whole["n"].astype(float)})
    assert np.mean(whole["n"] != real["out"]) <= 2e-4
    assert whole["n"].any()

from dataclasses import fields, replace
from enum import Enum

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from strategies import graphs

from snncompile.errors import CompileError, InternalError, Location
from snncompile.ir.graph import Dialect, Graph
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.linear_ops import Affine, Conv2d, Diagonal, Input
from snncompile.ir.neuron import Reset
from snncompile.ir.text import from_text, to_text

ODD = st.text(max_size=12)
NAMES = ODD.filter(lambda s: s and "." not in s)


def same(a: object, b: object) -> bool:
    """Equality down to types, dtypes and bits."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(map(same, a.values(), b.values()))
    return type(a) is type(b) and (a == b or repr(a) == repr(b))


def assert_same_graph(a: Graph, b: Graph) -> None:
    for f in fields(Graph):
        if f.name != "nodes":
            assert same(getattr(a, f.name), getattr(b, f.name)), f.name
    assert len(a.nodes) == len(b.nodes)
    for n, m in zip(a.nodes, b.nodes, strict=True):
        assert type(n) is type(m)
        for f in fields(n):
            assert same(getattr(n, f.name), getattr(m, f.name)), (n.name, f.name)


def integer_graph() -> Graph:
    i32 = np.int32
    x = IntInput(name="x", size=(2,), lsb=np.array([0.1, 0.2]), offset=np.zeros(1, np.float32), low=-8, high=7, static=True)
    s = Diagonal(name="s", inputs=("x",), weight=np.array([3, -4], np.int8))
    n = IntNeuron(
        name="n", inputs=("s",), origin=("lif", "bn 1"), fire="relu", reset=Reset.CLAMP, exponents=(2,), decay_bits=12,
        leak=np.array([2048], i32), bias=np.arange(40, dtype=np.int64).reshape(20, 2), threshold=np.array([[5]], i32),
        reset_amount=np.zeros(1, i32), reset_value=np.zeros(1, i32), v_init=np.zeros(1, i32),
        multiplier=np.array([7], i32), shift=np.array([3], i32),
        payload_max=15, v_scale=np.array([np.nextafter(0.1, 1)]), out_scale=np.array([5e-324]),
    )  # fmt: skip
    return Graph(name="int", dialect=Dialect.INTEGER, nodes=(x, s, n), outputs={"out": "n.v"}, steps=20)


@pytest.mark.parametrize("inline", [False, True])
@settings(max_examples=40, deadline=None)
@given(graph=graphs())
def test_a_random_graph_survives_printing_and_parsing(inline, graph):
    text, tensors = to_text(graph, inline=inline)
    assert not (inline and tensors)
    assert_same_graph(from_text(text, tensors), graph)


@pytest.mark.parametrize("inline", [False, True])
def test_an_integer_graph_survives_printing_and_parsing(inline):
    text, tensors = to_text(integer_graph(), inline=inline)
    assert list(tensors) == ([] if inline else ["n.bias"])
    assert_same_graph(from_text(text, tensors), integer_graph())


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), ODD)
DTYPES = ["f8", "f4", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]


def random_array(dtype, shape, seed):
    values = np.random.default_rng(seed).integers(0, 2**63, size=shape, dtype=np.uint64)
    return np.asarray(values % 60000 / 7 if dtype.startswith("f") else values).astype(dtype)


ARRAYS = st.builds(
    random_array, st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=3), st.integers(0, 99),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS | ARRAYS,
    lambda inner: st.one_of(*(st.lists(inner, max_size=3).map(kind) for kind in (list, tuple)), st.dictionaries(ODD, inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(name=NAMES, label=ODD, loc=st.builds(Location, ODD, st.integers(0, 10**6), ODD), meta=st.dictionaries(ODD, VALUES, max_size=3))
def test_names_places_and_meta_with_odd_characters_survive(name, label, loc, meta):
    node = Input(name=name, size=(1,), loc=loc, origin=(name + "'", name))
    graph = Graph(name=label, dialect=Dialect.FLOAT, nodes=(node,), outputs={label: name}, steps=1, meta=meta)
    with np.errstate(all="ignore"):
        text, tensors = to_text(graph)
    assert_same_graph(from_text(text, tensors), graph)


@pytest.mark.parametrize("name", ["inf", "nan", "none", "true", "from", "f64", "meta", "a-b", "x/y", "3d", "größe", '"', "\\", "a;b", "%"])
def test_names_that_look_like_grammar_survive(name):
    node = Affine(name=name, inputs=("in",), origin=(name,), factor=np.array([np.inf, -np.inf, np.nan, -0.0]), shift=np.array([1e-5, 1e22]))
    nodes = (Input(name="in", size=(1,)), node)
    graph = Graph(name=name, dialect=Dialect.FLOAT, nodes=nodes, outputs={name: name}, steps=4, meta={name: name})
    text, tensors = to_text(graph)
    assert_same_graph(from_text(text, tensors), graph)


def test_fields_equal_to_their_default_are_left_out_but_their_type_counts():
    conv = Conv2d(name="c", inputs=("x",), weight=np.ones((1, 1, 1, 1)), stride=(1, 1))
    graph = Graph(name="g", dialect=Dialect.FLOAT, nodes=(Input(name="x", size=(1, 1, 1), grid=0), conv), outputs={"o": "c"}, steps=1)
    text, tensors = to_text(graph)
    assert text == 'graph "g" float steps=1\n%x = input() size=(1, 1, 1) grid=0 : 1x1x1\n' + (
        '%c = conv2d(%x) weight=f64<1x1x1x1>[1.0] : 1x1x1\nreturn "o" = %c\n'
    )
    assert_same_graph(from_text(text, tensors), graph)


def test_tensors_whose_names_collide_get_different_keys():
    weight = np.arange(20.0)
    meta = {"a": {"b": weight, 1: weight + 1}, "a.b": weight + 2}
    graph = Graph(name="g", dialect=Dialect.FLOAT, nodes=(), outputs={}, steps=1, meta=meta)
    text, tensors = to_text(graph)
    assert len(tensors) == 3
    assert_same_graph(from_text(text, tensors), graph)


def test_a_value_without_text_form_is_an_internal_error():
    class Colour(Enum):
        RED = object()

    graph = Graph(name="g", dialect=Dialect.FLOAT, nodes=(), outputs={}, steps=1)
    with pytest.raises(InternalError, match=r"'meta\.k' holds a set"):
        to_text(replace(graph, meta={"k": {1}}))
    with pytest.raises(InternalError, match="array of complex128"):
        to_text(replace(graph, meta={"k": np.array([1j])}))


HEAD = 'graph "g" float steps=1\n'
WRONG = {
    "": ("SNN220", "line 1: expected 'graph', found an empty text"),
    "hello": ("SNN220", "line 1: expected 'graph', found 'hello'"),
    'graph "g" complex steps=1': ("SNN221", "unknown dialect 'complex', expected float or integer"),
    'graph "g" float steps=x': ("SNN220", "expected the number of steps, found 'x'"),
    HEAD + "x = input()": ("SNN220", "line 2: expected '%', 'meta' or 'return', found 'x'"),
    HEAD + "%x = teapot()": ("SNN221", "line 2: unknown operation 'teapot'"),
    HEAD + "%x = input(": ("SNN220", "line 2: expected '%', found the end of the line"),
    HEAD + "%x = input()": ("SNN222", "'x' (input) lacks size"),
    HEAD + "%x = input() size=(1,) colour=3": ("SNN222", "'input' has no field 'colour'"),
    HEAD + "%x = input() size=(1,) name=3": ("SNN222", "'input' has no field 'name'"),
    HEAD + "%x = input() size=(1,) size=(1,)": ("SNN222", "'size' is given twice"),
    HEAD + "%x = input() size=(1.5,)": ("SNN224", "'size' of 'input' cannot be (1.5,)"),
    HEAD + "%x = input() size=(true,)": ("SNN224", "'size' of 'input' cannot be (True,)"),
    HEAD + "%x = input() size=(1,) static=1": ("SNN224", "'static' of 'input' cannot be 1"),
    HEAD + "%x = input() size=(1,) low=abc": ("SNN224", "'low' of 'input' cannot be 'abc'"),
    HEAD + "%x = input() size=(1,) $": ("SNN220", "column 24: cannot read '$'"),
    HEAD + "%x = input() size=(1,)\n%x = input() size=(1,)": ("SNN226", "line 3: a second node is called 'x'"),
    HEAD + "%x = input() size=(1,) : 2": ("SNN226", "line 2: 'x' has shape 1, the text says 2"),
    HEAD + "%d = diagonal(%x) weight=f64<1>[1.0] : 1": ("SNN226", "cannot be inferred"),
    HEAD + "%x = input() size=(1,) ; nowhere": ("SNN220", "expected file:line in function, found 'nowhere'"),
    HEAD + '%x = input() size=(1,) ; "\\q":1': ("SNN220", "expected a string as in JSON"),
    HEAD + 'meta "k" = "\\q"': ("SNN220", "expected a string as in JSON"),
    HEAD + 'meta "k" = ' + "(" * 60: ("SNN220", "nested more than 50 deep"),
    HEAD + 'meta "k" = {[1]: 2}': ("SNN224", "[1] cannot be a key"),
    HEAD + 'meta "k" = 1 2': ("SNN220", "expected the end of the line, found '2'"),
    HEAD + 'meta "k" = 1x2': ("SNN220", "expected a number, found '1x2'"),
    HEAD + 'meta "k" =': ("SNN220", "expected a value, found the end of the line"),
    HEAD + 'meta "k" = f64<2>[1.0]': ("SNN225", "expected 2 value(s) for shape 2, found 1"),
    HEAD + 'meta "k" = i8<1>[300]': ("SNN225", "a value does not fit i8"),
    HEAD + 'meta "k" = i8<1>[0.5]': ("SNN225", "0.5 is not a value of i8"),
    HEAD + 'meta "k" = f64<1>[true]': ("SNN225", "True is not a value of f64"),
    HEAD + 'meta "k" = f64<99999999999x9>[1.0 *]': ("SNN225", "too large for a text"),
    HEAD + 'meta "k" = f64<a>[1.0]': ("SNN220", "expected '>', found 'a'"),
    HEAD + "%x = input() size=(1,) : a": ("SNN220", "expected a shape such as 16x3x3, found 'a'"),
    HEAD + 'meta "k" = @w<f64 2>': ("SNN223", "there is no tensor 'w'"),
    HEAD + 'meta "k" = @here<f64 3>': ("SNN223", "tensor 'here' is float64 (2,), the text says f64 (3,)"),
    HEAD + 'meta "k" = @here<c64 2>': ("SNN221", "unknown number type 'c64'"),
    HEAD + "%n = neuron(%x) fire=often": ("SNN224", "'fire' is 'often', expected one of step_ge, step_gt, relu, none"),
    HEAD + '%n = neuron(%x) fire="none"': ("SNN224", "'fire' is 'none', expected one of"),
}


@pytest.mark.parametrize("text", WRONG, ids=lambda t: t[-24:] or "empty")
def test_malformed_text_names_the_line_and_what_was_expected(text):
    code, message = WRONG[text]
    with pytest.raises(CompileError) as caught:
        from_text(text, {"here": np.zeros(2)})
    assert caught.value.code == code
    assert message in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(graph=graphs(4), data=st.data())
def test_damaged_text_is_refused_or_read_but_never_crashes(graph, data):
    text, tensors = to_text(graph)
    at = data.draw(st.integers(0, len(text)))
    wrong = data.draw(st.sampled_from(["", "(", '"', "%", " 1", "none", "\n", ";", "x3", "@"]))
    found: list[CompileError] = []
    try:
        from_text(text[:at] + wrong + text[at + data.draw(st.integers(0, 5)) :], tensors)
    except CompileError as e:
        found = [e]
    assert all(e.code.startswith("SNN22") for e in found)

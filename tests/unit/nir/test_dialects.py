"""For every dialect: a graph that the tool wrote gives the tool's own spikes, and one that it reads gives what it makes of it."""

from __future__ import annotations

import importlib.util
import sys

import frameworks
import nir
import numpy as np
import pytest
from nir_files import chain, lif, run, save

from snncompile.capture.nir import DIALECTS, import_nir
from snncompile.errors import CompileError
from snncompile.ir.neuron import Neuron

T = frameworks.STEPS
EXCHANGE = importlib.util.find_spec("spikingjelly.activation_based.nir_exchange") is not None if sys.version_info >= (3, 11) else False
WRITERS = {
    "sinabs": frameworks.sinabs_network, "norse": frameworks.norse_network, "snntorch": frameworks.snntorch_network,
    "rockpool": frameworks.rockpool_network, "lava": frameworks.lava_network,
    **({"spikingjelly": frameworks.spikingjelly_network} if EXCHANGE else {}),
}  # fmt: skip
CASES = [pytest.param(name, marks=pytest.mark.slow if name == "rockpool" else ()) for name in WRITERS]  # importing Rockpool takes 12 s


def same(mine, theirs, *, real=False):
    """Spikes equal, and there are some; a readout's membranes to float32."""
    assert np.abs(theirs).sum() > 5
    if real:
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)
    else:
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("dialect", CASES)
def test_a_graph_that_the_tool_wrote_gives_the_tools_own_answer(dialect):
    graph, x, theirs = WRITERS[dialect]()
    same(run(import_nir(graph, steps=T, dialect=dialect).graph, x), theirs, real=dialect in ("norse", "rockpool"))


@pytest.mark.parametrize("dialect", CASES)
def test_the_same_graph_as_a_file_is_the_same_network(dialect, tmp_path):
    graph, x, _ = WRITERS[dialect]()
    found = import_nir(save(graph, tmp_path / "net.nir"), steps=T, dialect=dialect)
    np.testing.assert_array_equal(run(found.graph, x), run(import_nir(graph, steps=T, dialect=dialect).graph, x))


def test_several_spikes_and_a_floor_of_the_membrane_give_sinabs_spikes_and_another_dialect_its_own():
    graph, x, theirs = frameworks.sinabs_network(min_v_mem=-0.5)
    mine = import_nir(graph, steps=T, dialect="sinabs", settings={"1.min_v": "-0.5"})
    iaf = next(n for n in mine.graph.of(Neuron) if n.origin == ("1",))
    spikes = run(mine.graph, x, [iaf.name, f"{iaf.name}.v"])
    assert spikes[iaf.name].max() > 1
    assert spikes[f"{iaf.name}.v"].min() == -0.5
    same(run(mine.graph, x), theirs)
    without = run(import_nir(graph, steps=T, dialect="sinabs").graph, x)
    assert np.any(without != theirs), "the floor matters here"
    other = run(import_nir(graph, steps=T, dialect="sinabs-reader").graph, x)
    same(other, frameworks.read_by_sinabs(graph, x))
    assert np.any(other != theirs)
    norse = run(import_nir(graph, steps=T, dialect="norse-reader").graph, x)
    assert np.any(norse != theirs), "one file, another tool, other spikes"


def test_one_file_of_sinabs_gives_the_spikes_of_sinabs_and_of_norse_under_their_dialects(tmp_path):
    """Multi-spike and a floor of the membrane as sinabs ran them; the same file as sinabs and Norse themselves read it."""
    graph, x, theirs = frameworks.sinabs_dense_network(min_v_mem=-0.5)
    path = save(graph, tmp_path / "net.nir")
    settings = {f"{node}.min_v": "-0.5" for node in ("1", "3")}
    mine = import_nir(path, steps=T, dialect="sinabs", settings=settings).graph
    first = next(n for n in mine.of(Neuron) if n.origin == ("1",))
    seen = run(mine, x, [first.name, f"{first.name}.v"])
    assert seen[first.name].max() > 1
    assert seen[f"{first.name}.v"].min() == -0.5
    same(run(mine, x), theirs)
    answers = [theirs]
    for dialect, read in (("sinabs-reader", frameworks.read_by_sinabs), ("norse-reader", frameworks.read_by_norse)):
        answer = run(import_nir(path, steps=T, dialect=dialect).graph, x)
        same(answer, read(graph, x))
        assert all(np.any(answer != other) for other in answers), dialect
        answers.append(answer)


@pytest.mark.parametrize(
    ("kwargs", "settings"),
    [
        ({"reset_mechanism": "zero", "reset_delay": False}, {"reset": "zero", "reset_delay": "no"}),
        ({"reset_mechanism": "none"}, {"reset": "none"}),
        ({"reset_mechanism": "subtract", "reset_delay": True}, {}),
    ],
    ids=["zero", "none", "subtract"],
)
def test_a_reset_that_snntorch_does_not_write_is_set_by_option(kwargs, settings):
    graph, x, theirs = frameworks.snntorch_network(**kwargs)
    same(run(import_nir(graph, steps=T, dialect="snntorch", settings=settings).graph, x), theirs)


def test_a_file_read_by_snntorch():
    graph, x, _ = frameworks.snntorch_network(recurrent=False)
    found = import_nir(graph, steps=T, dialect="snntorch-reader")
    same(run(found.graph, x), frameworks.read_by_snntorch(graph, x))


def test_an_integrate_and_fire_node_read_by_snntorch_leaks():
    node = nir.IF(r=np.ones(4), v_threshold=np.full(4, 1.0), v_reset=np.zeros(4))
    graph = chain(nir.Linear(np.eye(4, dtype=np.float32)), node, shape=[4])
    x = np.random.default_rng(0).uniform(0, 0.6, (2, T, 4)).astype(np.float32)
    same(run(import_nir(graph, steps=T, dialect="snntorch-reader").graph, x), frameworks.read_by_snntorch(graph, x))
    assert not np.array_equal(
        run(import_nir(graph, steps=T, dialect="nir", settings={"dt": "1"}).graph, x), frameworks.read_by_snntorch(graph, x)
    )


def test_a_loop_that_snntorch_reads_wrongly_is_refused_under_its_reader():
    graph, _, _ = frameworks.snntorch_network()
    with pytest.raises(CompileError, match="through the recurrent weights"):
        import_nir(graph, steps=T, dialect="snntorch-reader")


def test_a_file_read_by_norse():
    graph = chain(nir.Affine(np.eye(4, dtype=np.float32) * 3, np.full(4, 0.1, np.float32)), lif(4, tau=5e-3, v_leak=0.2), shape=[4])
    x = np.random.default_rng(0).uniform(0, 1, (2, T, 4)).astype(np.float32)
    same(run(import_nir(graph, steps=T, dialect="norse-reader").graph, x), frameworks.read_by_norse(graph, x))


@pytest.mark.skipif(not EXCHANGE, reason="this version of SpikingJelly has no NIR exchange")
def test_a_file_read_by_spikingjelly():
    graph, x, _ = frameworks.spikingjelly_network()
    same(run(import_nir(graph, steps=T, dialect="spikingjelly").graph, x), frameworks.read_by_spikingjelly(graph, x))


def test_one_file_means_other_spikes_in_every_dialect_that_takes_it():
    graph = chain(nir.Affine(np.eye(4) * 5, np.zeros(4)), lif(4, tau=2.0), shape=[4])
    x = np.random.default_rng(0).uniform(0, 1, (2, T, 4))
    answers = {}
    for name in ("nir", "sinabs", "sinabs-reader", "norse", "norse-reader"):
        answers[name] = run(import_nir(graph, steps=T, dialect=name, settings={"dt": "0.5"} if name == "nir" else {}).graph, x)
    assert not np.array_equal(answers["sinabs"], answers["sinabs-reader"])
    assert not np.array_equal(answers["nir"], answers["sinabs"])


def test_every_convention_that_a_dialect_changes_says_where_it_was_read():
    from snncompile.capture.nir import KEYS, Conventions

    spec = Conventions()
    for dialect in DIALECTS.values():
        changed = {k for k in KEYS if getattr(dialect.conventions, k) != getattr(spec, k)} | {
            k for row in dialect.by_type.values() for k in row
        }
        missing = changed - set(dialect.because)
        assert not missing, (dialect.name, missing)
        assert set(dialect.because) <= set(KEYS)

"""NIR files that this compiler writes: valid, exact when read back, and misread by other tools just as the warnings say."""

from __future__ import annotations

import re

import frameworks
import nir
import numpy as np
import pytest
import torch
from nir_files import chain, lif, run
from test_dialects import CASES, EXCHANGE, WRITERS
from torch import nn

import snncompile
from snncompile.backends.nir import misreadings, to_nir, write_nir
from snncompile.capture.capture import capture
from snncompile.capture.nir import import_nir
from snncompile.ir.text import to_text

T = frameworks.STEPS
OPTIONS = {"sinabs": {"1.min_v": "-0.5"}}


def program(graph, x):
    """The integer program: text without where its nodes came from, and tensors."""
    text, tensors = to_text(snncompile.compile_graph(graph, calibration=np.asarray(x, dtype=np.float64)).result.graph)
    return re.sub(r"( from .*)? ; .*| from .*", "", text), tensors


def same_program(one, other, x):
    (text, tensors), (text_2, tensors_2) = program(one, x), program(other, x)
    assert text == text_2
    assert tensors.keys() == tensors_2.keys()
    assert all(np.array_equal(tensors[k], tensors_2[k]) for k in tensors)


@pytest.mark.parametrize("dialect", CASES)
def test_a_written_file_gives_the_same_integer_program(dialect, tmp_path):
    graph, x, _ = WRITERS[dialect]()
    mine = import_nir(graph, steps=T, dialect=dialect, settings=OPTIONS.get(dialect, {})).graph
    write_nir(mine, tmp_path / "net.nir")
    nir.read(tmp_path / "net.nir")  # with its type check
    again = import_nir(tmp_path / "net.nir", steps=T)
    same_program(mine, again.graph, x)
    assert again.dialect == "snncompile"


class Block(nn.Module):
    """Batch norm, a grouped convolution, a residual, uneven padding, pooling and a readout."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.grouped, self.pool, self.fc = nn.Conv2d(4, 4, 2, groups=2, padding="same"), nn.AvgPool2d(2), nn.Linear(16, 3)
        self.norm.running_mean.uniform_(-0.1, 0.1)
        self.norm.running_var.uniform_(0.5, 1.5)
        self.v1 = self.v2 = 0.0

    def forward(self, x):
        self.v1 = 0.5 * self.v1 + self.norm(self.conv(x))
        s1 = (self.v1 >= 0.25).float()
        self.v1 = self.v1 - 0.25 * s1
        self.v2 = 0.75 * self.v2 + self.grouped(s1) + s1
        s2 = (self.v2 > 0.5).float()
        self.v2 = self.v2 * (1 - s2)
        return self.fc(self.pool(s2).flatten(1))


def test_a_network_captured_from_pytorch_survives_the_trip(tmp_path):
    torch.manual_seed(0)
    graph = capture(Block().eval(), input_shape=(2, 4, 4), steps=6).graph
    write_nir(graph, tmp_path / "net.nir")
    nir.read(tmp_path / "net.nir")
    again = import_nir(tmp_path / "net.nir", steps=6).graph
    x = np.random.default_rng(0).uniform(0, 1, (2, 6, 2, 4, 4))
    np.testing.assert_allclose(run(again, x), run(graph, x), atol=1e-12)
    same_program(graph, again, x)


def test_two_writes_are_the_same_bytes(tmp_path):
    graph = import_nir(chain(nir.Linear(np.eye(3)), lif(3), shape=[3]), steps=4, dialect="nir").graph
    for name in ("a", "b"):
        write_nir(graph, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def simple(**settings):
    graph = chain(nir.Affine(20 * np.eye(4), np.full(4, 0.1)), lif(4, tau=5e-3, v_threshold=0.9), shape=[4])
    return import_nir(graph, steps=T, dialect="nir", settings=settings).graph


def test_a_file_that_norse_and_spikingjelly_read_rightly_has_no_warning_for_them():
    x = np.random.default_rng(0).uniform(0, 1, (2, T, 4)).astype(np.float32)
    hard = simple()
    readers = {m.reader: m for m in misreadings(hard, to_nir(hard))}
    assert set(readers) == {"sinabs 3.1 (from_nir)", "Norse 1.1 (from_nir)", "SpikingJelly 2.0"}  # another step; >= for >
    assert readers["SpikingJelly 2.0"].fields == {"n1": ("fire",)}
    if EXCHANGE:
        np.testing.assert_array_equal(run(hard, x), frameworks.read_by_spikingjelly(to_nir(hard), x))


@pytest.mark.parametrize("reader", ["norse", "snntorch", *(["spikingjelly"] if EXCHANGE else [])])
def test_a_tool_misreads_a_soft_reset_as_the_warning_says(reader, tmp_path):
    soft = simple(reset="subtract", compare="ge")
    write_nir(soft, tmp_path / "net.nir")
    made = nir.read(tmp_path / "net.nir")
    dialect = {"spikingjelly": "spikingjelly"}.get(reader, f"{reader}-reader")
    tool = {"norse": "Norse", "snntorch": "snnTorch", "spikingjelly": "SpikingJelly"}[reader]
    (warning,) = [m for m in misreadings(soft, made) if m.reader.startswith(tool)]
    assert "reset" in warning.fields["n1"]
    assert warning.differing > 0
    x = np.random.default_rng(0).uniform(0, 1, (2, T, 4)).astype(np.float32)
    theirs = getattr(frameworks, f"read_by_{reader}")(made, x)
    assert not np.array_equal(theirs, run(soft, x))
    for node in made.nodes.values():
        node.metadata = {}
    made.metadata = {}
    np.testing.assert_array_equal(theirs, run(import_nir(made, steps=T, dialect=dialect).graph, x))

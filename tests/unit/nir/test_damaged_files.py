"""Whatever stands in a file, the answer is a network or a CompileError."""

from __future__ import annotations

import h5py
import nir
import numpy as np
import pytest
from nir_files import chain, lif, save

from snncompile.capture.nir import import_nir
from snncompile.errors import CompileError

TEXT = h5py.string_dtype()


def swap(group, name, value):
    """Replace a dataset."""
    if name in group:
        del group[name]
    if value is not None:
        group[name] = value


EDITS = {
    "node is a number": lambda f: swap(f, "node", 3),
    "no nodes": lambda f: swap(f["node"], "nodes", None),
    "no edges": lambda f: swap(f["node"], "edges", None),
    "edges in one row": lambda f: swap(f["node"], "edges", np.array(["input", "n0"], dtype=TEXT)),
    "edges of numbers": lambda f: swap(f["node"], "edges", np.array([[0, 1]])),
    "edges are a number": lambda f: swap(f["node"], "edges", 3),
    "type is a list": lambda f: swap(f["node/nodes/n0"], "type", np.array(["Affine"], dtype=TEXT)),
    "weight is a group": lambda f: swap(f["node/nodes/n0"], "weight", None) or f["node/nodes/n0"].create_group("weight"),
    "weight is a text": lambda f: swap(f["node/nodes/n0"], "weight", "x"),
    "bias is empty": lambda f: swap(f["node/nodes/n0"], "bias", h5py.Empty("f")),
    "bias is a table": lambda f: swap(f["node/nodes/n0"], "bias", np.zeros(3, dtype=[("a", "f4")])),
    "metadata of another kind": lambda f: swap(f["node/nodes/n1"], "metadata/snncompile", "[1]"),
    "metadata of an integer op": lambda f: swap(f["node/nodes/n1"], "metadata/snncompile", '{"op": "int_input"}'),
    "metadata of an input": lambda f: swap(f["node/nodes/n1"], "metadata/snncompile", '{"op": "input", "size": [3]}'),
    "a group in itself": lambda f: swap(f["node/nodes"], "n9", f["node"]),
    "a single node": lambda f: swap(f["node"], "type", "LIF"),
    "a name that is no text": lambda f: h5py.h5g.create(f["node/nodes"].id, b"\xff\xfe") and None,
}  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return save(chain(nir.Affine(np.eye(3), np.zeros(3)), lif(3), shape=[3]), tmp_path / "net.nir")


@pytest.mark.parametrize("label", EDITS)
def test_a_damaged_file_is_a_compile_error(label, path):
    with h5py.File(path, "a") as file:
        EDITS[label](file)
    with pytest.raises(CompileError, match=r"SNN16[0-3]"):
        import_nir(path, steps=4, dialect="nir")


def test_half_a_file_is_refused(path):
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CompileError, match="SNN160"):
        import_nir(path, steps=4, dialect="nir")

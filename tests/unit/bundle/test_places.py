"""Tensors that repeat over their places: packed without loss, chosen only where smaller, refused where malformed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

sys.path.append(str(Path(__file__).parents[1] / "backends" / "lava"))

from tensor_files import put, write
from test_lava_bits import guest_module

import snncompile
from snncompile.backends.bundle import read_bundle, tensors, write_bundle
from snncompile.errors import CompileError
from snncompile.ir.integer import IntNeuron
from snncompile.ir.text import to_text
from snncompile.online import build_network

BORDERS = np.r_[0, np.ones(26, int), 2][:, None] * 3 + np.r_[0, np.ones(26, int), 2]
"""Nine kinds of places of a 28 x 28 map: four corners, four edges, the middle."""


def patterned(dtype="int64", steps=4, channels=5, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.integers(-(2**20), 2**20, (steps, channels, 9)) * (0.1 if dtype.startswith("float") else 1)).astype(dtype)[..., BORDERS]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.lists(st.integers(1, 4), max_size=2), st.integers(0, 2**32 - 1), st.booleans())
def test_every_value_comes_back(kinds, lead, seed, real):
    rng = np.random.default_rng(seed)
    columns = rng.integers(-(2**40), 2**40, (*lead, kinds)).astype(float if real else np.int64)
    array = columns[..., rng.integers(0, kinds, (20, 30))]
    packed = tensors.pack_places(array)
    assert packed is not None
    assert tensors.unpack_places(packed).astype(array.dtype).tobytes() == array.tobytes()
    if not real:
        assert np.array_equal(guest_module("packed").unpack(packed), array)


@pytest.mark.parametrize("dtype", ["int64", "float64", "uint32"])
def test_a_bias_with_borders_takes_its_nine_columns(tmp_path, dtype):
    array = np.abs(patterned(dtype))
    how = write(tmp_path / "bias.npy", array)
    assert how.startswith("9 columns of ")
    itemsize = np.dtype(how.split()[-1]).itemsize
    assert (tmp_path / "bias.npy").stat().st_size <= 9 * 4 * 5 * itemsize + 28 * 28 + 256
    assert tensors.load(tmp_path, "bias.npy").astype(dtype).tobytes() == array.tobytes()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(2, 30), st.lists(st.integers(1, 4), max_size=2), st.integers(0, 2**32 - 1), st.booleans())
def test_runs_come_back(count, run, lead, seed, real):
    values = np.random.default_rng(seed).integers(-(2**40), 2**40, (*lead, count)).astype(float if real else np.int64)
    array = np.repeat(values, run, axis=-1)
    packed = tensors.pack_runs(array)
    if packed is not None:  # where a few bytes of a record are worth it
        assert int(packed["run"]) % run == 0
        assert tensors.unpack_runs(packed).astype(array.dtype).tobytes() == array.tobytes()
        assert real or np.array_equal(guest_module("packed").unpack(packed), array)


def test_a_linear_layer_behind_a_global_average_takes_each_weight_once(tmp_path):
    weight = np.random.default_rng(0).integers(-128, 128, (10, 512)).repeat(16, axis=1)
    assert write(tmp_path / "w.npy", weight) == "runs of 16 int8"
    assert (tmp_path / "w.npy").stat().st_size <= 10 * 512 + 256
    np.testing.assert_array_equal(tensors.load(tmp_path, "w.npy"), weight)
    weight[3, 100] ^= 1
    assert write(tmp_path / "w.npy", weight) == "int8"


def test_negative_zeros_and_missing_values_are_kept(tmp_path):
    array = np.array([[-0.0, 0.0, np.nan]])[..., np.arange(1200).reshape(30, 40) % 3]
    assert write(tmp_path / "a.npy", array) == "3 columns of float32"
    assert tensors.load(tmp_path, "a.npy").astype(float).tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "array",
    [
        np.random.default_rng(0).integers(-(2**20), 2**20, (4, 28, 28)),  # every place differs
        np.arange(257, dtype=np.int64).repeat(8).reshape(1, 257, 8) * 1000,  # one column more than an index can name
        np.resize(np.arange(200), (20, 30)),  # an index as large as the values
        np.zeros((3, 0, 5), np.int64),
    ],
)
def test_what_would_not_be_smaller_stays_plain(tmp_path, array):
    assert "columns" not in write(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(tensors.load(tmp_path, "a.npy"), array)


def test_few_levels_are_preferred_where_they_are_smaller(tmp_path):
    weights = np.random.default_rng(0).choice([-1, 1], (64, 32, 3, 3))
    assert write(tmp_path / "w.npy", weights) == "packed 1 bit"
    weights[5, 2, 1, 1] = 0  # sign(0) = 0: a third level
    assert write(tmp_path / "w.npy", weights) == "packed 2 bit"
    np.testing.assert_array_equal(tensors.load(tmp_path, "w.npy"), weights)


def test_the_same_array_is_the_same_bytes(tmp_path):
    for name in ("a.npy", "b.npy"):
        write(tmp_path / name, patterned())
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def record(columns, index):
    columns, index = np.asarray(columns), np.asarray(index)
    made = np.zeros((), dtype=[("columns", columns.dtype, columns.shape), ("index", index.dtype, index.shape)])
    made["columns"], made["index"] = columns, index
    return made


MALFORMED = [
    (record(np.zeros((5, 9), np.int32), np.full((28, 28), 9, np.uint8)), "column 9 of 9"),
    (record(np.zeros((5, 9), np.int32), np.zeros((28, 28), np.int16)), "of an unknown kind"),
    (record(np.zeros((5, 9), np.int32), np.zeros(28, np.uint8)), "of an unknown kind"),
    (record(np.zeros((5, 9), "M8[s]"), np.zeros((28, 28), np.uint8)), "of an unknown kind"),
    (record(np.zeros((1 << 20, 1), np.int8), np.zeros((128, 128), np.uint8)), r"1048576.* 128"),
    (np.zeros((), dtype=[("index", "u1"), ("columns", "i4")]), "unknown"),
    (np.zeros(2, dtype=[("columns", "i4", (9,)), ("index", "u1", (2, 2))]), "unknown"),
    (np.zeros((), dtype=[("values", "i4", (9,)), ("run", "<i4")]), "9.* 0 times"),
    (np.zeros((), dtype=[("values", "i4", (9,)), ("run", "<i8")]), "unknown"),
    (np.zeros((), dtype=[("values", "i4"), ("run", "<i4")]), "unknown"),
]


@pytest.mark.parametrize(("made", "message"), MALFORMED)
def test_a_record_that_contradicts_itself_is_refused_by_both_readers(tmp_path, made, message):
    np.save(tmp_path / "a.npy", made)
    with pytest.raises(ValueError, match=message):
        tensors.load(tmp_path, "a.npy")
    with pytest.raises(ValueError, match=message):
        guest_module("packed").unpack(made)


@pytest.fixture(scope="module")
def compiled():
    """A normalised image under padding: the first bias differs along the borders."""
    options = {"in_channels": 1, "num_classes": 3, "mean": [0.3], "std": [0.4]}
    net = build_network("ottt_vgg", config=[4, "A"], input_size=[28, 28], **options).eval()
    return snncompile.compile(net, input_shape=(1, 28, 28), steps=2, input_range=(0, 255, 0))


def test_a_bundle_with_borders_reads_back_and_its_runner_reads_the_same(compiled, tmp_path):
    found = read_bundle(write_bundle(tmp_path / "net.snn", compiled))
    packed = {key: row for key, row in found.manifest["tensors"].items() if "columns" in row["stored"]}
    assert packed
    arrays, originals = to_text(found.graph)[1], to_text(compiled.result.graph)[1]
    assert all(np.array_equal(arrays[k], originals[k]) and arrays[k].dtype == originals[k].dtype for k in originals)
    plan = guest_module("plan").load_plan(found.plan_folder)
    for population, node in zip(plan.populations, compiled.result.graph.of(IntNeuron), strict=True):
        shape = (plan.steps, *population.shape)
        assert np.array_equal(np.broadcast_to(population.neuron.bias, shape), np.broadcast_to(node.bias, shape))


def test_two_bundles_of_one_program_are_the_same_bytes(compiled, tmp_path):
    one, two = (write_bundle(tmp_path / name, compiled) for name in ("one.zip", "two.zip"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("made", [made for made, _ in MALFORMED])
def test_a_malformed_tensor_with_a_right_hash_is_a_damaged_bundle(compiled, tmp_path, made):
    path = write_bundle(tmp_path / "net.snn", compiled)
    manifest = json.loads((path / "manifest.json").read_text())
    name = put(path, next(row["file"] for row in manifest["tensors"].values() if "columns" in row["stored"]), made)
    with pytest.raises(CompileError, match="SNN033"):
        read_bundle(path)
    module = guest_module("plan")
    with pytest.raises(module.PlanError, match=Path(name).name):
        module.load_plan(path / "lava")

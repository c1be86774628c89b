"""The Lava guest against a naive oracle, bit for bit: every payload and every membrane of every population, sample and step."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from fractions import Fraction

import lava_oracle as oracle
import lava_plans as plans
import numpy as np
import pytest

from snncompile.backends.lava.backend import run_plan
from snncompile.backends.lava.emit import LEARNING, RUNNER, runner_files, write_runner

LIMIT = 120.0
SEED = np.random.SeedSequence().entropy % 10**6  # new every session, printed when a test fails


def assert_same_bits(got, want, seed):
    for name, (payload, membrane) in want.items():
        for kind, a, b in (("payload", got[name].payload, payload), ("membrane", got[name].membrane, membrane)):
            assert a.shape == b.shape
            different = np.argwhere(np.asarray(a, np.int64) != b)
            if len(different):
                first = tuple(int(k) for k in different[0])
                raise AssertionError(
                    f"seed {seed}: {name} {kind} at {first} (sample, step, ...) is {a[first]}, not {b[first]}; {len(different)} differ"
                )


def check(make, tmp_path, guest, seed, **options):
    folder, inputs = make(tmp_path / "plan", seed)
    want = oracle.interpret(folder, inputs)
    got = run_plan(folder, inputs, timeout_s=LIMIT, interpreter=guest, **options)
    assert set(got) == set(want)
    assert_same_bits(got, want, seed)
    return got, want


@pytest.mark.parametrize(("seed", "fused"), [(1, False), (SEED, True)], ids=["built-in Dense", "fused"])
def test_every_fire_with_every_reset(tmp_path, guest, clean, seed, fused):
    got, want = check(plans.every_neuron, tmp_path, guest, seed, fused=fused)
    assert sum(len(np.unique(membrane)) > 10 for _, membrane in want.values()) >= 10, "the test lost its bite"
    assert got["n0"].payload.dtype == np.uint8
    assert got["n0"].membrane.dtype == np.int32


def test_convolutions_gathers_diagonals_exponents_and_skips(tmp_path, guest, clean):
    check(plans.convolutions, tmp_path, guest, SEED)


@pytest.mark.parametrize("interval", [2, 3])
def test_recurrent_loops_that_need_more_than_one_hardware_step(tmp_path, guest, clean, interval):
    seen = []
    options = {"progress": lambda done, of: seen.append((done, of)), "out": tmp_path / "kept"}
    got, _ = check(lambda folder, seed: plans.loop(folder, seed, interval, interval), tmp_path, guest, SEED, **options)
    last = interval * (4 * 5 - 1) + interval + 1  # the last update of the deepest population, counted from 1
    assert (seen[0], seen[-1]) == ((0, last), (last, last))
    assert got.seconds >= got.step_seconds > 0
    assert (tmp_path / "kept" / "r0.payload.npy").is_file()


def test_dense_is_exact_at_the_ends_of_eight_bits(tmp_path, guest, clean):
    """-128 and 127, all-positive and all-negative matrices, odd weights (which Lava would floor to even) and large signed payloads."""

    def make(folder, seed):
        b = plans.Builder(folder, seed)
        b.input("x", (6,))
        rows = {
            "ends": b.rng.choice([-128, 127], (5, 6)),
            "positive": b.rng.choice([1, 3, 127], (5, 6)),
            "negative": b.rng.choice([-1, -3, -128], (5, 6)),
        }
        rows |= {"nine_bits": b.rng.choice([-129, 128], (5, 6)), "one": np.ones((5, 6))}
        for k, (name, weight) in enumerate(rows.items()):
            b.population(
                name,
                (5,),
                1 + k % 3,
                [b.port("x", "linear", b.save(weight, np.int16), hop_delay=1 + k % 3)],
                fire="none",
                reset="keep",
                alpha=False,
            )
        return b.write(), b.data(2, -1000, 1000)

    check(make, tmp_path, guest, SEED)


def test_rounding_and_decay_on_every_small_number():
    neuron, x = guest_module("neuron"), np.arange(-70, 71)
    for bits in range(6):
        assert neuron.shift_half_even(x, np.full(x.shape, bits)).tolist() == [round(Fraction(int(k), 2**bits)) for k in x]
    state = neuron.NeuronState.__new__(neuron.NeuronState)
    state.bits = 3
    for q in range(9):
        assert state.decay(x, np.array([q])).tolist() == [int(Fraction(int(k) * q, 8)) for k in x]


def test_which_linear_ports_use_the_built_in_dense():
    plan, synapse = guest_module("plan"), guest_module("synapse")

    def port(weight, gather=None):
        return plan.Port("x", gather, "linear", np.asarray(weight), (1, 1), (0, 0, 0, 0), (1, 1), 1, 0, 0, 1, (2,))

    assert synapse.fits_builtin_dense(port([[127, -128]]), 1000)
    assert not synapse.fits_builtin_dense(port([[128, 0]]), 1)
    assert not synapse.fits_builtin_dense(port([[1, 1]], np.array([0, -1])), 1)
    assert synapse.fits_builtin_dense(port([[64, 64]]), (2**31 - 1) // 256)
    assert not synapse.fits_builtin_dense(port([[64, 64]]), (2**31 - 1) // 256 + 1)


def test_the_number_type_of_a_synapse_follows_its_bound():
    plan, synapse = guest_module("plan"), guest_module("synapse")

    def exact(payload, weight=1):
        port = plan.Port("x", None, "linear", np.array([[weight, -weight]]), (1, 1), (0, 0, 0, 0), (1, 1), 1, 0, 0, 1, (2,))
        return synapse.exact_dtype(port, payload, "here")

    assert exact(2**23 - 1) is np.float32
    assert exact(2**23) is np.float64
    assert exact(2**31, 2**21) is np.int64
    with pytest.raises(plan.PlanError, match="overflows 64 bits"):
        exact(2**31, 2**31)


def test_large_inputs_are_read_from_the_file_instead_of_a_ring_buffer(tmp_path, guest, clean):
    """70000 neurons x 61 hardware steps x 4 bytes are 17.1 MB, above the limit of RingBuffer."""
    b = plans.Builder(tmp_path / "plan", 3, steps=6)
    b.input("x", (1, 1, 70000))
    b.population("p", (3,), 1, [b.linear("x", 3)], fire="relu", scale=500)
    folder, inputs = b.write(), b.data(10)
    got = run_plan(folder, inputs, timeout_s=LIMIT, interpreter=guest)
    want = oracle.interpret(folder, {"x": inputs["x"][-1:]})
    assert np.array_equal(got["p"].payload[-1:], want["p"][0])
    assert np.array_equal(got["p"].membrane[-1:], want["p"][1])


def test_the_emitted_folder_runs_alone_and_says_what_it_did(tmp_path, guest, clean):
    folder, inputs = plans.loop(tmp_path / "bundle" / "lava", 4, 3, 2)
    write_runner(folder, learning=False)
    assert all((folder / name).read_bytes() == (RUNNER / name).read_bytes() for name in runner_files(learning=False))
    assert {p.name for p in RUNNER.rglob("*.py")} - {p.name for p in folder.rglob("*.py")} == set(LEARNING)
    moved = shutil.move(tmp_path / "bundle", tmp_path / "elsewhere")
    (tmp_path / "in").mkdir()
    for name, data in inputs.items():
        np.save(tmp_path / "in" / f"{name}.npy", data)
    command = [guest.path, "-B", f"{moved}/lava/run.py", "--inputs", tmp_path / "in", "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "4 samples x 5 steps, 60 hardware steps" in done.stdout
    assert "island" in done.stdout
    want = oracle.interpret(tmp_path / "elsewhere" / "lava", inputs)
    for name, (payload, membrane) in want.items():
        assert np.array_equal(np.load(tmp_path / "out" / f"{name}.payload.npy"), payload)
        assert np.array_equal(np.load(tmp_path / "out" / f"{name}.membrane.npy"), membrane)


def guest_module(name):
    """Import a module of the runner in this process (those without Lava are plain NumPy); it sets environment variables, we do not."""
    environment = dict(os.environ)
    sys.path.insert(0, str(RUNNER))
    try:
        return importlib.import_module(f"snn_processes.{name}")
    finally:
        sys.path.remove(str(RUNNER))
        os.environ.clear()
        os.environ.update(environment)

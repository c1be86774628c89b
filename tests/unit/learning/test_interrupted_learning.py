"""Commands that learn, ended from outside at any moment: nothing is lost or half written, and learning goes on where it stopped."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_learning_cli import CLASSES, DEEP, INPUTS, snn

from snncompile.backends.bundle import read_bundle

COMMAND = (sys.executable, "-c", "import sys; print('up', file=sys.stderr, flush=True); from snncompile.cli import main; main()")
SAMPLES = 240
EXPORT = (*DEEP, "--learn", "fc2,out", "--rule", "sltt", "--learning-rate", 0.2, "--no-lava", "--input-range", "0,255,1", "--headroom", 2)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """learner.snn, stream.npz, and what the whole stream teaches in one go: whole.snn."""
    path = tmp_path_factory.mktemp("interrupted")
    g = np.random.default_rng(0)
    centres, y = g.random((CLASSES, INPUTS)), g.integers(0, CLASSES, SAMPLES)
    np.savez(path / "stream.npz", x=np.clip(centres[y] * 200 + g.normal(0, 30, (SAMPLES, INPUTS)), 0, 255).astype(np.uint8), y=y)
    status, _, err = snn("export", *EXPORT, "-o", path / "learner.snn")
    assert status == 0, err
    status, _, err = snn("learn", path / "learner.snn", "--data", path / "stream.npz", "-o", path / "whole.snn")
    assert status == 0, err
    return path


def content(bundle: Path) -> dict[str, bytes]:
    """Every file of a bundle."""
    return {p.relative_to(bundle).as_posix(): p.read_bytes() for p in sorted(bundle.rglob("*")) if p.is_file()}


def listen() -> None:
    """A process started in the background of a script inherits that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ended(number: int, seconds: float, *arguments: object, said: str | None = None, wrote: Path | None = None) -> tuple[int, str, str]:
    """A command that gets a signal some time after its start, after it said or wrote something; its status, output and errors."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    child = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        preexec_fn=listen,  # noqa: PLW1509
    )  # fmt: skip
    with child:
        assert child.stderr is not None
        heard = ""
        while said is not None and said not in heard:
            line = child.stderr.readline()
            assert line, heard
            heard += line
        while wrote is not None and not wrote.exists() and child.poll() is None:
            time.sleep(0.01)
        time.sleep(seconds)
        child.send_signal(number)
        out, err = child.communicate(timeout=120)
    return child.returncode, out, heard + err


def same_learning(a: Path, b: Path) -> None:
    """Weights as they are loaded, and everything that learning needs to go on."""
    one, two = read_bundle(a), read_bundle(b)
    for x in one.learning.layers:
        np.testing.assert_array_equal(x.chip_weights(one.graph), x.chip_weights(two.graph))
    ours, theirs = one.learning_state, two.learning_state
    assert ours.samples == theirs.samples
    for name, array in ours.arrays().items():
        np.testing.assert_array_equal(array, theirs.arrays()[name], err_msg=name)


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM"), (signal.SIGHUP, 129, "ended by SIGHUP")],
)
def test_an_interrupted_stream_goes_on_bit_for_bit(here, tmp_path, number, status, word):
    learner, data, out = here / "learner.snn", here / "stream.npz", tmp_path / "learned.snn"
    before = content(learner)
    found, text, err = ended(number, 0.2, "learn", learner, "--data", data, "-o", out, "--json", said="learning on")
    assert found == status, err
    assert "Traceback" not in err
    partial = tmp_path / "learned.partial.snn"
    assert list(tmp_path.iterdir()) == [partial]
    assert content(learner) == before
    said = json.loads(text)
    assert said == {
        "ok": False, "interrupted": signal.Signals(number).name, "bundle": str(partial), "samples": said["samples"],
        "samples_of_the_file": said["samples"], "samples_in_all": said["samples"],
    }  # fmt: skip
    assert 0 < said["samples"] < SAMPLES
    assert f"{word} after {said['samples']} of {SAMPLES} samples" in err
    assert f"snncompile learn {partial} --data {data} --continue -o {out}" in err
    kept = content(partial)
    status, text, err = snn("learn", partial, "--data", data, "--continue", "-o", out, "--json")
    assert status == 0, err
    assert json.loads(text)["samples"] == SAMPLES - said["samples"]
    assert json.loads(text)["samples_in_all"] == SAMPLES
    assert content(partial) == kept
    same_learning(out, here / "whole.snn")


def test_the_remaining_samples_in_a_file_of_their_own_do_the_same(here, tmp_path):
    with np.load(here / "stream.npz") as stream:
        for name, part in (("a", slice(90)), ("b", slice(90, 91)), ("c", slice(91, None))):
            np.savez(tmp_path / f"{name}.npz", x=stream["x"][part], y=stream["y"][part])
    last = here / "learner.snn"
    for name in "abc":
        out = tmp_path / f"{name}.{'zip' if name == 'b' else 'snn'}"
        status, _, err = snn("learn", last, "--data", tmp_path / f"{name}.npz", "-o", out)
        assert status == 0, err
        last = out
    same_learning(last, here / "whole.snn")
    assert [row["samples"] for row in read_bundle(last).manifest["settings"]["learned"]] == [90, 1, 149]


def test_what_was_learned_is_saved_on_the_way(here, tmp_path):
    out, partial = tmp_path / "learned.snn", tmp_path / "learned.partial.snn"
    often, stream = ("--save-every", 0.005), ("--data", here / "stream.npz")
    found, _, err = ended(signal.SIGKILL, 0.0, "learn", here / "learner.snn", *stream, "-o", out, *often, wrote=partial)
    assert found == -signal.SIGKILL, err
    assert not out.exists()
    seen = read_bundle(partial).learning_state.samples
    assert 0 < seen < SAMPLES
    status, _, err = snn("learn", partial, *stream, "--continue", "-o", out, *often)
    assert status == 0, err
    same_learning(out, here / "whole.snn")
    assert read_bundle(partial).learning_state.samples == seen  # the bundle that was read stays
    status, _, err = snn("learn", here / "learner.snn", *stream, "-o", out, *often)
    assert status == 0, err
    same_learning(out, here / "whole.snn")
    assert list(tmp_path.iterdir()) == [out]  # and with it goes what was saved on the way, and what the killed run left


def test_an_interrupted_stream_does_not_touch_what_was_there(here, tmp_path):
    out = tmp_path / "learned.snn"
    shutil.copytree(here / "whole.snn", out)
    before = content(out)
    found, _, err = ended(signal.SIGINT, 0.2, "learn", here / "learner.snn", "--data", here / "stream.npz", "-o", out, said="learning on")
    assert found == 130, err
    assert content(out) == before
    partial = tmp_path / "learned.partial.snn"
    found, _, err = ended(signal.SIGINT, 0.1, "learn", partial, "--data", here / "stream.npz", "--continue", "-o", out, said="learning on")
    assert found == 130, err
    second = tmp_path / "learned.partial-2.snn"
    assert str(second) in err
    assert read_bundle(partial).learning_state.samples < read_bundle(second).learning_state.samples
    status, _, err = snn("learn", second, "--data", here / "stream.npz", "--continue", "-o", out)
    assert status == 0, err
    same_learning(out, here / "whole.snn")


def test_there_must_be_something_to_go_on_with(here, tmp_path):
    out = ("-o", tmp_path / "never.snn", "--data", here / "stream.npz", "--continue")
    for bundle, more, why in (
        ("learner.snn", (), "did not stop within"), ("whole.snn", (), f"has seen all {SAMPLES} samples"),
        ("whole.snn", ("--reload",), "begins anew with --reload"),
    ):  # fmt: skip
        status, _, err = snn("learn", here / bundle, *out, *more)
        assert status == 1
        assert "SNN817" in err
        assert why in err
    assert not list(tmp_path.iterdir())


def test_lava_begins_anew_or_not_at_all(here, tmp_path):
    with np.load(here / "stream.npz") as stream:
        np.savez(tmp_path / "few.npz", x=stream["x"][:2], y=stream["y"][:2])
    few = ("--data", tmp_path / "few.npz", "-o")
    status, _, err = snn("learn", here / "whole.snn", *few, tmp_path / "lava.snn", "--backend", "lava")
    assert status == 1
    assert "SNN816" in err
    for backend in ("lava", "reference"):
        status, out, err = snn("learn", here / "whole.snn", *few, tmp_path / f"{backend}.snn", "--backend", backend, "--reload", "--json")
        assert status == 0, err
        assert json.loads(out)["samples_in_all"] == 2
    lava, ours = read_bundle(tmp_path / "lava.snn"), read_bundle(tmp_path / "reference.snn")
    assert lava.learning_state is None
    for x in ours.learning.layers:
        np.testing.assert_array_equal(x.chip_weights(lava.graph), x.chip_weights(ours.graph))


def test_a_changed_state_is_a_damaged_bundle(here, tmp_path):
    edited = tmp_path / "edited.snn"
    shutil.copytree(here / "whole.snn", edited)
    manifest = json.loads((edited / "manifest.json").read_text())
    manifest["learning_state"]["samples"] = 7
    (edited / "manifest.json").write_text(json.dumps(manifest))
    status, _, err = snn("learn", edited, "--data", here / "stream.npz", "-o", tmp_path / "learned.snn")
    assert status == 1
    assert "SNN033" in err
    assert "state of learning is not what was written" in err


KILLS = {"SIGINT": 130, "SIGTERM": 143, "SIGKILL": -9}


@pytest.mark.slow
@pytest.mark.parametrize("name", KILLS)
@pytest.mark.parametrize("command", ["learn", "learn-zip", "export", "verify"])
def test_at_random_moments_nothing_is_lost_or_half_written(here, tmp_path, command, name):
    """``SNNCOMPILE_KILLS`` of them, 12 by default; from the start of the process on."""
    number, moments = getattr(signal, name), random.Random(f"{command} {name}")
    learner, data = here / "learner.snn", here / "stream.npz"
    out = tmp_path / ("out.zip" if command == "learn-zip" else "out.snn")
    commands = {
        "learn": ("learn", learner, "--data", data, "-o", out, "--save-every", 0.003),
        "learn-zip": ("learn", learner, "--data", data, "-o", out, "--save-every", 0.003),
        "export": ("export", *EXPORT, "--data", data, "-o", out),
        "verify": ("verify", learner, "--learning", "--data", data, "--no-lava"),
    }
    before = content(learner)
    started = time.monotonic()
    subprocess.run([*COMMAND, *map(str, commands[command])], capture_output=True, check=True)
    longest = time.monotonic() - started
    good = content(out) if out.is_dir() else {"": out.read_bytes()} if out.exists() else None
    seen = []
    for k in range(int(os.environ.get("SNNCOMPILE_KILLS", "12"))):
        if out.exists() and k % 2:
            shutil.rmtree(out) if out.is_dir() else out.unlink()
        seconds = moments.uniform(0, 1.1 * longest) if k else 0.3 * longest
        status, _, err = ended(number, seconds, *commands[command], said="up")  # Python itself has started
        seen.append(status)
        assert status in (0, KILLS[name], -number), (seconds, err)
        if status != -number and seconds > 0.5:  # later than Python's own start
            assert not re.search(r"Traceback|Exception ignored", err), (seconds, err)
        assert content(learner) == before
        names = {p.name for p in tmp_path.iterdir()}
        for path in (out, out.with_name(f"out.partial{out.suffix}")):
            if path.exists():
                read_bundle(path)
        if good is not None and out.exists():
            assert (content(out) if out.is_dir() else {"": out.read_bytes()}) == good
        stray = {n for n in names if n.startswith(".")}
        if number != signal.SIGKILL:
            assert not stray, (seconds, stray)
        for n in stray:
            assert not (tmp_path / n / "manifest.json").exists()
    assert KILLS[name] in seen
    subprocess.run([*COMMAND, *map(str, commands[command])], capture_output=True, check=True)
    assert not [p.name for p in tmp_path.iterdir() if p.name not in (out.name, f"out.partial{out.suffix}")]

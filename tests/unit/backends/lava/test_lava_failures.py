"""However a run fails: the right code, a sentence that helps, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import lava_plans as plans
import numpy as np
import pytest

from snncompile.backends.lava import backend
from snncompile.backends.lava.backend import run_plan
from snncompile.backends.lava.reaper import processes_of
from snncompile.errors import CompileError

LIMIT = 120.0


@pytest.fixture
def loop(tmp_path):
    return plans.loop(tmp_path / "plan", 7, 2, 2)


@pytest.fixture
def long_loop(tmp_path):
    folder, inputs = plans.loop(tmp_path / "plan", 7, 2, 2)
    return folder, {name: np.tile(data, (5000, 1, 1, 1, 1)) for name, data in inputs.items()}  # minutes, if nobody stops it


def sabotage(monkeypatch, tmp_path, statement):
    """Run a copy of the runner whose population r1 executes ``statement`` at sample 1, step 2."""
    copy = Path(shutil.copytree(backend.RUNNER, tmp_path / "runner"))
    path = copy / "snn_processes" / "population.py"
    text = path.read_text()
    marked = text.replace(
        "sample, t = slot\n", f"sample, t = slot\n        if self.population.name == 'r1' and slot == (1, 2):\n            {statement}\n"
    )
    assert marked != text
    path.write_text(marked)
    monkeypatch.setattr(backend, "RUNNER", copy)


def fails(code, folder, inputs, guest, *, timeout_s=LIMIT, **options):
    with pytest.raises(CompileError) as caught:
        run_plan(folder, inputs, timeout_s=timeout_s, interpreter=guest, **options)
    assert caught.value.code == code, caught.value
    assert all(d.help for d in caught.value.diagnostics)
    return caught.value


def test_an_exception_in_a_population_is_reported_with_its_traceback(loop, guest, clean, monkeypatch, tmp_path):
    sabotage(monkeypatch, tmp_path, "raise RuntimeError('boom')")
    error = fails("SNN505", *loop, guest)
    assert len(error.diagnostics) == 1
    assert error.diagnostics[0].message == "population 'r1': sample 1, step 2 (hardware step 16): RuntimeError: boom"
    assert any("population.py" in note for note in error.diagnostics[0].notes)


def test_a_population_that_hangs_ends_at_the_time_limit(loop, guest, clean, monkeypatch, tmp_path):
    sabotage(monkeypatch, tmp_path, "import time; time.sleep(1000)")
    started = time.monotonic()
    error = fails("SNN508", *loop, guest, timeout_s=8.0)
    assert time.monotonic() - started < 20
    assert "did not end within 8 s" in str(error)


def test_a_child_in_a_session_of_its_own_is_found_too(loop, guest, clean, monkeypatch, tmp_path):
    program = "['sleep', '1000']"
    sabotage(monkeypatch, tmp_path, f"import subprocess; subprocess.Popen({program}, start_new_session=True)")
    run_plan(*loop, timeout_s=LIMIT, interpreter=guest)  # succeeds; the fixture looks for the sleeper


@pytest.mark.parametrize("victim", ["population", "runner"])
def test_sigkill_of_a_guest_process_is_noticed_at_once(long_loop, guest, clean, victim):
    started = []

    def kill(done, of):
        if done and not started:
            started.append(time.monotonic())
            alive = processes_of(clean[-1])
            runner = next(p for p in alive if parent(p) == os.getpid())
            children = sorted(p for p in alive if parent(p) == runner)
            os.kill(runner if victim == "runner" else children[3], signal.SIGKILL)  # after tracker, memory manager and source

    error = fails("SNN507", *long_loop, guest, progress=kill)
    assert time.monotonic() - started[0] < 10
    assert ("killed by SIGKILL" if victim == "runner" else "was killed by signal 9") in str(error)


def test_ctrl_c_in_the_host_passes_through_and_cleans_up(long_loop, guest, clean):
    def interrupt(done, of):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(*long_loop, timeout_s=LIMIT, interpreter=guest, progress=interrupt)


HOST = """
import sys, numpy as np
from pathlib import Path
from snncompile.backends.lava.backend import run_plan
import snncompile.backends.lava.supervisor as supervisor
from snncompile.backends.lava.interpreter import LavaInterpreter
supervisor.secrets.token_hex = lambda n: sys.argv[4]
inputs = {p.stem: np.load(p) for p in Path(sys.argv[2]).glob("*.npy")}
run_plan(Path(sys.argv[1]), inputs, timeout_s=100, interpreter=LavaInterpreter(Path(sys.argv[3]), "", "", "", ""),
         progress=lambda done, of: print(done, flush=True))
"""


def test_sigkill_of_the_host_ends_the_guest(long_loop, guest, clean, tmp_path):
    folder, inputs = long_loop
    (tmp_path / "in").mkdir()
    for name, data in inputs.items():
        np.save(tmp_path / "in" / name, data)
    token = os.urandom(4).hex()
    clean.append(token)
    command = [sys.executable, "-c", HOST, folder, tmp_path / "in", guest.path, token]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        while (line := host.stdout.readline()).strip() in ("", "0"):
            assert line, "the host ended by itself"
        assert len(processes_of(token)) > 4
        host.kill()
    deadline = time.monotonic() + 10
    while processes_of(token) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes_of(token)


def test_a_membrane_that_leaves_its_range_is_an_error_not_a_wrap(guest, clean, tmp_path):
    b = plans.Builder(tmp_path / "plan", 1)
    b.input("x", (3,))
    neuron = {**b.neuron((2,), "none", "keep", alpha=False), "leak": None, "bias": None, "v_init": None}
    b.population("grows", (2,), 1, [b.port("x", "linear", b.save([[0, 0, 0], [10, 10, 10]]))], neuron)
    folder = b.write(membrane={"low": -60, "high": 60})
    ones = {"x": np.ones((1, 4, 3), np.int8)}
    error = fails("SNN506", folder, {"x": ones["x"].repeat(2, axis=0)}, guest)
    assert "population 'grows': sample 0, step 2 (hardware step 3): the membrane of neuron (1,) is 90, outside -60..60" in str(error)


def test_a_damaged_plan_is_refused_before_lava_starts(loop, guest, clean):
    folder, inputs = loop
    next(folder.glob("t*.npy")).write_bytes(b"\x93NUMPY broken")
    assert "is not a usable tensor" in str(fails("SNN503", folder, inputs, guest))
    (folder / "plan.json").write_text("{")
    assert "is damaged" in str(fails("SNN503", folder, inputs, guest))
    (folder / "plan.json").unlink()
    assert "cannot read" in str(fails("SNN503", folder, inputs, guest))


def edit(**changes):
    return lambda plan: plan.update(changes)


def edit_port(**changes):
    return lambda plan: plan["populations"][1]["ports"][0].update(changes)


def edit_neuron(**changes):
    return lambda plan: plan["populations"][1]["neuron"].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit(schema=1), "schema is 1, this runner reads 4"),
        (edit(steps=0), "steps is 0"),
        (edit(populations=[]), "no population"),
        (edit(outputs=["nobody"]), "not all populations"),
        (edit(membrane={"low": 1, "high": 2}), "does not hold 0"),
        (edit(inputs=[{"name": "../x", "shape": [1]}]), "cannot name a file"),
        (edit_port(hop_delay=2), "hop_delay is 2, depths and model_delay need 1"),
        (edit_port(source="nobody"), "no such source"),
        (edit_port(kind="sparse"), "unknown synapse kind"),
        (edit_port(weight="../../secret.npy"), "points out of the plan folder"),
        (edit_port(weight="missing.npy"), "cannot read missing.npy"),
        (edit_neuron(fire="sometimes"), "unknown fire"),
        (edit_neuron(fire="step", threshold=None, max_spikes=1), "need 'threshold'"),
        (edit_neuron(fire="relu", payload_max=2**30, max_spikes=1), "payload range is"),
        (lambda plan: plan["populations"][0].pop("neuron"), "lacks the field 'neuron'"),
        (lambda plan: plan["populations"].append(plan["populations"][0]), "same name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_plan_that_contradicts_itself_says_where(loop, change, message):
    from test_lava_bits import guest_module

    module, folder = guest_module("plan"), loop[0]
    plan = json.loads((folder / "plan.json").read_text())
    change(plan)
    (folder / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(module.PlanError, match=message):
        module.load_plan(folder)


def test_wrong_inputs_are_refused(loop, guest, clean):
    folder, inputs = loop
    x = inputs["x"]
    assert "'x' is missing" in str(fails("SNN504", folder, {}, guest))
    assert "'y' is not an input" in str(fails("SNN504", folder, {"x": x, "y": x}, guest))
    assert "float64, not integers" in str(fails("SNN504", folder, {"x": x * 0.5}, guest))
    assert "needs [samples, 1 or 5, 3, 2, 2]" in str(fails("SNN504", folder, {"x": x[:, :3]}, guest))
    assert "payloads end at" in str(fails("SNN504", folder, {"x": x.astype(np.int64) + 2**30}, guest))


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])

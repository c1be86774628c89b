"""The command line as a process of its own: start-up, output streams, signals, and the whole way through Lava."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from user_project import FOREIGN, snn

COMMAND = (sys.executable, "-c", "from snncompile.cli import main; main()")


def run(*arguments, **options):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize("arguments", [["--help"], ["export", "--help"], ["verify", "--help"]])
def test_help_does_not_wait_for_torch(arguments):
    script = f"import sys\nfrom snncompile.cli.app import cli\ntry: cli({arguments})\nexcept SystemExit: pass\nprint(sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    assert "'torch'" not in modules
    assert "'numpy'" not in modules
    assert "'rich'" not in modules


def test_the_whole_way_through_lava_and_back(here):
    done = run("export", "weights.pt", *FOREIGN, "--data", "data.npz", "--json", "-o", "net.zip")
    assert done.returncode == 0, done.stderr
    lava = json.loads(done.stdout)["verification"]["backend"]["lava"]
    assert (lava["differing_bits"], lava["samples"], lava["steps"], lava["populations"]) == (0, 8, 4, 2)
    on_lava, on_reference = (snn("run", "net.zip", "--data", "data.npz", "--backend", b, "--json") for b in ("lava", "reference"))
    assert (on_lava.status, on_reference.status) == (0, 0), on_lava.err
    assert on_lava.json["logits"] == on_reference.json["logits"]


@pytest.mark.parametrize("arguments", [["inspect", "net.snn"], ["run", "net.snn", "--data", "data.npz"]])
def test_a_bundle_is_used_without_torch(bundle, arguments):
    script = f"import sys\nfrom snncompile.cli.app import cli\ntry: cli({arguments})\nexcept SystemExit as e: print(e.code, 'torch' in sys.modules)"  # noqa: E501
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.endswith("0 False\n")


def test_a_reader_that_leaves_is_no_error(bundle):
    with subprocess.Popen([*COMMAND, "-q", "inspect", str(bundle)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline().startswith("graph")
        child.stdout.close()
        assert child.stderr.read() == ""


def listen():
    """A process started in the background of a script inherits that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_export_leaves_nothing(here, number, status):
    np.savez("many.npz", x=np.zeros((20000, 1, 4, 4), np.uint8))
    arguments = [*COMMAND, "export", "weights.pt", *FOREIGN, "--data", "many.npz", "--no-lava"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=listen) as child:  # noqa: PLW1509
        for line in child.stderr:
            if line.startswith("running the network"):
                break
        time.sleep(0.2)
        child.send_signal(number)
        rest = child.stderr.read()
    assert child.returncode == status, rest
    assert "Traceback" not in rest
    assert sorted(p.name for p in here.iterdir() if p.name != "__pycache__") == ["data.npz", "many.npz", "net.py", "weights.pt"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_end_waits_for_the_end_of_an_import_but_not_for_ever(tmp_path, number):
    (tmp_path / "slow.py").write_text("import time\nfor k in range(30): time.sleep(0.01)\ndone = True\n")
    (tmp_path / "stuck.py").write_text("import time\nfor k in range(3000): time.sleep(0.01)\n")
    script = (
        "import os, signal, sys, threading, time\nfrom snncompile import signals\nsignals.PATIENCE = 1.0\nname, number = sys.argv[1:]\n"
        "threading.Timer(0.1, os.kill, (os.getpid(), int(number))).start()\n"
        "try:\n  with signals.as_exceptions():\n    __import__(name)\n    time.sleep(20)\n"
        "except BaseException as e: print(type(e).__name__, hasattr(sys.modules.get(name), 'done'))"
    )
    word = "KeyboardInterrupt" if number == signal.SIGINT else "Terminated"
    for name, done in (("slow", True), ("stuck", False)):
        command = [sys.executable, "-c", script, name, str(int(number))]
        answer = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=15, preexec_fn=listen,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )  # fmt: skip
        assert answer.stdout == f"{word} {done}\n", answer.stderr

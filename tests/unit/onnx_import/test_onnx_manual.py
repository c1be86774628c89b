"""docs/onnx.md: its code runs, in order, and its tables are true."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path

import numpy as np

import snncompile.capture.onnx.fixed  # noqa: F401 - registers the operators
from snncompile.capture.onnx.node import OPERATORS

ROOT = Path(__file__).parents[3]
sys.path.append(str(ROOT / "tests" / "unit" / "cli"))
MANUAL = (ROOT / "docs" / "onnx.md").read_text()


def test_the_manuals_code_runs_from_the_export_to_the_chips_integers_on_onnx_runtime(tmp_path, monkeypatch, capsys):
    from user_project import snn

    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(python|)\n(.*?)```", MANUAL, flags=re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "", "", "python"]
    for kind, text in blocks:
        if kind == "python":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch says that its older exporter is old
                exec(compile(text, "docs/onnx.md", "exec"), {"__name__": "manual"})
        else:
            answer = snn(*text.split()[1:], *(["--no-lava"] if "export" in text else []))
            assert answer.status == 0, answer.err
    shown = capsys.readouterr().out
    np.savez("x.npz", x=np.random.default_rng(0).random((2, 8, 12)))
    predictions = snn("run", "net.snn", "--data", "x.npz", "--json").json["predictions"]
    assert str(np.array(predictions)) in shown


def test_the_manual_lists_the_operators_that_are_understood():
    listed = re.search(r"Operators that are understood: (.*?)\. Each", MANUAL, flags=re.DOTALL)[1].split()
    assert listed == sorted(OPERATORS)

"""docs/lava-dl.md and docs/checkpoints.md: their Python runs, then their commands do."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "cli"))
from user_project import snn

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", ["lava-dl.md", "checkpoints.md"])
def test_the_code_of_the_manual_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {"__name__": "manual"}
    ran = 0
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", (DOCS / name).read_text(), re.MULTILINE | re.DOTALL):
        if kind == "python":
            exec(compile(block, name, "exec"), space)
        for line in block.replace("\\\n", " ").splitlines() if kind == "" else []:
            if line.startswith("snncompile "):
                command = shlex.split(line)[1:]
                more = ["--no-lava"] if command[0] == "export" else []
                answer = snn("-q", *command, *more)
                assert answer.status == 0, (line, answer.err)
                ran += 1
    assert ran

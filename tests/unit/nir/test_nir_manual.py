"""docs/nir.md: its code runs, and its table says what the dialects are."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "cli"))
from user_project import snn

from snncompile.capture.nir import DIALECTS, KEYS, Conventions
from snncompile.capture.nir.conventions import UNLIMITED

MANUAL = Path(__file__).parents[3] / "docs" / "nir.md"
RESET = {"value": "to v_reset", "zero": "to 0", "subtract": "by subtraction", "none": "none"}


def test_the_code_of_the_manual_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {"__name__": "manual"}
    ran = 0
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", MANUAL.read_text(), re.MULTILINE | re.DOTALL):
        if kind == "python":
            exec(compile(block, "nir.md", "exec"), space)
        for line in block.splitlines() if kind == "" else []:
            command = shlex.split(line)[1:]
            answer = snn("-q", *command, *(["--no-lava"] if command[0] == "export" else []))
            assert answer.status == 0, (line, answer.err)
            ran += 1
    assert ran == 4


def _by_type(dialect, key, words):
    """``default; other for A, B``, in the words of the table."""
    base = words(getattr(dialect.conventions, key), "LIF")
    others: dict[str, list[str]] = {}
    for kind in dialect.by_type:
        value = words(dialect.value(key, kind), kind)
        if value != base:
            others.setdefault(value, []).append(kind)
    return "; ".join([base, *(f"{value} for {', '.join(kinds)}" for value, kinds in others.items())])


def _row(d):
    def factor(how, kind):
        r = "r" if d.value("r", kind) == "used" else "1"
        whole = {"scaled": "(1 - leak) r" if r == "r" else "1 - leak", "plain": r, "decayed": "leak r" if r == "r" else "leak"}
        return whole[how]

    def reset(how, kind):
        return RESET[how] + (", a step late" if d.value("reset_delay", kind) else "")

    dt = d.conventions.dt
    step = {1.0: "tau counts steps", "from-r": "solved from r"}.get(dt) or f"{dt:.0e} s".replace("e-0", "e-")
    many = d.conventions.max_spikes
    return [
        f"`{d.name}`", step + (", tau times 1e-3" if d.conventions.tau_unit == 1e3 else ""), d.conventions.decay,
        _by_type(d, "input", factor), {"gt": "`>`", "ge": "`>=`"}[d.conventions.compare], _by_type(d, "reset", reset),
        "unlimited" if many == UNLIMITED else str(many), _by_type(d, "min_v", lambda v, _: str(v)),
        _by_type(d, "v_init", lambda v, _: {"zero": "0"}.get(v, v)),
    ]  # fmt: skip


def test_the_table_of_the_manual_is_the_table_of_the_dialects():
    table = MANUAL.read_text().split("<!-- table -->")[1].split("<!-- end -->")[0].strip().splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert rows == [_row(d) for d in DIALECTS.values()]


def test_the_manual_names_every_key():
    text = MANUAL.read_text()
    assert [key for key in KEYS if f"`{key}`" not in text] == []
    assert Conventions().compare == "gt"

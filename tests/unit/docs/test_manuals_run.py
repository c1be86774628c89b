"""Every manual's code is run: Python as it stands, commands as they are written; what needs files of the reader is parsed."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "cli"))
from user_project import snn

from snncompile.cli.app import cli

ROOT = Path(__file__).parents[3]
MANUALS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("examples/*/README.md")])
WAYS_IN = {"pytorch.md": "--arch", "nir.md": ".nir", "onnx.md": ".onnx", "lava-dl.md": ".net", "checkpoints.md": "--trust-pickle"}


def blocks(path):
    """Kind and text of every code block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(block):
    """The command lines of ours in a block, as lists of words."""
    lines = [line.removeprefix("uv run ").strip() for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("snncompile ")]


def run(path, space):
    """All blocks of a manual in order; how many commands ran."""
    ran = 0
    for kind, block in blocks(path):
        if kind == "python":
            exec(compile(block, path.name, "exec"), space)
        for command in commands(block) if kind == "" else []:
            answer = snn("-q", *command, *(["--no-lava"] if command[0] == "export" else []))
            assert answer.status == 0, (command, answer.out, answer.err)
            ran += 1
    return ran


def test_there_is_a_page_for_every_way_in_and_the_readme_names_it():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, word in WAYS_IN.items():
        page = ROOT / "docs" / name
        assert f"docs/{name}" in readme
        assert word in page.read_text(encoding="utf-8")
        kinds = [kind for kind, _ in blocks(page)]
        assert "python" in kinds, "what the commands work on is made by the page itself"
        assert any(commands(block) for _, block in blocks(page))


def test_the_page_about_pytorch_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert run(ROOT / "docs" / "pytorch.md", {"__name__": "manual"}) == 5
    finally:
        sys.modules.pop("nets", None)
    assert "lif" in capsys.readouterr().out


def test_the_readmes_commands_for_ones_own_network_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "package").mkdir()
    tiny = (Path(__file__).parents[1] / "cli" / "tiny_net.py").read_text(encoding="utf-8")
    source = tiny.replace("x.flatten(1)", "x[..., ::7, ::7].flatten(1)")  # images of 28 x 28 to 16 numbers
    (tmp_path / "package" / "module.py").write_text(f"{source}\n\nfactory = Tiny\n", encoding="utf-8")
    try:
        from package.module import factory

        torch.save(factory(width=8).state_dict(), "weights.pt")
        np.savez("data.npz", x=np.random.default_rng(0).random((4, 1, 28, 28)), y=np.arange(4) % 3)
        section = next(b for b in blocks(ROOT / "README.md") if "--arch package.module:factory" in b[1])
        (command,) = commands(section[1])
        answer = snn("-q", *command, "--no-lava")
        assert answer.status == 0, answer.err
        (code,) = (text for kind, text in blocks(ROOT / "README.md") if kind == "python")
        exec(compile(code, "README.md", "exec"), {"model": factory(8), "__name__": "manual"})
    finally:
        for name in [n for n in sys.modules if n == "package" or n.startswith("package.")]:
            del sys.modules[name]
    assert "fc2_readout: 3 neurons" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_readmes_first_command_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (command,) = commands(blocks(ROOT / "README.md")[0][1])
    answer = snn("-q", *command, "-o", tmp_path / "model.snn")
    assert answer.status == 0, answer.err
    assert "99.61 %" in answer.out


@pytest.mark.parametrize("path", MANUALS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_in_a_manual_is_one_that_exists(path):
    for _, block in blocks(path):
        for words in commands(block):
            name, command = words[0], cli.commands.get(words[0])
            assert command is not None, f"{path.name} names the command '{name}'"
            try:
                command.make_context(name, words[1:], resilient_parsing=False)
            except click.exceptions.Exit:  # --help
                continue

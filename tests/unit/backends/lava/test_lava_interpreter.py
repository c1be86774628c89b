"""Choosing and building the guest interpreter."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from snncompile.backends.lava import interpreter, provision, pythons
from snncompile.backends.lava.interpreter import find_interpreter, probe
from snncompile.backends.lava.pythons import About
from snncompile.errors import CompileError


@pytest.fixture
def empty_machine(monkeypatch, tmp_path):
    """No network, no cache, no Python on PATH or in a version manager; uv itself is installed."""
    for name in ("SNNCOMPILE_LAVA_PYTHON", "PYENV_ROOT", "CONDA_PREFIX", "MAMBA_ROOT_PREFIX", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "pythons"))
    monkeypatch.setenv("SNNCOMPILE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_without_python_and_network_the_error_says_what_to_install(empty_machine):
    heard = []
    with pytest.raises(CompileError) as caught:
        find_interpreter(heard.append)
    assert caught.value.code == "SNN502"
    text = str(caught.value)
    assert "uv python install 3.10" in text
    assert "lava-nc==0.10.0" in text
    assert "SNNCOMPILE_LAVA_PYTHON=" in text
    assert heard
    assert [p.name for p in (empty_machine / "cache").iterdir()] == [provision.guest_folder().name + ".lock"], (
        "half an environment was left"
    )


def test_probe_builds_nothing(empty_machine):
    found = {c.source: c for c in probe()}
    assert found["SNNCOMPILE_LAVA_PYTHON"].status == "absent"
    assert found["environment prepared by uv"].status == "absent"
    assert found["uv"].status == "base"
    assert not (empty_machine / "cache").exists()


@pytest.mark.parametrize(("chosen", "why"), [("/nonexistent/python", "cannot be started"), (sys.executable, "no lava-nc")])
def test_a_wrong_choice_is_refused_and_nothing_else_is_tried(monkeypatch, chosen, why):
    monkeypatch.setenv("SNNCOMPILE_LAVA_PYTHON", chosen)
    with pytest.raises(CompileError, match=why) as caught:
        find_interpreter()
    assert caught.value.code == "SNN501"


def test_the_users_choice_comes_first(monkeypatch, guest, tmp_path):
    monkeypatch.setenv("SNNCOMPILE_CACHE", str(tmp_path))
    monkeypatch.setenv("SNNCOMPILE_LAVA_PYTHON", str(guest.path))
    chosen = find_interpreter()
    assert (chosen.path, chosen.lava, chosen.found) == (guest.path, "0.10.0", "SNNCOMPILE_LAVA_PYTHON")
    assert next(iter(probe())).status == "usable"


def test_an_interpreter_with_another_lava_is_not_used():
    assert "verified with 0.10.0 only" in interpreter._trouble(About(Path("p"), "3.10.1", "0.9.0", "1.26.4", ""))


def test_a_shim_that_fails_is_passed_over(empty_machine, monkeypatch):
    shims = empty_machine / "shims"
    shims.mkdir()
    (shims / "python3.10").write_text("#!/bin/sh\necho 'pyenv: python3.10: command not found' >&2\nexit 127\n")
    (shims / "python3.10").chmod(0o755)
    monkeypatch.setenv("PATH", str(shims))
    assert (shims / "python3.10", f"PATH ({shims})") in list(pythons.candidates())
    assert shims / "python3.10" not in [about.executable for about, _ in pythons.pythons()]


@pytest.fixture
def fake_build(monkeypatch, tmp_path):
    """Provisioning without uv: counts the builds."""
    built = []

    def create(uv, draft, progress):
        built.append(draft)
        time.sleep(0.3)
        (draft / "bin").mkdir()
        (draft / "bin" / "python").touch()

    monkeypatch.setenv("SNNCOMPILE_CACHE", str(tmp_path))
    monkeypatch.setattr(provision, "_create", create)
    monkeypatch.setattr(provision, "_uv", lambda *a: [])
    monkeypatch.setattr(provision, "ask", lambda python, lava: About(python, "3.10.13", "0.10.0", "1.26.4", ""))
    return built


def test_two_at_once_build_once(fake_build):
    heard, results = [], []
    threads = [threading.Thread(target=lambda: results.append(provision.provision(heard.append))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fake_build) == 1
    assert results[0] == results[1]
    assert any("waiting for another" in line for line in heard)


def test_a_killed_build_is_cleared_away_and_repeated(fake_build, tmp_path):
    stale = tmp_path / (provision.guest_folder().name + ".tmp-dead")
    stale.mkdir()
    provision.guest_folder().mkdir()  # without a stamp: not finished
    assert provision.provisioned() is None
    provision.provision(lambda _: None)
    assert not stale.exists()
    assert provision.provisioned() is not None


def test_a_failed_install_leaves_no_environment(fake_build, monkeypatch, tmp_path):
    monkeypatch.setattr(provision, "_uv", lambda *a: ["no such package"])
    with pytest.raises(CompileError, match="no such package"):
        provision.provision(lambda _: None)
    assert not provision.guest_folder().exists()
    assert not list(tmp_path.glob("*.tmp-*"))

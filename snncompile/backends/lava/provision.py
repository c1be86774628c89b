"""Build the guest's environment with uv: Python 3.10, lava-nc 0.10.0 and what it needs, every version pinned."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from snncompile.backends.lava.pythons import PYTHON, About, ask, clean_environment, pythons
from snncompile.errors import fail

LAVA = "0.10.0"
# Resolved once for Python 3.10 and pinned, so that the same program meets the same guest everywhere.
REQUIREMENTS = (
    "asteval==0.9.33",
    "cloudpickle==3.1.2",
    "joblib==1.6.0",
    f"lava-nc=={LAVA}",
    "networkx==2.8.7",
    "numpy==1.26.4",
    "scikit-learn==1.7.2",
    "scipy==1.15.3",
    "threadpoolctl==3.8.0",
)
UV_SECONDS = 900.0
STAMP = "snncompile-guest.json"

Progress = Callable[[str], None]


def cache_folder() -> Path:
    """Return SNNCOMPILE_CACHE, else snncompile/ in XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get("SNNCOMPILE_CACHE"):
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "snncompile"


def guest_folder() -> Path:
    """Return the folder of the provisioned environment; its name changes with the pinned versions."""
    digest = hashlib.sha256("\n".join((PYTHON, *REQUIREMENTS)).encode()).hexdigest()[:8]
    return cache_folder() / f"lava-guest-{digest}"


def provisioned() -> About | None:
    """Return the finished environment, or None; trusts the stamp that was written after it had imported lava once."""
    folder = guest_folder()
    python = folder / "bin" / "python"
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        return About(python, stamp["python"], stamp["lava"], stamp["numpy"], "") if python.exists() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def uv_binary() -> Path | None:
    """Return uv: the one installed with this package, else the one on PATH."""
    with contextlib.suppress(ImportError, FileNotFoundError):
        from uv import find_uv_bin  # noqa: PLC0415

        return Path(find_uv_bin())
    found = shutil.which("uv")
    return Path(found) if found else None


def provision(progress: Progress) -> About:
    """Return the environment, building it when it is missing. Safe against a second process doing the same; atomic.

    Errors  SNN502 uv, Python 3.10 or the packages cannot be had; says what to install
    """
    if done := provisioned():
        return done
    uv = uv_binary()
    if uv is None:
        raise unavailable("uv is not installed", [])
    folder = guest_folder()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.with_name(folder.name + ".lock"), progress):
            return provisioned() or _build(uv, folder, progress)
    except OSError as error:
        raise unavailable(f"cannot write to {folder.parent}", [str(error)]) from error


def _build(uv: Path, folder: Path, progress: Progress) -> About:
    for stale in folder.parent.glob(folder.name + ".tmp-*"):  # left by a killed build; nobody else holds the lock
        shutil.rmtree(stale, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    draft = Path(tempfile.mkdtemp(prefix=folder.name + ".tmp-", dir=folder.parent))
    try:
        _create(uv, draft, progress)
        progress(f"installing lava-nc {LAVA} and {len(REQUIREMENTS) - 1} pinned packages")
        python = draft / "bin" / "python"
        failure = _uv(uv, "pip", "install", "--python", str(python), "--only-binary", ":all:", "--no-deps", *REQUIREMENTS)
        if failure:
            raise unavailable(f"lava-nc {LAVA} cannot be installed", failure)
        about = ask(python, lava=True)
        if isinstance(about, str) or about.error:
            raise unavailable(f"lava-nc {LAVA} was installed but does not import", [about if isinstance(about, str) else about.error])
        (draft / STAMP).write_text(json.dumps({"python": about.python, "lava": about.lava, "numpy": about.numpy}), encoding="utf-8")
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    progress(f"Lava environment ready in {time.monotonic() - started:.1f} s: {folder}")
    return About(folder / "bin" / "python", about.python, about.lava, about.numpy, "")


def _create(uv: Path, draft: Path, progress: Progress) -> None:
    """Make an empty environment on a Python 3.10: managed by uv, found on this machine, or downloaded by uv."""
    venv = ("venv", "--clear", "--no-project", "--python")
    if not _uv(uv, *venv, PYTHON, "--managed-python", "--no-python-downloads", str(draft)):
        progress(f"using the Python {PYTHON} managed by uv")
        return
    failure: list[str] = []
    for about, where in pythons():
        failure = _uv(uv, *venv, str(about.executable), "--no-python-downloads", str(draft))
        if not failure:
            progress(f"using Python {about.python} from {where}")
            return
    progress(f"no Python {PYTHON} on this machine, downloading one with uv")
    missing = _uv(uv, *venv, PYTHON, "--managed-python", str(draft))
    if missing:
        raise unavailable(f"there is no Python {PYTHON} on this machine and uv could not download one", failure + missing)


def _uv(uv: Path, *arguments: str) -> list[str]:
    """Run uv; return nothing on success, else the last lines it printed."""
    env = {k: v for k, v in clean_environment().items() if k not in ("UV_PYTHON", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_PROJECT_ENVIRONMENT")}
    command = [str(uv), *arguments]
    try:  # away from any project, whose settings uv would obey
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env=env,
            cwd=tempfile.gettempdir(),
            timeout=UV_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return [f"uv {arguments[0]} did not end within {UV_SECONDS:g} s"]
    return [] if done.returncode == 0 else [line.strip() for line in done.stderr.splitlines() if line.strip()][-4:] or ["uv failed"]


@contextlib.contextmanager
def _lock(path: Path, progress: Progress) -> Iterator[None]:
    """Hold an exclusive lock that the system releases even if this process is killed."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another snncompile that is preparing the Lava environment")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def unavailable(reason: str, notes: list[str]) -> Exception:
    """Build SNN502: what is missing, and the three ways to get it."""
    return fail(
        "SNN502",
        f"no Python with Lava, and none could be prepared: {reason}",
        notes=[*notes, f"looked for Python {PYTHON} with uv, on PATH, in pyenv and conda; host is Python {sys.version.split()[0]}"],
        help=f"with network: uv python install {PYTHON}, then snncompile doctor; "
        f"without: on any machine with Python {PYTHON}: python{PYTHON} -m venv lava && lava/bin/pip install {' '.join(REQUIREMENTS)}, "
        "then set SNNCOMPILE_LAVA_PYTHON=lava/bin/python",
    )

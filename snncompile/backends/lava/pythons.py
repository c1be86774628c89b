"""Find Python 3.10 executables on this machine, and ask an interpreter what it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PYTHON = "3.10"
PROBE_SECONDS = 60.0

_SCRIPT = """
import json, sys
about = {"executable": sys.executable, "python": "%d.%d.%d" % sys.version_info[:3], "lava": "", "numpy": "", "error": ""}
if len(sys.argv) > 1:
    try:
        from importlib.metadata import version
        about["lava"], about["numpy"] = version("lava-nc"), version("numpy")
        import lava.magma.core.process.process, lava.proc.dense.models
    except Exception as error:
        about["error"] = "%s: %s" % (type(error).__name__, error)
print(json.dumps(about))
"""


@dataclass(frozen=True)
class About:
    """What an interpreter says of itself; ``error`` is empty when everything asked for could be imported."""

    executable: Path
    python: str
    lava: str
    numpy: str
    error: str


def clean_environment() -> dict[str, str]:
    """Return the environment without what belongs to the host's own Python."""
    drop = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONWARNINGS", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    return {k: v for k, v in os.environ.items() if k not in drop}


def ask(python: Path, *, lava: bool) -> About | str:
    """Run ``python``; with ``lava``, import lava too. Return its answer, or a sentence that says why there is none."""
    command = [str(python), "-c", _SCRIPT, *(["lava"] if lava else [])]
    env = clean_environment() | {"OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env=env,
            cwd=tempfile.gettempdir(),
            timeout=PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"did not answer within {PROBE_SECONDS:g} s"
    except OSError as error:
        return f"cannot be started: {error.strerror or error}"
    try:
        about = json.loads(done.stdout.strip().splitlines()[-1])
        return About(Path(about["executable"]), about["python"], about["lava"], about["numpy"], about["error"])
    except (ValueError, IndexError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        return f"does not work (exit status {done.returncode}): {last}"


def candidates() -> Iterator[tuple[Path, str]]:
    """Yield paths that may be a Python 3.10 and where each was found; not run yet, may be shims that fail."""
    if sys.version_info[:2] == (3, 10):
        yield Path(sys.executable), "the current interpreter"
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if folder:
            yield Path(folder) / f"python{PYTHON}", f"PATH ({folder})"
    home = Path.home()
    for root in dict.fromkeys((Path(os.environ.get("PYENV_ROOT") or home / ".pyenv"), home / ".pyenv")):
        for version in sorted((root / "versions").glob(f"{PYTHON}*"), reverse=True):
            yield version / "bin" / "python", f"pyenv ({version})"
    conda = [os.environ.get("CONDA_PREFIX"), os.environ.get("MAMBA_ROOT_PREFIX"), "/opt/conda"]
    conda += [str(home / name) for name in ("miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba", ".conda")]
    for root in dict.fromkeys(Path(c) for c in conda if c):
        for prefix in (root, *sorted(root.glob("envs/*"))):
            yield prefix / "bin" / f"python{PYTHON}", f"conda ({prefix})"


def pythons() -> Iterator[tuple[About, str]]:
    """Yield the working Python 3.10 interpreters, each once."""
    seen: set[Path] = set()
    for path, where in candidates():
        if not path.is_file() or not os.access(path, os.X_OK):
            continue
        about = ask(path, lava=False)
        if isinstance(about, About) and about.python.startswith(f"{PYTHON}.") and about.executable.resolve() not in seen:
            seen.add(about.executable.resolve())
            yield about, where

"""Weights from files: reading PyTorch files without running what is in them, state dicts, and fitting them to a network."""

from __future__ import annotations

import contextlib
import difflib
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from snncompile.capture.user_code import blame, first_line, importable, kind_of
from snncompile.errors import fail
from snncompile.files import BAD_ZIP, check_file
from snncompile.online import is_checkpoint
from snncompile.online.checkpoint import checkpoint_from

ENTRIES = ("best_net", "best_model", "best_state_dict", "state_dict", "model_state_dict", "net", "model", "network", "params", "weights")
PREFIXES = ("module.", "_orig_mod.")
SHOWN = 8
SAVE_HINT = "save the network with torch.save(model.state_dict(), ...)"


def read_file(path: Path) -> bytes:
    """All bytes of a file that must exist (SNN001, SNN002, SNN003)."""
    check_file(path)
    try:
        return path.read_bytes()
    except OSError as e:
        raise fail("SNN003", f"cannot read {path}: {e.strerror}") from e


def unpickle(path: Path, raw: bytes, trust_pickle: bool) -> object:
    """The object in a PyTorch file; only tensors and plain values unless ``trust_pickle``."""
    if reason := _no_checkpoint(path, raw):
        raise fail("SNN004", f"{path} is not a PyTorch checkpoint: {reason[0]}", help=reason[1])
    try:
        with importable(Path.cwd()), _quiet():
            return torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    except Exception as e:
        text = str(e)
        if not trust_pickle and isinstance(e, pickle.UnpicklingError) and (match := re.search(r"GLOBAL:? `?([\w.]+)", text)):
            raise fail(
                "SNN005",
                f"{path} holds a pickled object ('{match[1]}'), and loading it would run code from the file",
                notes=["a pickle can do anything that you can do; plain tensors cannot"],
                help="save the state dict instead: torch.save(model.state_dict(), ...) and give --arch package.module:factory; "
                "or add --trust-pickle if you trust whoever made this file",
            ) from e
        if trust_pickle and isinstance(e, (ImportError, AttributeError)):
            way_out = "run from the folder that holds the network's source, or install it"
            raise fail("SNN131", f"unpickling {path} failed: {first_line(e)}", loc=blame(e), help=way_out) from e
        if not raw.startswith(b"PK"):
            message = f"{path} is not a PyTorch checkpoint: it is damaged, or a pickle that torch.save did not write"
            raise fail("SNN004", message, help=SAVE_HINT) from e
        cause = re.search(r"WeightsUnpickler error: (.*)", text)
        notes = [cause[1] if cause else first_line(e)]
        raise fail("SNN004", f"{path} is not a PyTorch checkpoint: it is truncated or damaged", notes=notes) from e


def _no_checkpoint(path: Path, raw: bytes) -> tuple[str, str | None] | None:
    """Why the bytes cannot be a PyTorch file, and what to do; None if they may be one."""
    if not raw:
        return "it is empty", "copy or save it again"
    if raw.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except BAD_ZIP:
            return "it is truncated or damaged", "copy or save it again"
        if any(n.endswith("constants.pkl") for n in names):
            return "it is a TorchScript archive", "save the state dict of the original module: torch.save(model.state_dict(), ...)"
        if any(n.endswith("data.pkl") for n in names):
            return None
        if "manifest.json" in names:
            return "it is a zip archive with a manifest.json, perhaps a bundle", "use snncompile verify, run or inspect on bundles"
        if names and all(n.endswith(".npy") for n in names):
            return "it is a NumPy archive", "give data with --data"
        return f"it is a zip archive of something else ({', '.join(names[:3]) or 'nothing'})", None
    if raw.startswith(b"\x89HDF"):
        return "it is an HDF5 file", "NIR files have names that end in .nir, lava-dl's in .net"
    if path.suffix == ".safetensors":
        return "it is a safetensors file, which this version does not read", "save it with torch.save, as a state dict"
    if raw[:1] in (b"\x80", b"\x8a") or (raw[:512].count(b"\0") and b"ustar" in raw[:512]):
        return None
    try:
        raw[:4096].decode()
    except UnicodeDecodeError:
        return "its content is of no known kind", None
    return "it is a text file", "give Python files with --arch path/to/file.py:factory" if path.suffix == ".py" else None


def state_dict_in(content: object, path: Path) -> tuple[str, dict[str, Tensor]]:
    """Weights by name, prefixes stripped, and the entry of a nested checkpoint that they came from (empty if none)."""
    if not isinstance(content, Mapping):
        raise fail("SNN137", f"{path} holds no weights but {kind_of(content)}", help=SAVE_HINT)
    if is_checkpoint(content):
        return "state_dict", checkpoint_from(content, str(path)).state_dict
    if _is_state(content):
        return "", _stripped(content)
    entries = [str(k) for k, v in content.items() if _is_state(v)]
    known = [k for k in ENTRIES if k in entries]
    if not known and len(entries) != 1:
        notes = [f"its entries are {', '.join(f'{k} ({type(v).__name__})' for k, v in list(content.items())[:SHOWN]) or 'none'}"]
        raise fail("SNN137", f"{path} holds no state dict", notes=notes, help=f"store the weights under one of {', '.join(ENTRIES[:6])}...")
    entry = (known or entries)[0]
    return entry, _stripped(content[entry])


def _is_state(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def _stripped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    result = dict(state)
    while prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in result)), None):
        result = {k[len(prefix) :]: v for k, v in result.items()}
    return result


def fit(model: nn.Module, state: Mapping[str, Tensor], source: str, arch: str) -> None:
    """Load the weights, all of them and nothing else (SNN136 with a diff)."""
    wanted = {k: list(v.shape) for k, v in model.state_dict().items()}
    found = {k: list(v.shape) for k, v in state.items()}
    missing, extra = [k for k in wanted if k not in found], [k for k in found if k not in wanted]
    shapes = [k for k in wanted if k in found and wanted[k] != found[k]]
    notes = _listed("missing", [f"{k} {wanted[k]}{_near(k, extra)}" for k in missing])
    notes += _listed("unexpected", [f"{k} {found[k]}{_near(k, missing)}" for k in extra])
    notes += _listed("wrong shape", [f"{k} is {found[k]}, the network needs {wanted[k]}" for k in shapes])
    kinds = [(k, odd) for k, v in model.state_dict().items() if k in state and (odd := _odd(state[k], v))]
    notes += _listed("of another kind", [f"{k} is {odd}" for k, odd in kinds])
    if notes:
        other = f", {len(kinds)} of another kind" if kinds else ""
        count = f"{len(missing)} missing, {len(extra)} unexpected, {len(shapes)} of another shape{other}"
        way_out = "check --arch and --arch-args against the network that was trained"
        raise fail("SNN136", f"the weights in {source} do not fit '{arch}': {count}", notes=notes, help=way_out)
    model.load_state_dict(dict(state))


def _odd(found: Tensor, wanted: Tensor) -> str | None:
    """Why a tensor's values would be lost in another: no plain tensor, or of a type that holds what the other cannot."""
    if found.is_quantized:
        return "quantised: its integers have a scale of their own"
    if found.layout != torch.strided or found.is_meta:
        return "sparse" if found.layout != torch.strided else "without values"
    if found.dtype != wanted.dtype and not torch.can_cast(found.dtype, wanted.dtype) and not _whole(found, wanted.dtype):
        return f"{str(found.dtype).removeprefix('torch.')}, the network needs {str(wanted.dtype).removeprefix('torch.')}"
    return None


def _whole(found: Tensor, dtype: torch.dtype) -> bool:
    """Whether floats are numbers that another type holds, too, such as a count of batches that went through an average."""
    return found.is_floating_point() and torch.equal(found.to(dtype).double(), found.double())


def _listed(label: str, rows: list[str]) -> list[str]:
    more = [f"{label}: ... and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    return [f"{label}: {row}" for row in rows[:SHOWN]] + more


def _near(name: str, others: list[str]) -> str:
    near = difflib.get_close_matches(name, others, n=1, cutoff=0.7)
    return f" (like {near[0]}?)" if near else ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of torch.load about the file's age: it is checked and explained here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


__all__ = ["fit", "read_file", "state_dict_in", "unpickle"]

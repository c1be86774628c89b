"""Checkpoints: a plain dictionary of tensors and builtins that names its architecture and loads without running any code."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snncompile.errors import fail
from snncompile.online.registry import build_network

FORMAT = "snncompile-checkpoint"
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A trained network and everything needed to run it faithfully.

    arch, arch_args   registered network and the keyword arguments of its factory
    method            training method, e.g. "OTTT_A"
    steps             T, time steps per sample
    input             shape [C,H,W], dtype, low and high of a pixel, layout ("step": one image per time step, the same one at every step;
                      "TB": all steps in one call, time first)
    readout           "sum" or "mean": the decision is the argmax of the logits summed or averaged over t
    classes           number of classes
    training          facts about the training: data set, epochs, accuracy, seed, command...
    state_dict        parameters by name
    """

    arch: str
    arch_args: dict[str, Any]
    method: str
    steps: int
    input: dict[str, Any]
    readout: str
    classes: int
    training: dict[str, Any]
    state_dict: dict[str, Tensor] = field(repr=False)

    def build(self) -> nn.Module:
        """The network with its weights, in eval mode (SNN701, SNN702 no such network; SNN712 the weights do not fit it)."""
        net = build_network(self.arch, **self.arch_args)
        wanted = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
        found = {name: list(tensor.shape) for name, tensor in self.state_dict.items()}
        notes = [f"missing: {name} {wanted[name]}" for name in wanted if name not in found]
        notes += [f"unexpected: {name} {found[name]}" for name in found if name not in wanted]
        notes += [
            f"wrong shape: {name} is {found[name]}, the network needs {wanted[name]}"
            for name in wanted
            if name in found and found[name] != wanted[name]
        ]
        if notes:
            way_out = "check 'arch' and 'arch_args' of the checkpoint against the network that was trained"
            raise fail("SNN712", f"the weights do not fit the network {self.arch!r}", notes=notes, help=way_out)
        net.load_state_dict(self.state_dict)
        return net.eval()


_KINDS: dict[str, type] = {
    "arch": str, "arch_args": dict, "method": str, "steps": int, "input": dict,
    "readout": str, "classes": int, "training": dict, "state_dict": dict,
}  # fmt: skip


def is_checkpoint(obj: object) -> bool:
    """Whether a loaded object is (or claims to be) a checkpoint of this format, of any version."""
    return isinstance(obj, Mapping) and obj.get("format") == FORMAT


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write the checkpoint; the file at ``path`` is replaced whole or not at all."""
    target = Path(path)
    content: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    content |= {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}
    content["state_dict"] = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in checkpoint.state_dict.items()
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(content, file)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint onto the CPU; no code in the file is run.

    Errors   SNN710 the file is absent or no PyTorch file of plain values; SNN711 it is no checkpoint of this format and version
    """
    try:
        obj = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise fail("SNN710", f"cannot read the checkpoint {os.fspath(path)}", notes=[reason]) from error
    return checkpoint_from(obj, os.fspath(path))


def checkpoint_from(obj: object, name: str = "the file") -> Checkpoint:
    """Check a loaded dictionary field by field and return it typed (SNN711)."""
    if not isinstance(obj, Mapping) or not is_checkpoint(obj):
        raise fail("SNN711", f"{name} is no {FORMAT}", help="a bare state dict needs the network's own code: --arch package.module:factory")
    if obj.get("version") != VERSION:
        raise fail("SNN711", f"{name} is of version {obj.get('version')!r}, this release reads version {VERSION}")
    notes = [
        f"{key}: missing" if key not in obj else f"{key}: {type(obj[key]).__name__} instead of {kind.__name__}"
        for key, kind in _KINDS.items()
        if not isinstance(obj.get(key), kind) or isinstance(obj[key], bool)
    ]
    if not notes and any(not isinstance(tensor, Tensor) for tensor in obj["state_dict"].values()):
        notes.append("state_dict: holds something other than tensors")
    if not notes and obj["steps"] < 1:
        notes.append(f"steps: {obj['steps']}, must be at least 1")
    if not notes and obj["readout"] not in ("sum", "mean"):
        notes.append(f"readout: {obj['readout']!r}, this release knows sum and mean")
    if notes:
        raise fail("SNN711", f"{name} is an incomplete {FORMAT}", notes=notes)
    return Checkpoint(**{key: obj[key] for key in _KINDS})

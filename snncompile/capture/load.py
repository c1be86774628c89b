"""Models from files: a training-kit checkpoint, a state dict with the user's own factory, a factory alone, or a trusted pickle.

No code in a file is run unless ``trust_pickle`` says so. Everything that can be wrong with a user's file or factory has a code:

    SNN001 no such file        SNN002 not a file          SNN003 unreadable       SNN004 not a checkpoint
    SNN005 refused pickle      SNN006 shape or steps unknown                      SNN008 arguments that are no JSON object
    SNN130 malformed --arch    SNN131 import failed       SNN132 no such name     SNN133 not callable
    SNN134 factory failed      SNN135 not a module        SNN136 weights do not fit
    SNN137 no weights in file  SNN138 --arch is missing   SNN139 nothing to load
    SNN160 to SNN168 NIR files: see ``snncompile.capture.nir``
    SNN170 to SNN177 ONNX files: see ``snncompile.capture.onnx``
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from snncompile.capture.driver import LAYOUTS, Layout
from snncompile.capture.factory import build
from snncompile.capture.nir import Imported, import_nir
from snncompile.capture.weights import fit, read_file, state_dict_in, unpickle
from snncompile.errors import fail
from snncompile.ir.graph import Readout
from snncompile.ir.linear_ops import Input
from snncompile.online import is_checkpoint
from snncompile.online.checkpoint import checkpoint_from
from snncompile.online.official import suggestion, translate

UNSTABLE_FACTS = ("history", "seconds", "command")
WEIGHT_HINT = "a state dict needs the network's own code: --arch package.module:factory"


@dataclass(frozen=True)
class LoadedModel:
    """A network ready to compile, and all that its file says about how to run it.

    input_shape   of one sample at one step, without batch and time axes
    input_range   (low, high, grid) of the raw input if the file knows it, e.g. (0, 255, 1)
    facts         plain values for people: kind, file, bytes, arch, training...
    """

    model: nn.Module
    name: str
    input_shape: Any
    steps: int
    layout: Layout
    input_range: tuple[float, float, float] | None
    readout: Readout
    facts: dict[str, Any] = field(default_factory=dict)
    source_sha256: str | None = None


@dataclass(frozen=True)
class LoadedGraph:
    """A network that a file holds as a graph, with no code to run: what ``LoadedModel`` has, but ``imported`` in place of ``model``."""

    imported: Imported
    name: str
    input_shape: Any
    steps: int
    input_range: tuple[float, float, float] | None
    readout: Readout = "sum"
    facts: dict[str, Any] = field(default_factory=dict)
    source_sha256: str | None = None
    layout: Layout = "step"


def load_model(
    path: Path | None = None,
    *,
    arch: str | None = None,
    arch_args: dict[str, Any] | None = None,
    trust_pickle: bool = False,
    input_shape: Any = None,
    steps: int | None = None,
    layout: Layout | None = None,
    states: Sequence[str] = (),
    nir_dialect: str | None = None,
    nir_set: Sequence[str] = (),
) -> LoadedModel | LoadedGraph:
    """Load a model; what the caller gives overrides what the file says. Errors: see the module.

    states                of an ONNX file, each ``IN=OUT``
    nir_dialect, nir_set  of a NIR file, see ``snncompile.capture.nir``
    """
    if layout is not None and layout not in LAYOUTS:
        raise fail("SNN006", f"the layout is '{layout}'", help=f"choose one of {', '.join(LAYOUTS)}")
    if path is not None and path.suffix in (".nir", ".onnx") and not (input_shape is None or isinstance(input_shape, tuple)):
        raise fail("SNN006", f"the inputs of {path} and their shapes stand in the file", help="leave --input-shape out, or give one shape")
    if path is not None and path.suffix == ".nir":
        code = arch is not None or arch_args is not None or trust_pickle or layout not in (None, "step")
        return _nir(path, _Given(input_shape, steps, layout), nir_dialect, nir_set, code)
    if nir_dialect is not None or nir_set:
        raise fail("SNN168", f"--nir-dialect and --nir-set are for NIR files, not for {path or arch}", help="leave them out")
    if path is not None and path.suffix == ".onnx":
        return _onnx(path, _Given(input_shape, steps, layout), states, arch is not None or arch_args is not None or trust_pickle)
    if states:
        from snncompile.capture.onnx import refuse_states  # noqa: PLC0415

        raise refuse_states(str(path or arch))
    given = _Given(input_shape, steps, layout)
    if path is None:
        if arch is None:
            raise fail("SNN139", "there is nothing to load", help="name a checkpoint, or a factory: --arch package.module:factory")
        model = build(arch, arch_args)
        name = re.sub(r"\W+", "_", arch.rpartition(":")[2])
        facts: dict[str, Any] = {"kind": "factory", "arch": _without_folder(arch), "arch_args": arch_args or {}}
        return given.loaded(model, name, facts, None)
    raw = read_file(path)
    facts = {"file": path.name, "bytes": len(raw)}
    digest = hashlib.sha256(raw).hexdigest()
    content = unpickle(path, raw, trust_pickle)
    if is_checkpoint(content) and arch is None:
        checkpoint = checkpoint_from(content, str(path))
        expected = checkpoint.input
        facts |= {"kind": "training-kit checkpoint", "arch": checkpoint.arch, "arch_args": checkpoint.arch_args}
        training = {k: v for k, v in checkpoint.training.items() if k not in UNSTABLE_FACTS}
        facts |= {"method": checkpoint.method, "training": training}
        grid = 1.0 if str(expected.get("dtype", "")).startswith(("uint", "int", "bool")) else float(expected.get("grid", 0.0))
        known = (float(expected["low"]), float(expected["high"]), grid) if {"low", "high"} <= expected.keys() else None
        shape = input_shape or tuple(int(n) for n in expected.get("shape", ()))
        found = layout or cast("Layout", expected.get("layout", "step"))
        readout = cast("Readout", checkpoint.readout)
        return LoadedModel(checkpoint.build(), path.stem, shape, steps or checkpoint.steps, found, known, readout, facts, digest)
    if isinstance(content, nn.Module):
        return given.loaded(content, path.stem, facts | {"kind": "pickled module"}, digest)
    entry, state = state_dict_in(content, path)
    facts |= {"kind": "state dict", "arch": _without_folder(arch or ""), "arch_args": arch_args or {}, "tensors": len(state)} | (
        {"entry": entry} if entry else {}
    )
    if arch is None:
        shown = ", ".join(f"{k} {list(v.shape)}" for k, v in list(state.items())[:4])
        notes = [f"it has {shown}..."]
        raise fail("SNN138", f"{path} holds weights, but not how to build the network", notes=notes, help=_official(state) or WEIGHT_HINT)
    model = build(arch, arch_args)
    source = f"{path}{f' [{entry}]' if entry else ''}"
    if translated := translate(state, model):
        official, state = translated
        facts["keys"] = official.name
        source += f", renamed from the keys of {official.name},"
    fit(model, state, source, arch)
    return given.loaded(model, path.stem, facts, digest)


def _official(state: Mapping[str, Tensor]) -> str | None:
    """How to load a state dict of a repository whose keys are known."""
    found = suggestion(state)
    if found is None:
        return None
    layout, arguments = found
    shown = f" --arch-args '{json.dumps(arguments)}'" if arguments else ""
    return f"these are the keys of {layout.name}: add --arch {layout.arch}{shown} (and the mean and std that images were normalised with)"


@dataclass(frozen=True)
class _Given:
    """What the caller says about a model whose file says nothing."""

    shape: Any
    steps: int | None
    layout: Layout | None

    def loaded(self, model: nn.Module, name: str, facts: dict[str, Any], digest: str | None) -> LoadedModel:
        if self.shape and self.steps:
            return LoadedModel(model.eval(), name, self.shape, self.steps, self.layout or "step", None, "sum", facts, digest)
        missing = [] if self.shape else [("the shape of its input", "--input-shape 1,28,28")]
        missing += [] if self.steps else [("how many time steps to run", "--steps 6")]
        message = f"'{name}' does not say {' and '.join(what for what, _ in missing)}"
        notes = ["only checkpoints of the training kit carry that"]
        raise fail("SNN006", message, notes=notes, help=f"add {' '.join(option for _, option in missing)}")


def _onnx(path: Path, given: _Given, states: Sequence[str], code: bool) -> LoadedModel:
    from snncompile.capture.onnx import load_onnx, refuse_code, state_options  # noqa: PLC0415 - other files do without onnx

    if code:
        raise refuse_code(str(path))
    raw = read_file(path)
    loaded = load_onnx(path, states=state_options(states), input_shape=given.shape, layout=given.layout or "step", steps=given.steps)
    facts = {"file": path.name, "bytes": len(raw), **loaded.facts}
    complete = _Given(loaded.input_shape, given.steps or loaded.steps, given.layout)
    return complete.loaded(loaded.model, path.stem, facts, hashlib.sha256(raw).hexdigest())


def _nir(path: Path, given: _Given, dialect: str | None, settings: Sequence[str], code: bool) -> LoadedGraph:
    if code:
        message = f"{path} holds the whole network: --arch, --arch-args, --layout and --trust-pickle mean nothing for it"
        raise fail("SNN168", message, help="leave them out")
    raw = read_file(path)
    if given.steps is None:
        raise fail(
            "SNN006", f"'{path.stem}' does not say how many time steps to run", notes=["NIR has no such field"], help="add --steps 6"
        )
    found = import_nir(path, steps=given.steps, dialect=dialect, settings=settings)
    sources = found.graph.of(Input)
    if len(sources) != 1:
        message = f"{path} has {len(sources)} inputs: {', '.join(n.name for n in sources)}; the command line takes networks with one"
        raise fail("SNN168", message, help="compile it in Python: snncompile.compile_graph(snncompile.import_nir(...).graph, ...)")
    if given.shape is not None and given.shape != sources[0].size:
        message = f"--input-shape is {list(given.shape)}, the input of {path} has shape {list(sources[0].size)}"
        raise fail("SNN168", message, help="leave --input-shape out")
    n = sources[0]
    known = None if n.low is None or n.high is None else (n.low, n.high, n.grid)
    facts = {"file": path.name, "bytes": len(raw), **found.facts, "nir_set": list(settings)}
    return LoadedGraph(found, path.stem, n.size, given.steps, known, facts=facts, source_sha256=hashlib.sha256(raw).hexdigest())


def _without_folder(arch: str) -> str:
    """``folder/net.py:make`` as ``net.py:make``: bundles hold no paths of the machine that made them."""
    return arch.replace("\\", "/").rpartition("/")[2]


__all__ = ["LoadedGraph", "LoadedModel", "load_model"]

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

import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import json
import pickle
import re
import sys
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from snncompile.capture.driver import LAYOUTS, Layout
from snncompile.capture.nir import Imported, import_nir
from snncompile.errors import CompileError, Location, fail
from snncompile.files import check_file
from snncompile.ir.linear_ops import Input
from snncompile.online import build_network, is_checkpoint, list_networks
from snncompile.online.checkpoint import checkpoint_from
from snncompile.online.official import suggestion, translate

Readout = Literal["sum", "mean", "last"]
ENTRIES = ("best_net", "best_model", "best_state_dict", "state_dict", "model_state_dict", "net", "model", "network", "params", "weights")
UNSTABLE_FACTS = ("history", "seconds", "command")
PREFIXES = ("module.", "_orig_mod.")
SHOWN = 8
SAVE_HINT = "save the network with torch.save(model.state_dict(), ...)"
JSON_HINT = """write it like --arch-args '{"width": 8}'"""
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
    input_shape: tuple[int, ...]
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
    input_shape: tuple[int, ...]
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
    input_shape: tuple[int, ...] | None = None,
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
    if path is not None and path.suffix == ".nir":
        code = arch is not None or arch_args is not None or trust_pickle or layout not in (None, "step")
        return _nir(path, _Given(input_shape, steps, layout), nir_dialect, nir_set, code)
    if nir_dialect is not None or nir_set:
        raise fail("SNN168", f"--nir-dialect and --nir-set are for NIR files, not for {path or arch}", help="leave them out")
    if path is not None and path.suffix == ".onnx":
        return _onnx(path, _Given(input_shape, steps, layout), states, arch is not None or arch_args is not None or trust_pickle)
    if states:
        raise fail("SNN175", f"--state is for ONNX files, not for {path or arch}", help="leave it out")
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
    content = _unpickle(path, raw, trust_pickle)
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

    shape: tuple[int, ...] | None
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
    from snncompile.capture.onnx import load_onnx, state_options  # noqa: PLC0415 - other files do without onnx

    if code:
        message = f"{path} holds the whole network: --arch, --arch-args and --trust-pickle mean nothing for it"
        raise fail("SNN175", message, help="leave them out")
    raw = read_file(path)
    loaded = load_onnx(path, states=state_options(states), input_shape=given.shape, layout=given.layout or "step")
    if loaded.steps and given.steps and loaded.steps != given.steps:
        raise fail("SNN171", f"--steps is {given.steps}, {path} takes {loaded.steps} steps at once", help="leave --steps out")
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


# ---------------------------------------------------------------- files


def read_file(path: Path) -> bytes:
    """All bytes of a file that must exist (SNN001, SNN002, SNN003)."""
    check_file(path)
    try:
        return path.read_bytes()
    except OSError as e:
        raise fail("SNN003", f"cannot read {path}: {e.strerror}") from e


def _unpickle(path: Path, raw: bytes, trust_pickle: bool) -> object:
    """The object in a PyTorch file; only tensors and plain values unless ``trust_pickle``."""
    if reason := _no_checkpoint(path, raw):
        raise fail("SNN004", f"{path} is not a PyTorch checkpoint: {reason[0]}", help=reason[1])
    try:
        with _importable(Path.cwd()), _quiet():
            return torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    except Exception as e:
        text = str(e)
        if not trust_pickle and isinstance(e, pickle.UnpicklingError) and (match := re.search(r"GLOBAL:? `?(\w+\.[\w.]+)", text)):
            raise fail(
                "SNN005",
                f"{path} holds a pickled object ('{match[1]}'), and loading it would run code from the file",
                notes=["a pickle can do anything that you can do; plain tensors cannot"],
                help="save the state dict instead: torch.save(model.state_dict(), ...) and give --arch package.module:factory; "
                "or add --trust-pickle if you trust whoever made this file",
            ) from e
        if trust_pickle and isinstance(e, (ImportError, AttributeError)):
            way_out = "run from the folder that holds the network's source, or install it"
            raise fail("SNN131", f"unpickling {path} failed: {_first_line(e)}", loc=_blame(e), help=way_out) from e
        if not raw.startswith(b"PK"):
            message = f"{path} is not a PyTorch checkpoint: it is damaged, or a pickle that torch.save did not write"
            raise fail("SNN004", message, help=SAVE_HINT) from e
        cause = re.search(r"WeightsUnpickler error: (.*)", text)
        notes = [cause[1] if cause else _first_line(e)]
        raise fail("SNN004", f"{path} is not a PyTorch checkpoint: it is truncated or damaged", notes=notes) from e


def _no_checkpoint(path: Path, raw: bytes) -> tuple[str, str | None] | None:
    """Why the bytes cannot be a PyTorch file, and what to do; None if they may be one."""
    if not raw:
        return "it is empty", "copy or save it again"
    if raw.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, OSError):
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


# ---------------------------------------------------------------- state dicts


def state_dict_in(content: object, path: Path) -> tuple[str, dict[str, Tensor]]:
    """Weights by name, prefixes stripped, and the entry of a nested checkpoint that they came from (empty if none)."""
    if not isinstance(content, Mapping):
        raise fail("SNN137", f"{path} holds no weights but {_kind(content)}", help=SAVE_HINT)
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
    if notes:
        count = f"{len(missing)} missing, {len(extra)} unexpected, {len(shapes)} of another shape"
        way_out = "check --arch and --arch-args against the network that was trained"
        raise fail("SNN136", f"the weights in {source} do not fit '{arch}': {count}", notes=notes, help=way_out)
    model.load_state_dict(dict(state))


def _listed(label: str, rows: list[str]) -> list[str]:
    more = [f"{label}: ... and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    return [f"{label}: {row}" for row in rows[:SHOWN]] + more


def _near(name: str, others: list[str]) -> str:
    near = difflib.get_close_matches(name, others, n=1, cutoff=0.7)
    return f" (like {near[0]}?)" if near else ""


# ---------------------------------------------------------------- factories


def parse_arch_args(text: str | None) -> dict[str, Any] | None:
    """Keyword arguments from JSON (SNN008)."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as e:
        pointer = f"{text.splitlines()[e.lineno - 1] if text else ''} <- column {e.colno}: {e.msg}"
        raise fail("SNN008", "--arch-args is not JSON", notes=[pointer], help=JSON_HINT) from e
    if not isinstance(value, dict):
        raise fail("SNN008", f"--arch-args is a JSON {type(value).__name__}, not an object", help=JSON_HINT)
    return value


def build(arch: str, arch_args: dict[str, Any] | None = None) -> nn.Module:
    """The module of ``package.module:factory``, ``path/to/file.py:factory`` or a registered name; random weights are seeded."""
    kwargs = arch_args or {}
    module_name, colon, attribute = arch.rpartition(":")
    if not colon and arch in list_networks():
        return build_network(arch, **kwargs)
    if not colon or not module_name or not attribute:
        notes = [f"networks of the training kit: {', '.join(list_networks())}"]
        way_out = "write --arch package.module:factory or --arch path/to/file.py:factory"
        raise fail("SNN130", f"--arch is '{arch}'", notes=notes, help=way_out)
    beside = Path(module_name).parent.absolute() if module_name.endswith(".py") else None
    with _importable(Path.cwd(), beside):
        factory = _attribute(_import(module_name), attribute, arch)
        if isinstance(factory, nn.Module) and not kwargs:
            return factory
        if not callable(factory) or isinstance(factory, nn.Module):
            built = isinstance(factory, nn.Module)
            what = "a module already, and takes no --arch-args" if built else f"{_kind(factory)}, not callable"
            raise fail("SNN133", f"'{arch}' is {what}", help="name a function or class that returns the network")
        model = _call(factory, kwargs, arch)
    if not isinstance(model, nn.Module):
        message = f"'{arch}' returned {_kind(model)}, not a torch.nn.Module"
        raise fail("SNN135", message, loc=_defined(factory), help="return the network itself")
    return model


def _import(name: str) -> ModuleType:
    try:
        if name.endswith(".py"):
            return _import_file(Path(name))
        return importlib.import_module(name)
    except CompileError:
        raise
    except ModuleNotFoundError as e:
        if e.name and (name == e.name or name.startswith(e.name + ".")):
            notes = [f"looked in {Path.cwd()} and in this Python's packages"]
            way_out = "run from the folder that holds it, or give the file: --arch path/to/file.py:factory"
            raise fail("SNN131", f"cannot import '{name}': there is no module '{e.name}'", notes=notes, help=way_out) from e
        way_out = f"install it in this environment, for example: uv run --with {str(e.name).partition('.')[0]} snncompile ..."
        raise fail("SNN131", f"importing '{name}' failed: {_first_line(e)}", loc=_blame(e), help=way_out) from e
    except (Exception, SystemExit) as e:
        raise fail("SNN131", f"importing '{name}' failed: {type(e).__name__}: {_first_line(e)}", loc=_blame(e)) from e


def _import_file(path: Path) -> ModuleType:
    check_file(path)
    digest = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:8]
    name = f"_snncompile_user_{re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path.absolute())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _attribute(module: ModuleType, attribute: str, arch: str) -> object:
    value: object = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            names = [n for n in vars(value) if not n.startswith("_") and callable(getattr(value, n, None))]
            near = difflib.get_close_matches(part, names, n=3, cutoff=0.5)
            way_out = f"did you mean {' or '.join(near)}?" if near else None
            own = [n for n in names if getattr(getattr(value, n), "__module__", None) == module.__name__]
            notes = [f"it defines {', '.join(own[:SHOWN])}"] if own else []
            raise fail("SNN132", f"'{arch.rpartition(':')[0]}' has no '{part}'", notes=notes, help=way_out)
        value = getattr(value, part)
    return value


def _call(factory: Callable[..., object], kwargs: dict[str, Any], arch: str) -> object:
    try:
        signature = inspect.signature(factory)
        signature.bind(**kwargs)
    except ValueError:
        pass  # a builtin without a signature
    except TypeError as e:
        given = f"--arch-args {json.dumps(kwargs)}" if kwargs else "no --arch-args"
        notes = [f"its arguments are {signature}"]
        raise fail("SNN134", f"'{arch}' cannot be called with {given}: {e}", loc=_defined(factory), notes=notes) from e
    torch.manual_seed(0)
    try:
        return factory(**kwargs)
    except CompileError:
        raise
    except (Exception, SystemExit) as e:
        raise fail("SNN134", f"'{arch}' failed: {type(e).__name__}: {_first_line(e)}", loc=_blame(e) or _defined(factory)) from e


# ---------------------------------------------------------------- small things


@contextlib.contextmanager
def _importable(*folders: Path | None) -> Iterator[None]:
    """Folders at the front of the import path while the user's code is imported and called."""
    before = list(sys.path)
    sys.path[:0] = [str(f) for f in folders if f is not None]
    try:
        yield
    finally:
        sys.path[:] = before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of torch.load about the file's age: it is checked and explained here."""
    import warnings  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _blame(error: BaseException) -> Location | None:
    """The innermost line of the user's own code that an exception passed through."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return Location(_shown(error.filename), error.lineno)
    ours = (str(Path(__file__).parents[1]), "<", sys.prefix, sys.base_prefix)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(ours) and "site-packages" not in f.filename]
    if not frames:
        return None
    last = frames[-1]
    return Location(_shown(last.filename), last.lineno or 0, "" if last.name == "<module>" else last.name)


def _defined(thing: object) -> Location | None:
    with contextlib.suppress(TypeError, OSError):
        file, (_, line) = inspect.getsourcefile(cast("Any", thing)), inspect.getsourcelines(cast("Any", thing))
        return Location(_shown(file), max(line, 1)) if file else None
    return None


def _without_folder(arch: str) -> str:
    """``folder/net.py:make`` as ``net.py:make``: bundles hold no paths of the machine that made them."""
    return arch.replace("\\", "/").rpartition("/")[2]


def _shown(file: str) -> str:
    """A path relative to the working folder where it lies inside."""
    with contextlib.suppress(ValueError, OSError):
        return str(Path(file).resolve().relative_to(Path.cwd()))
    return file


def _kind(value: object) -> str:
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


__all__ = ["LoadedModel", "Readout", "build", "check_file", "fit", "load_model", "parse_arch_args", "read_file", "state_dict_in"]

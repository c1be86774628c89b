"""Networks from the user's own code: ``package.module:factory`` or ``path/to/file.py:factory`` with JSON arguments."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from snncompile.capture.user_code import blame, defined, first_line, importable, kind_of
from snncompile.errors import CompileError, fail
from snncompile.files import check_file
from snncompile.online import build_network, list_networks

SHOWN = 8
JSON_HINT = """write it like --arch-args '{"width": 8}'"""


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
    with importable(Path.cwd(), beside):
        factory = _attribute(_import(module_name), attribute, arch)
        if isinstance(factory, nn.Module) and not kwargs:
            return factory
        if not callable(factory) or isinstance(factory, nn.Module):
            built = isinstance(factory, nn.Module)
            what = "a module already, and takes no --arch-args" if built else f"{kind_of(factory)}, not callable"
            raise fail("SNN133", f"'{arch}' is {what}", help="name a function or class that returns the network")
        model = _call(factory, kwargs, arch)
    if not isinstance(model, nn.Module):
        message = f"'{arch}' returned {kind_of(model)}, not a torch.nn.Module"
        raise fail("SNN135", message, loc=defined(factory), help="return the network itself")
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
        raise fail("SNN131", f"importing '{name}' failed: {first_line(e)}", loc=blame(e), help=way_out) from e
    except (Exception, SystemExit) as e:
        raise fail("SNN131", f"importing '{name}' failed: {type(e).__name__}: {first_line(e)}", loc=blame(e)) from e


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
        raise fail("SNN134", f"'{arch}' cannot be called with {given}: {e}", loc=defined(factory), notes=notes) from e
    torch.manual_seed(0)
    try:
        return factory(**kwargs)
    except CompileError:
        raise
    except (Exception, SystemExit) as e:
        raise fail("SNN134", f"'{arch}' failed: {type(e).__name__}: {first_line(e)}", loc=blame(e) or defined(factory)) from e


__all__ = ["build", "parse_arch_args"]
